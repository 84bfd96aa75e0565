"""What is decided about, and what was decided."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from stigmer_contract.manifest_approval import ApprovalPolicy, ApprovalRule

FILES: Final = "files"
"""The toolset whose tools take a path."""


@dataclass(frozen=True)
class ApprovalCall:
    """A tool call that is about to be executed."""

    toolset: str
    """Id of the toolset: of a built-in one its name, of an MCP server that server's name."""
    tool: str
    """As the toolset calls it."""
    arguments: Mapping[str, Any]
    destructive: bool = True
    """Whether the tool may destroy something, as far as is known."""
    built_in: bool = True
    """Whether the toolset is one of the program's own. Only of those a rule without `/` allows anything."""
    paths: tuple[str, ...] | None = None
    """Of a call that opens a file: its path relative to the workspace, as it is written and where links lead.
    None: nobody has looked."""


@dataclass(frozen=True)
class Decision:
    """What becomes of a call."""

    policy: ApprovalPolicy
    rule: ApprovalRule | None
    """The rule that says so; None: no rule of the agent does."""
    reason: str
    """For people, in a few words."""
    rule_path: str | None = None
    """Where the rule stands: `spec.approval[0]`."""
    is_granted: bool = False
    """Whether it is allowed because a person has approved calls of its kind."""
    kind: ApprovalRule | None = None
    """Of a call that is asked about: the rule that would approve calls like it, to be shown first;
    None: none is narrow enough."""
