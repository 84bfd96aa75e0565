"""Whether a tool call runs, is refused, or waits for a person: the agent's rules, and what they say of it.

Decides and does nothing else: who is asked, and what becomes of the answer, is the journal's matter.
"""

from agent_runner.approval.calls import ApprovalCall, Decision
from agent_runner.approval.deciding import decide
from agent_runner.approval.kinds import rule_for_kind
from agent_runner.approval.rules import ApprovalRules, rules_for

__all__ = ["ApprovalCall", "ApprovalRules", "Decision", "decide", "rule_for_kind", "rules_for"]
