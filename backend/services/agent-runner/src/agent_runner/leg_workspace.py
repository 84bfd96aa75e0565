"""What snapshots keep of the workspace that a leg works in, and the files that a fork begins with."""

import asyncio
import errno
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from pydantic_ai.workspaces import WorkspaceError

from agent_runner.errors import AttemptSuperseded, ExecutionFailure, ServerRefused
from agent_runner.settings import RunnerSettings
from agent_runner.snapshots import WATCHED_FROM, SnapshotTaker, StepSnapshots, WalkRules, bring
from agent_runner.toolsets.shown_names import shown_name
from agent_runner.workspace import SessionWorkspace
from agent_runner.workspace.local_disks import is_on_local_disk
from stigmer_contract.api import LegGrant
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.errors import SnapshotDamaged
from stigmer_contract.snapshots import Entry, FileEntry, load_chain, restore_in_place, restore_tree

GENERATED: Final = frozenset(
    {
        "node_modules",
        ".venv",
        "venv",
        "__pycache__",
        ".tox",
        ".nox",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".gradle",
        ".next",
        ".terraform",
        "target",
    }
)
"""Folders of a person's directory that programs make again; they are large, and no part of snapshots."""
GIT_OBJECTS: Final = frozenset({".git/objects", ".git/lfs", ".git/modules", ".git/worktrees"})
"""Of a repository its HEAD, branches and index are kept; objects are only ever added to it."""
RESTORING: Final = ".restoring"
"""In the runner's root: files of forks that are being made."""
SESSIONS_OWN: Final = WalkRules()
PERSONS: Final = WalkRules(left_out=GIT_OBJECTS, left_out_names=GENERATED)


def snapshot_taker(grant: LegGrant, workspace: SessionWorkspace) -> SnapshotTaker:
    """Takes the snapshots of the leg's workspace.

    It is watched where every change by the leg is reported: its commands have ended by then, and make no name
    for a file elsewhere. Servers of tools live on, and may write through a mapping of memory.
    """
    rules = SESSIONS_OWN if grant.workspace is None else PERSONS
    lives_on = any(server.url is None for server in grant.spec.mcp_servers)
    watches = not lives_on and workspace.keeps_links_in and is_on_local_disk(str(workspace.directory))
    return SnapshotTaker(rules, watches_from=WATCHED_FROM if watches else None)


async def restore_fork(
    grant: LegGrant, settings: RunnerSettings, load_blob: Callable[[str], Awaitable[bytes]]
) -> None:
    """Make the files that a fork begins with, unless a leg before has.

    They are made aside and then moved to their place as a whole, so that no leg meets half of them.

    Raises:
        ExecutionFailure: they cannot be made.
    """
    fork, session_id = grant.fork, grant.execution.session_id
    if fork is None or fork.snapshot is None or fork.in_place:
        return
    place = settings.sandbox_root_dir / session_id
    if await asyncio.to_thread(place.exists):
        return
    try:
        aside = await asyncio.to_thread(_begin_aside, settings.sandbox_root_dir / RESTORING, session_id)
        try:
            await _restore(aside, fork.snapshot.sha256, load_blob)
            await asyncio.to_thread(_move_into_place, aside, place)
        finally:
            await asyncio.to_thread(shutil.rmtree, aside, ignore_errors=True)
    except AttemptSuperseded:
        raise
    except (OSError, SnapshotDamaged, ServerRefused) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ExecutionFailure(
            ErrorCode.WORKSPACE_UNAVAILABLE,
            f"could not restore the files of step {fork.step} of {fork.execution_id}: {reason}",
        ) from error


async def rewind_workspace(
    grant: LegGrant,
    open_workspace: Callable[[], int],
    snapshots: StepSnapshots,
    load_blob: Callable[[str], Awaitable[bytes]],
) -> str:
    """Bring the workspace back to where the execution says, having kept what is in it; gives what was done.

    Each path is replaced as a whole. A leg that comes after a lost one does it again, and finds it done.

    Raises:
        ExecutionFailure: what is there cannot be kept, and nothing was changed; or it cannot be brought back.
    """
    fork = grant.fork
    assert fork is not None
    place = f"{f'step {fork.step}' if fork.step else 'the beginning'} of {fork.execution_id}"
    if fork.snapshot is None:
        return f"The conversation is back at {place}. The files stay as they are: {fork.no_files_because}."
    try:
        chain = await bring(load_chain(fork.snapshot.sha256), load_blob)
        before = await snapshots.entries_now()
        if before is None:
            raise ExecutionFailure(
                ErrorCode.WORKSPACE_UNAVAILABLE,
                "could not keep what the files are now, so that none was changed",
                "`snapshot.skipped` in the log says why",
            )
        paths = _differing(before, chain.entries)
        root = await asyncio.to_thread(open_workspace)
        try:
            await bring(restore_in_place(root, chain.entries, paths), load_blob)
        finally:
            os.close(root)
    except AttemptSuperseded:
        raise
    except (OSError, SnapshotDamaged, ServerRefused, WorkspaceError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ExecutionFailure(
            ErrorCode.WORKSPACE_UNAVAILABLE,
            f"could not bring all files back to {place}: {reason}",
            "the log has a snapshot of what they were before; `stigmer executions retry` goes on",
        ) from error
    left = _differing(await snapshots.entries_now() or {}, chain.entries)
    done = f"The session is back at {place}: {len(paths)} paths were brought back."
    return done if not left else f"{done} {len(left)} could not be, such as {shown_name(left[0])}."


def _differing(one: Mapping[str, Entry], other: Mapping[str, Entry]) -> list[str]:
    """The paths that are not the same in both, sorted; wherever the contents are kept."""
    paths = {*one, *other}
    return sorted(
        path for path in paths if _without_pieces(one.get(path)) != _without_pieces(other.get(path))
    )


def _without_pieces(entry: Entry | None) -> Entry | None:
    return entry._replace(pieces=()) if isinstance(entry, FileEntry) else entry


async def _restore(aside: Path, listing: str, load_blob: Callable[[str], Awaitable[bytes]]) -> None:
    chain = await bring(load_chain(listing), load_blob)
    root = os.open(aside, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        await bring(restore_tree(chain.entries, root), load_blob)
        os.fchmod(root, 0o700)  # it may have been a person's, whose modes are others
    finally:
        os.close(root)


def _begin_aside(folder: Path, session_id: str) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in folder.glob(f"{session_id}.*"):  # by a leg that died
        shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(dir=folder, prefix=f"{session_id}."))


def _move_into_place(aside: Path, place: Path) -> None:
    try:
        aside.rename(place)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):  # rename(2): another leg was quicker
            raise
