"""`stigmer run --compare`: one task with several models side by side, and what became of each."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stigmer_cli.errors import StigmerError, UsageError

if TYPE_CHECKING:
    from stigmer_cli.api_client import ApiClient
    from stigmer_cli.commands.run import Order
    from stigmer_cli.config import Configuration
    from stigmer_contract.api import ExecutionResource

MAX_MODELS: Final = 10
ANSWER_CHARACTERS: Final = 60


@dataclass(frozen=True)
class Tried:
    """What became of the task with one model."""

    model: str
    execution: "ExecutionResource"
    answer: object
    """None where there is none."""
    changed: int
    """Paths that are otherwise at the end."""


def read_models(text: str) -> list[str]:
    """The models that `--compare` names.

    Raises:
        UsageError: they are not two or more, or one is no model.
    """
    from stigmer_contract.model_names import split_model

    models = [each.strip() for each in text.split(",") if each.strip()]
    if not 2 <= len(models) <= MAX_MODELS:
        raise UsageError(
            f"--compare {text!r}: it takes 2 to {MAX_MODELS} models", "name them as A:one,B:other"
        )
    for each in models:
        try:
            split_model(each)
        except ValueError as error:
            raise UsageError(f"--compare: {error}") from error
    return models


def compare_models(
    order: "Order",
    models: Sequence[str],
    client: "ApiClient",
    configuration: "Configuration",
    *,
    as_json: bool,
) -> bool:
    """Run the task with each model, in a workspace of its own; whether all completed.

    Raises:
        StigmerError: the workspace cannot be copied, or one cannot be started.
    """
    started = dict[str, "ExecutionResource"]()
    with _Copies(order.workspace) as copies:
        try:
            for place, model in enumerate(models, start=1):
                one = _with_model(order, model, copies.make(place))
                execution = _start(one, model, client, configuration)
                started[execution.execution_id] = execution
            ended = list(_ended(client, list(started)))
        except BaseException:
            for execution_id in started:
                with contextlib.suppress(StigmerError):  # what went wrong first is told
                    client.cancel_execution(execution_id, "the comparison was given up")
            raise
        copies.keeps = any(not each.phase.is_terminal for each in ended)
    tried = [_tried(client, model, each) for model, each in zip(models, ended, strict=True)]
    _show(tried, as_json=as_json)
    return all(each.execution.phase == "completed" for each in tried)


class _Copies:
    """Copies of the workspace, one for each model. They go at the end: snapshots have what is in them."""

    def __init__(self, workspace: Path | None) -> None:
        self._workspace = workspace
        self._folder: Path | None = None
        self.keeps = False
        """Whether they stay."""

    def make(self, place: int) -> Path | None:
        """One more; None where the task has no workspace."""
        if self._workspace is None or self._folder is None:
            return None
        copy = self._folder / str(place)
        try:
            shutil.copytree(self._workspace, copy, symlinks=True)
        except OSError as error:  # shutil.Error, of several files, is one without a text
            reason = error.strerror or "not all of it can be read"
            raise StigmerError(f"could not copy {str(self._workspace)!r}: {reason}") from error
        return copy

    def __enter__(self) -> "_Copies":
        if self._workspace is not None:
            self._folder = Path(tempfile.mkdtemp(prefix="stigmer-compare-")).resolve()
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder is not None and not self.keeps:
            shutil.rmtree(self._folder, ignore_errors=True)


def _with_model(order: "Order", model: str, workspace: Path | None) -> "Order":
    from stigmer_cli.commands.manifest_files import read_cassette

    cassette = read_cassette(model, Path.cwd())
    snapshots = True if order.snapshots is None else order.snapshots
    return replace(order, model=model, cassette=cassette, workspace=workspace, snapshots=snapshots)


def _start(
    order: "Order", model: str, client: "ApiClient", configuration: "Configuration"
) -> "ExecutionResource":
    from stigmer_cli.commands.run import create_execution
    from stigmer_cli.output import print_note, sanitize

    execution = create_execution(order, model, client, configuration)
    print_note(sanitize(f"{model}: {execution.execution_id}"))
    return execution


def _ended(client: "ApiClient", execution_ids: Sequence[str]) -> "Iterator[ExecutionResource]":
    """Each as it has ended, or waits for a person."""
    from stigmer_cli.commands.awaiting import Awaited
    from stigmer_cli.commands.test_runs import waits_for_person

    for execution_id in execution_ids:
        with Awaited(client, execution_id) as awaited:
            while not (execution := awaited.look()).phase.is_terminal:
                if waits_for_person(execution.waiting_for):
                    break
                awaited.wait(None)
        yield execution


def _tried(client: "ApiClient", model: str, execution: "ExecutionResource") -> Tried:
    answer = None if execution.output is None else client.load_payload(execution.output)
    return Tried(model, execution, answer, _changed(client, execution.execution_id))


def _changed(client: "ApiClient", execution_id: str) -> int:
    from stigmer_cli.rendering.differences import count_changed_paths
    from stigmer_contract.events import SnapshotTaken
    from stigmer_contract.snapshots import load_chain, provide

    events = client.read_events(execution_id)
    taken = [each.event for each in events if isinstance(each.event, SnapshotTaken)]
    if not taken:
        return 0  # no step could change any
    first, last = (
        provide(load_chain(each.listing.sha256), client.fetch_blob) for each in (taken[0], taken[-1])
    )
    return count_changed_paths(first, last)


def _show(tried: Sequence[Tried], *, as_json: bool) -> None:
    from stigmer_cli.output import print_json, print_note
    from stigmer_cli.rendering.tables import print_table

    if as_json:
        print_json(
            [
                {
                    "model": each.model,
                    "answer": each.answer,
                    "changed_paths": each.changed,
                    "seconds": _seconds(each),
                    "execution": each.execution.model_dump(mode="json"),
                }
                for each in tried
            ]
        )
        return
    header = ["MODEL", "EXECUTION", "PHASE", "TURNS", "TOKENS", "COST", "TIME", "FILES", "ANSWER"]
    print_table(header, [_row(each) for each in tried], empty="nothing", long="ANSWER")
    one, other = (each.execution.execution_id for each in tried[:2])
    print_note(f"more: stigmer executions diff {one} {other}")
    print_note(f"the files of one: stigmer executions restore {one} --to DIR")


def _seconds(tried: Tried) -> float | None:
    ended = tried.execution.ended_at
    return None if ended is None else (ended - tried.execution.created_at).total_seconds()


def _row(tried: Tried) -> list[str]:
    from stigmer_cli.output import sanitize
    from stigmer_cli.rendering.execution_table import describe_phase
    from stigmer_cli.rendering.quantities import format_cost, format_count, format_seconds

    execution, seconds = tried.execution, _seconds(tried)
    usage = execution.usage
    answer = " ".join(str("" if tried.answer is None else tried.answer).split())
    if len(answer) > ANSWER_CHARACTERS:
        answer = f"{answer[:ANSWER_CHARACTERS]}…"
    return [
        sanitize(tried.model),
        execution.execution_id,
        describe_phase(execution),
        str(usage.requests),
        format_count(usage.total_tokens),
        "-" if usage.cost_usd is None else format_cost(usage.cost_usd),
        "-" if seconds is None else format_seconds(seconds),
        f"{tried.changed} changed",
        sanitize(answer),
    ]
