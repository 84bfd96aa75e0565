"""The agent's approval rules, and what they say of a call. The first rule that matches decides.

Of that, of the execution's own setting and of its token's the strictest holds: nothing but another agent
loosens a rule.
"""

import functools
import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, cast

from agent_runner.approval.calls import FILES, ApprovalCall, Decision
from agent_runner.approval.kinds import rule_for_kind
from agent_runner.approval.patterns import matches
from agent_runner.approval.shell_rules import find_reason, is_all
from agent_runner.toolsets import COMMAND_TOOL
from agent_runner.toolsets.globs import InvalidGlob, compile_glob
from stigmer_contract.manifest_approval import ApprovalPolicy, ApprovalRule, strictest

MAX_TEXTS: Final = 1000
"""Most texts of a call's arguments that a rule looks at."""
_LOOKS_BELOW: Final = frozenset({"search_files"})
"""Tools that open whatever lies below the path that they are given."""


class ApprovalRules:
    """The rules of one execution."""

    def __init__(
        self,
        rules: Sequence[ApprovalRule],
        least: ApprovalPolicy | None = None,
        granted: Sequence[ApprovalRule] = (),
    ) -> None:
        """`least` is what `--approve` and the token say; `granted`, the kinds that a person has approved."""
        self._rules = tuple(rules)
        self._least: ApprovalPolicy | None = least
        self._granted = tuple(granted)

    @property
    def decides_all(self) -> bool:
        """Whether every call is allowed without a look at it."""
        return not self._rules and strictest(self._least) == "allow"

    def looks_at(self, call: ApprovalCall) -> bool:
        """Whether more than the tool's name may count: what a call opens has to be known then."""
        named = any(_names_tool(rule, call) for rule in (*self._rules, *self._granted))
        return named or strictest(self._least) != "allow"

    def decide(self, call: ApprovalCall) -> Decision:
        """What becomes of a call. May take tenths of a second for a long command."""
        decision = self._by_rules(call)
        policy = strictest(decision.policy, self._least)
        if policy != decision.policy:
            decision = Decision(policy, None, f"this execution was started with the policy {policy!r}")
        if decision.policy == "ask":
            for granted in self._granted:
                if _find_match(granted, call) is not None:
                    reason = "a person has approved calls of this kind"
                    return Decision("allow", granted, reason, is_granted=True)
            return replace(decision, kind=rule_for_kind(call))
        return decision

    def _by_rules(self, call: ApprovalCall) -> Decision:
        for place, rule in enumerate(self._rules):
            reason = _find_match(rule, call)
            if reason is not None:
                path = f"spec.approval[{place}]"
                return Decision(rule.policy, rule, f"{_described(rule)} ({path}): {reason}", path)
        return Decision("allow", None, "no rule matches")


def rules_for(rules: Sequence[ApprovalRule], call: ApprovalCall) -> list[str]:
    """The rules that calls of a tool are held against, in order and in words; `call` has no arguments."""
    found = list[str]()
    for rule in rules:
        if not _names_tool(rule, call) or rule.destructive not in (None, call.destructive):
            continue
        found.append(f"{rule.policy} when {rule.when}" if rule.when else rule.policy)
        if rule.when is None:
            break
    return found


def _described(rule: ApprovalRule) -> str:
    return f"{rule.tool}: {rule.when}" if rule.when else rule.tool


def _find_match(rule: ApprovalRule, call: ApprovalCall) -> str | None:
    """Why the rule holds for the call; None: it does not."""
    if not _names_tool(rule, call):
        return None
    if rule.destructive is not None and rule.destructive is not call.destructive:
        return None
    if rule.when is None:
        return "every call" if rule.destructive is None else "the tool may destroy something"
    allows = rule.policy == "allow"
    if call.built_in and call.tool == COMMAND_TOOL:
        command = call.arguments.get("command")
        if not isinstance(command, str):
            return None if allows else "the command is no text"
        if allows:
            return "all of the line matches" if is_all(rule.when, command) else None
        return find_reason(rule.when, command)
    if call.built_in and call.toolset == FILES:
        return _find_path_match(rule, call)
    return _find_text_match(rule.when, call.arguments, allows=allows)


def _names_tool(rule: ApprovalRule, call: ApprovalCall) -> bool:
    whole = f"{call.toolset}/{call.tool}"
    if "/" in rule.tool:
        return matches(rule.tool, whole)
    if rule.policy == "allow" and not call.built_in:
        # A server may call its tools what it likes.
        return rule.tool == "*"
    return any(matches(rule.tool, name) for name in (call.toolset, call.tool, whole))


# --- files ------------------------------------------------------------------------------------


def _find_path_match(rule: ApprovalRule, call: ApprovalCall) -> str | None:
    allows = rule.policy == "allow"
    written = call.arguments.get("path", ".")
    if not isinstance(written, str):
        return None if allows else "the path is no text"
    paths = call.paths or (written.removeprefix("./"),)
    glob = _glob(rule.when or "", fold=not allows)
    if glob is None:
        return None if allows else "the rule's pattern cannot be read"
    below = call.tool in _LOOKS_BELOW
    if allows:
        wanted = [f"{path}/x/x" if below else path for path in paths]
        return "the path matches" if all(glob(_normal(path)) for path in wanted) else None
    for path in paths:
        if glob(_normal(path).casefold()):
            return f"it opens {path!r}"
        if below and _could_lie_below(rule.when or "", path):
            return f"it opens what lies below {path!r}"
    return None


@functools.lru_cache(maxsize=256)
def _glob(when: str, *, fold: bool) -> Any:
    try:
        pattern = _normal(when)
        return compile_glob(pattern.casefold() if fold else pattern)
    except InvalidGlob:
        return None


def _could_lie_below(pattern: str, path: str) -> bool:
    """Whether something that the pattern matches may lie below the directory."""
    if pattern.startswith("!"):
        return True
    body = _normal(pattern.removeprefix("./")).casefold()
    if "/" not in body.rstrip("/"):
        return True
    fixed = list[str]()
    for part in body.strip("/").split("/"):
        if any(character in part for character in "*?[{\\"):
            break
        fixed.append(part)
    start = [part for part in _normal(path).casefold().split("/") if part not in ("", ".")]
    common = min(len(fixed), len(start))
    return fixed[:common] == start[:common]


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text)


# --- other tools ------------------------------------------------------------------------------


def _find_text_match(when: str, arguments: Mapping[str, Any], *, allows: bool) -> str | None:
    texts = list[str]()
    for text in _texts(arguments):
        texts.append(text)
        if len(texts) > MAX_TEXTS:
            return None if allows else "the call has too many arguments to look at"
    if allows:
        return "all texts match" if texts and all(matches(when, text) for text in texts) else None
    found = next((text for text in texts if matches(when.casefold(), text.casefold())), None)
    return None if found is None else f"an argument is {found[:60]!r}"


def _texts(value: object) -> Iterator[str]:
    """The texts and numbers in a call's arguments, in order."""
    pending: list[object] = [value]
    while pending:
        found = pending.pop()
        if isinstance(found, str):
            yield found
        elif isinstance(found, Mapping):
            pending.extend(reversed(list(cast("Mapping[str, object]", found).values())))
        elif isinstance(found, list | tuple):
            pending.extend(reversed(cast("Sequence[object]", found)))
        elif found is not None:
            yield json.dumps(found)
