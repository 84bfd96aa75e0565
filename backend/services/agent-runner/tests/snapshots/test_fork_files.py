"""The files that a fork begins with: made once as a whole, also where two legs make them."""

import asyncio
import hashlib
import os
import threading
from pathlib import Path

import pytest

from agent_runner.errors import ExecutionFailure, ServerRefused
from agent_runner.leg_workspace import restore_fork
from agent_runner.settings import RunnerSettings, load_settings
from agent_runner.snapshots import SnapshotTaker, bring
from leg_server import SESSION, Server
from stigmer_contract.api import LegGrant, StartLeg
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import BlobPayload, ForkOrigin
from stigmer_contract.snapshots import Wants


@pytest.fixture
def settings(tmp_path: Path) -> RunnerSettings:
    root = tmp_path / "root"
    root.mkdir()
    return load_settings({"STIGMER_TOKEN": "a-token-of-the-server", "SANDBOX_ROOT_DIR": str(root)})


@pytest.fixture
def blobs(tmp_path: Path) -> dict[str, bytes]:
    """Those of a snapshot of one file, the listing last."""
    parent = tmp_path / "parent"
    parent.mkdir()
    (parent / "file").write_text("of the parent", encoding="utf-8")
    work = SnapshotTaker().take(lambda: os.open(parent, os.O_RDONLY | os.O_DIRECTORY))
    return {hashlib.sha256(content).hexdigest(): content for content in work}


async def forked(blobs: dict[str, bytes]) -> LegGrant:
    *_, listing = blobs
    snapshot = BlobPayload(sha256=listing, size_bytes=len(blobs[listing]))
    grant = await Server().start_leg("exe_1", StartLeg(runner="r", runner_version="0"))
    origin = ForkOrigin(execution_id="exe_0", step=2, sequence=4, steps_before=1, snapshot=snapshot)
    return grant.model_copy(update={"fork": origin})


async def test_files_that_another_leg_has_made_meanwhile_stay_as_they_are(
    settings: RunnerSettings, blobs: dict[str, bytes]
) -> None:
    place = settings.sandbox_root_dir / SESSION

    async def load(sha256: str) -> bytes:
        place.mkdir(exist_ok=True)
        (place / "file").write_text("of the other leg", encoding="utf-8")
        return blobs[sha256]

    await restore_fork(await forked(blobs), settings, load)
    assert (place / "file").read_text(encoding="utf-8") == "of the other leg"
    assert list((settings.sandbox_root_dir / ".restoring").iterdir()) == []


async def test_files_that_the_server_has_no_more_fail_the_execution_with_that_reason(
    settings: RunnerSettings, blobs: dict[str, bytes]
) -> None:
    async def load(_sha256: str) -> bytes:
        raise ServerRefused(404, None, "there is no such blob")

    with pytest.raises(ExecutionFailure) as caught:
        await restore_fork(await forked(blobs), settings, load)
    assert caught.value.code is ErrorCode.WORKSPACE_UNAVAILABLE
    assert caught.value.message == (
        "could not restore the files of step 2 of exe_0: the server answered 404: there is no such blob"
    )


async def test_whoever_is_stopped_while_a_thread_is_at_work_ends_after_it() -> None:
    began, may_end = asyncio.Event(), threading.Event()
    loop, order = asyncio.get_running_loop(), list[str]()

    def work() -> Wants[None]:
        loop.call_soon_threadsafe(began.set)
        may_end.wait(5)
        order.append("the thread")
        yield from ()

    async def load(_sha256: str) -> bytes:
        return b""

    waiting = asyncio.create_task(bring(work(), load))
    waiting.add_done_callback(lambda _: order.append("who waited"))
    await began.wait()
    waiting.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    may_end.set()
    await asyncio.wait({waiting})
    assert waiting.cancelled()
    assert order == ["the thread", "who waited"]
