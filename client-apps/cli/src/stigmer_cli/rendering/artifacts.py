"""What a person reads of the files that an execution left behind."""

from collections.abc import Sequence
from typing import Final

from stigmer_cli.rendering.quantities import format_bytes
from stigmer_contract.artifacts import Artifact, LeftOutFile
from stigmer_contract.events import ArtifactsCollected

_NAMED: Final = 5
"""Most files that one line names."""


def describe_artifacts(files: Sequence[Artifact]) -> str:
    """The files that were kept, in one line."""
    named = [f"{file.path} ({format_bytes(file.size_bytes)}{_masked(file)})" for file in files[:_NAMED]]
    return ", ".join(named + _more(len(files) - _NAMED))


def describe_missing(event: ArtifactsCollected) -> list[str]:
    """What was asked for and is not kept, in lines."""
    lines = list[str]()
    if event.unmatched:
        patterns = ", ".join(event.unmatched[:_NAMED] + _more(len(event.unmatched) - _NAMED))
        lines.append(f"no file of the workspace matches {patterns}")
    if event.left_out:
        further = len(event.left_out) - _NAMED + event.further
        lines.append("not kept: " + ", ".join([*map(_left_out, event.left_out[:_NAMED]), *_more(further)]))
    if not event.is_whole:
        lines.append("not all of the workspace was looked at for files to keep")
    return lines


def _left_out(file: LeftOutFile) -> str:
    return f"{file.path} ({file.reason})"


def _masked(file: Artifact) -> str:
    return ", secrets in it masked" if file.masked else ""


def _more(count: int) -> list[str]:
    return [f"and {count} more"] if count > 0 else []
