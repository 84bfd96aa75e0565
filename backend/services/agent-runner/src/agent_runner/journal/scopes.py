"""Which agent of an execution a step belongs to, and what is counted for each agent by itself."""

from collections import Counter
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pydantic import JsonValue

from agent_runner.journal.asked_before import AskedBefore
from agent_runner.journal.bodies import AskedCall, calls_in, is_cut_off
from agent_runner.journal.context_size import ContextSize
from agent_runner.journal.fingerprints import RequestChain
from agent_runner.journal.kinds import (
    COMPACT,
    INPUT,
    MESSAGE,
    MODEL,
    PUT_DOWN,
    SAMPLED,
    TOOL,
    StepKey,
    call_key,
)
from agent_runner.masking import Masker
from stigmer_contract.api import Resumption
from stigmer_contract.conversation import ToolOutcome

_RATIO: Final = "tokens_per_kilobyte"
_WINDOW: Final = "window"
_FUTILE: Final = "futile"
_IN_TURNS: Final = frozenset({MODEL, TOOL, INPUT, COMPACT, MESSAGE, PUT_DOWN, SAMPLED})


@dataclass
class AgentScope:
    """One run of one agent. What it counts, a later leg counts alike."""

    path: str
    """Empty for the execution's own agent, else call and name of each agent on the way."""
    chain: RequestChain
    turns_before: int = 0
    """Turns that the run does not know of, because it went on from a stored history."""
    turn: int = 0
    """The agent's requests so far, those of one turn as one."""
    is_uncertain: bool = False
    """Whether nobody knows what an earlier call of this turn did."""
    calls: dict[str, AskedCall] = field(default_factory=dict[str, AskedCall])
    """Of the last answer, by call id."""
    cut_off: set[str] = field(default_factory=set[str])
    """Of those the ones whose arguments were cut off with the answer."""
    executed: set[str] = field(default_factory=set[str])
    """Of those the ones that came to be executed, or whose execution was looked up."""
    changed: set[str] = field(default_factory=set[str])
    """In what recorded requests differed from how this version asks, messages apart."""
    before: AskedBefore = field(default_factory=AskedBefore)
    """What it was asked, where its run no longer holds it."""
    size: ContextSize = field(default_factory=ContextSize)
    """How large its requests are."""
    learned_window: int | None = None
    """The tokens that its model takes at most, where a refusal has shown that."""
    futile_below: int = 0
    """Requests of fewer tokens are not compacted: one as large could not be made smaller."""
    is_compacted: bool = False
    """Whether messages were replaced since they were stored last."""
    _counts: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    _in_turns: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    """Those in whose keys the turn stands; no later leg needs them."""
    _agents: Counter[str] = field(default_factory=Counter[str])

    def counters(self) -> dict[str, int]:
        """What is counted over turns, for a leg that goes on behind this one."""
        known = {_RATIO: self.size.tokens_per_kilobyte}
        if self.learned_window is not None:
            known[_WINDOW] = self.learned_window
        if self.futile_below:
            known[_FUTILE] = self.futile_below
        return known | {f"{kind} {key}": n for (kind, key), n in self._counts.items()}

    def resume(self, turn: int, counters: Mapping[str, int | str]) -> None:
        """Count on from where another leg stood after a turn."""
        self.turns_before = self.turn = turn
        ratio, window = counters.get(_RATIO), counters.get(_WINDOW)
        self.size = ContextSize(ratio if isinstance(ratio, int) else None)
        self.learned_window = window if isinstance(window, int) else None
        futile = counters.get(_FUTILE)
        self.futile_below = futile if isinstance(futile, int) else 0
        for name, n in counters.items():
            kind, separator, key = name.partition(" ")
            if separator and kind != "agent" and isinstance(n, int):
                self._counts_of(kind)[kind, key] = n

    def _counts_of(self, kind: str) -> Counter[tuple[str, str]]:
        return self._in_turns if kind in _IN_TURNS else self._counts

    def compactions(self, turn: str) -> int:
        """How often the conversation was compacted for that turn."""
        return self._counts_of(COMPACT)[COMPACT, turn]

    def begins_turn(self, run_step: int) -> StepKey | None:
        """The key of the turn's first request; None where it is asked again in the same turn."""
        turn = self.turns_before + run_step
        return None if turn == self.turn else StepKey(self.path, MODEL, str(turn), 1)

    def begin_request(self, run_step: int) -> StepKey:
        """The key of the next request of a turn."""
        turn = self.turns_before + run_step
        if turn != self.turn:
            self.turn = turn
            self.is_uncertain = False
        return self.next_key(MODEL, str(turn))

    def take_answer(self, answer: JsonValue) -> None:
        """Note what the answer asks for."""
        self.calls = {call.call_id: call for call in calls_in(answer)}
        self.cut_off = {call.call_id for call in self.calls.values() if is_cut_off(answer, call)}
        self.executed = set()

    def next_key(self, kind: str, key: str) -> StepKey:
        """The key of the next step of that kind and key."""
        counts = self._counts_of(kind)
        counts[kind, key] += 1
        return StepKey(self.path, kind, key, counts[kind, key])

    def coming_key(self, kind: str, key: str) -> StepKey:
        """What `next_key` would give; counts nothing."""
        return StepKey(self.path, kind, key, self._counts_of(kind)[kind, key] + 1)

    def call_key(self, call_id: str) -> StepKey:
        """The key of a call of this turn that was not executed."""
        return StepKey(self.path, TOOL, call_key(self.turn, call_id), 1)

    def path_of_agent(self, call_id: str, name: str) -> str:
        """The path of the next agent of that name which a call of this turn runs."""
        path = f"{self.path}/{self.turn}.{call_id}:{name}"
        self._agents[path] += 1
        return path if self._agents[path] == 1 else f"{path}#{self._agents[path]}"


class RunningCall(NamedTuple):
    """The tool call that the present task works at."""

    scope: AgentScope
    call_id: str
    is_step: bool
    """Whether it is a step in hand itself; one that runs agents is not, its inner steps are."""
    outcomes: list[ToolOutcome]
    """Of inputs that it asked for, where they and not its result say how the call ended."""


running_call: ContextVar[RunningCall | None] = ContextVar("running_call", default=None)


class AgentScopes:
    """The runs of agents of one leg."""

    def __init__(self, masker: Masker) -> None:
        self.resumption: Resumption | None = None
        """Where the execution's own agent goes on from; None: from its beginning."""
        self._masker = masker
        self._by_run: dict[str, AgentScope] = {}
        self._others: Counter[str] = Counter()

    def of(self, run_id: str | None, agent_name: str) -> AgentScope:
        """The scope of a run, made when the run is first heard of; without an id that of the execution."""
        own = self.of_execution
        if run_id is None and own is not None:
            return own
        scope = self._by_run.get(run_id or "")
        if scope is None:
            scope = AgentScope(self._path_of(agent_name), RequestChain(self._masker))
            self._by_run[run_id or ""] = scope
            if not scope.path and self.resumption is not None:
                self._resume(scope, self.resumption)
        return scope

    @property
    def of_execution(self) -> AgentScope | None:
        """That of the execution's own agent; None before its run."""
        return next(iter(self._by_run.values()), None)

    def counters(self, scope: AgentScope) -> dict[str, int | str]:
        """What a leg needs that goes on with the execution's own agent, before its next request."""
        others = {f"agent {name}": n for name, n in self._others.items()}
        return {"conversation": scope.chain.conversation, **scope.counters(), **others}

    def _resume(self, scope: AgentScope, resumption: Resumption) -> None:
        counters = resumption.counters
        scope.resume(resumption.turn, counters)
        asked_before = counters.get("asked")
        scope.chain.resume(
            str(counters.get("conversation", "")), asked_before if isinstance(asked_before, int) else None
        )
        for name, n in counters.items():
            if name.startswith("agent ") and isinstance(n, int):
                self._others[name.removeprefix("agent ")] = n

    def _path_of(self, agent_name: str) -> str:
        call = running_call.get()
        if call is not None:
            return call.scope.path_of_agent(call.call_id, agent_name)
        if not self._by_run:
            return ""
        self._others[agent_name] += 1
        return f"/{agent_name}#{self._others[agent_name]}"
