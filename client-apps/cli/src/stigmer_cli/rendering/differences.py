"""Two executions side by side: where they part, and what became of each."""

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Literal, NamedTuple

from pydantic import JsonValue

from stigmer_cli.output import sanitize
from stigmer_cli.rendering.execution_table import describe_phase
from stigmer_cli.rendering.quantities import format_seconds, format_usage
from stigmer_cli.rendering.snapshots import shown
from stigmer_contract.api import ExecutionResource
from stigmer_contract.errors import SnapshotDamaged
from stigmer_contract.snapshots import Chain, DirectoryEntry, Entry, FileEntry, LinkEntry, provide, read_file

MAX_STEPS: Final = 40
"""Of each side, as text shows them."""
MAX_STEP_CHARACTERS: Final = 300
MAX_TEXT_BYTES: Final = 256 << 10
"""Of a file that is compared line by line."""
MAX_DIFF_LINES: Final = 200
"""Of one file."""

LoadBlob = Callable[[str], bytes]
Mask = Callable[[str], str]
"""Takes secrets out of a text: before it is cut, for a part of one is not known as one."""


class ComparedStep(NamedTuple):
    """A step, as far as it is compared."""

    number: int
    kind: Literal["answer", "call"]
    what: str
    """What was said, and called; the call."""
    result: str
    """How a call ended, and what it gave."""


class Compared(NamedTuple):
    """One of both."""

    execution: ExecutionResource
    steps: list[ComparedStep]
    files: Chain | str
    """At its end; a text: why they are not known."""


class ChangedFile(NamedTuple):
    """A path that is otherwise in both."""

    path: str
    change: Literal["only in A", "only in B", "differs"]
    diff: str | None
    """Unified, where both are texts."""


def first_difference(one: Compared, other: Compared) -> int | None:
    """The place of the first step that differs; None: there is none."""
    for place, (a, b) in enumerate(zip(one.steps, other.steps, strict=False)):
        if a[1:] != b[1:]:
            return place
    shorter, longer = sorted((len(one.steps), len(other.steps)))
    return None if shorter == longer else shorter


def format_differences(one: Compared, other: Compared, load: LoadBlob, mask: Mask) -> str:
    """The comparison for a person."""
    lines = [_heading("A", one), _heading("B", other), ""]
    place = first_difference(one, other)
    one, other = (side._replace(steps=_masked(side.steps, mask)) for side in (one, other))
    if place is None:
        lines.append(f"all {len(one.steps)} steps are the same")
    else:
        lines.append(f"the first {place} steps are the same" if place else "no step is the same")
        for name, side in (("A", one), ("B", other)):
            lines += ["", f"{name} from there:", *_format_steps(side.steps[place:])]
    lines += ["", *_format_files(one, other, load, mask)]
    return sanitize("\n".join(lines))


def differences_json(one: Compared, other: Compared, load: LoadBlob, mask: Mask) -> dict[str, JsonValue]:
    """The comparison for a program."""
    place = first_difference(one, other)
    one, other = (side._replace(steps=_masked(side.steps, mask)) for side in (one, other))
    shared = len(one.steps) if place is None else place
    files: JsonValue = None
    if isinstance(one.files, Chain) and isinstance(other.files, Chain):
        changed = compare_files(one.files.entries, other.files.entries, load, mask)
        files = [
            {"path": mask(shown(each.path)), "change": each.change, "diff": each.diff} for each in changed
        ]
    return {
        "same_steps": shared,
        "first_difference": None if place is None else place + 1,
        "a": _side_json(one, shared),
        "b": _side_json(other, shared),
        "files": files,
    }


def compare_files(
    one: Mapping[str, Entry], other: Mapping[str, Entry], load: LoadBlob | None, mask: Mask = str
) -> list[ChangedFile]:
    """Paths that are otherwise in both, sorted; times do not count. Without `load`, no contents."""
    changed = list[ChangedFile]()
    for path in sorted(one.keys() | other.keys()):
        a, b = one.get(path), other.get(path)
        if a is None or b is None:
            changed.append(ChangedFile(path, "only in B" if a is None else "only in A", None))
        elif _identity(a) != _identity(b):
            unified = None if load is None else _unified(path, a, b, load, mask)
            changed.append(ChangedFile(path, "differs", unified))
    return changed


def count_changed_paths(one: Chain, other: Chain) -> int:
    """How many paths are otherwise in both; the workspace itself may have another mode."""
    return len([each for each in compare_files(one.entries, other.entries, None) if each.path])


def _identity(entry: Entry) -> tuple[object, ...]:
    match entry:
        case FileEntry():
            return ("file", entry.mode, entry.sha256)
        case DirectoryEntry():
            return ("directory", entry.mode)
        case LinkEntry():
            return ("link", entry.target)


def _unified(path: str, one: Entry, other: Entry, load: LoadBlob, mask: Mask) -> str | None:
    texts = [_text(entry, load) for entry in (one, other)]
    if texts[0] is None or texts[1] is None or texts[0] == texts[1]:
        return None
    masked = [mask(text) for text in (texts[0], texts[1])]
    if masked[0] == masked[1]:
        return "they differ in what is masked as a secret alone"
    name = mask(shown(path))
    lines = difflib.unified_diff(
        masked[0].splitlines(), masked[1].splitlines(), f"A/{name}", f"B/{name}", lineterm=""
    )
    kept = [line for _, line in zip(range(MAX_DIFF_LINES), lines, strict=False)]
    return "\n".join(kept + (["…"] if len(kept) == MAX_DIFF_LINES else []))


def _text(entry: Entry, load: LoadBlob) -> str | None:
    if not isinstance(entry, FileEntry) or entry.size > MAX_TEXT_BYTES:
        return None
    try:
        content = provide(read_file(entry), load)
        return None if b"\0" in content else content.decode("utf-8")
    except (SnapshotDamaged, UnicodeDecodeError):
        return None


def _heading(name: str, side: Compared) -> str:
    execution = side.execution
    facts = [describe_phase(execution), format_usage(execution.usage)]
    if execution.ended_at is not None:
        facts.append(format_seconds((execution.ended_at - execution.created_at).total_seconds()))
    return f"{name}  {execution.execution_id}  {execution.model or 'default'}  {' · '.join(facts)}"


def format_step(step: ComparedStep | None) -> str:
    """One step in a line; None: there is none."""
    if step is None:
        return "nothing more"
    text = step.what if step.kind == "answer" else f"{step.what}: {step.result}"
    text = " ".join(text.split())
    return sanitize(text if len(text) <= MAX_STEP_CHARACTERS else f"{text[:MAX_STEP_CHARACTERS]} …")


def _masked(steps: list[ComparedStep], mask: Mask) -> list[ComparedStep]:
    return [each._replace(what=mask(each.what), result=mask(each.result)) for each in steps]


def _format_steps(steps: list[ComparedStep]) -> Iterator[str]:
    if not steps:
        yield "  nothing more"
    for step in steps[:MAX_STEPS]:
        text = step.what if step.kind == "answer" else f"{step.what}\n{step.result}"
        if len(text) > MAX_STEP_CHARACTERS:
            text = f"{text[:MAX_STEP_CHARACTERS]} …"
        first, *rest = text.splitlines() or [""]
        yield f"  [{step.number}] {first}"
        yield from (f"      {line}" for line in rest)
    if len(steps) > MAX_STEPS:
        yield f"  … and {len(steps) - MAX_STEPS} steps more"


def _format_files(one: Compared, other: Compared, load: LoadBlob, mask: Mask) -> Iterator[str]:
    for name, side in (("A", one), ("B", other)):
        if isinstance(side.files, str):
            yield f"files of {name}: {side.files}"
    if not (isinstance(one.files, Chain) and isinstance(other.files, Chain)):
        return
    changed = compare_files(one.files.entries, other.files.entries, load, mask)
    if not changed:
        yield "the files are the same"
    for each in changed:
        yield f"{each.change}: {mask(shown(each.path)) or '.'}"
        if each.diff is not None:
            yield each.diff


def _side_json(side: Compared, shared: int) -> dict[str, JsonValue]:
    execution = side.execution
    ended = execution.ended_at
    return {
        "execution_id": execution.execution_id,
        "phase": execution.phase.value,
        "model": execution.model,
        "usage": execution.usage.model_dump(mode="json"),
        "seconds": None if ended is None else (ended - execution.created_at).total_seconds(),
        "files_unknown_because": side.files if isinstance(side.files, str) else None,
        "steps": [
            {"number": each.number, "kind": each.kind, "what": each.what, "result": each.result}
            for each in side.steps[shared:]
        ],
    }
