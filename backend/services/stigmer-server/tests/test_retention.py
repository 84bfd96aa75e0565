"""Retention: what is over its time goes, and nothing else."""

import hashlib
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client

from server_process import ServerApi, ServerProcess, completed, wait_until
from stigmer_server import retention
from temporal_server import TemporalServer

LONG_AGO = 1_600_000_000
NEVER = "ses_0123456789abcdefghjkmnpqrs"
"""A session that is not there."""
EVERYTHING = {
    "STIGMER_RETENTION_EXECUTIONS": "1s",
    "STIGMER_RETENTION_WORKSPACES": "1s",
    "STIGMER_RETENTION_BLOBS": "unreferenced",
}


def end(api: ServerApi, execution_id: str) -> None:
    attempt = api.start_leg(execution_id)["attempt"]
    assert api.append(execution_id, [completed()], attempt=attempt).is_success


def blob_file(home: Path, sha256: str) -> Path:
    return home / "data" / "blobs" / sha256[:2] / sha256


def has(api: ServerApi, session_id: str) -> bool:
    return api.http.get(f"/v1/sessions/{session_id}").is_success


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def test_what_is_over_its_time_goes_and_nothing_else(
    kind: str, make_database: Callable[[str], str | None], tmp_path: Path
) -> None:
    home, database_url = tmp_path / "home", make_database(kind)
    pack = b"a pack of an agent"
    with ServerProcess(home, database_url=database_url) as server, server.client() as api:
        over = api.create_execution(input="x" * 100_000)
        end(api, over["execution_id"])
        working = api.create_execution(input="y" * 100_000)
        api.start_leg(working["execution_id"])
        loose, of_agent = api.store_blob(b"nobody names it"), api.store_blob(pack)
        young = api.store_blob(b"about to be named")
        script = {
            "name": "go",
            "description": "Goes.",
            "command": ["./go"],
            "pack": f"sha256:{hashlib.sha256(pack).hexdigest()}",
        }
        agent = {
            "apiVersion": "agentic.stigmer.ai/v1",
            "kind": "Agent",
            "metadata": {"name": "packed"},
            "spec": {"instructions": "Go.", "scripts": [script]},
        }
        api.http.put("/v1/agents/packed", json=agent).raise_for_status()
        inputs = [
            api.read_log(each["execution_id"])[0]["event"]["input"]["sha256"] for each in (over, working)
        ]
        workspaces = home / "data" / "workspace"
        for session_id in (over["session_id"], working["session_id"], NEVER):
            (workspaces / session_id / "deep").mkdir(parents=True)
            (workspaces / session_id / "link").symlink_to(tmp_path / "kept")
        (tmp_path / "kept").mkdir()
        (tmp_path / "kept" / "file").touch()
        (workspaces / "something-else").mkdir()
    os.utime(workspaces / NEVER, (LONG_AGO, LONG_AGO))
    ended_at = time.time()
    wait_until(lambda: time.time() > ended_at + 2, "what has ended is over its time")
    for sha256 in (loose, of_agent, *inputs):
        os.utime(blob_file(home, sha256), (LONG_AGO, LONG_AGO))

    with (
        ServerProcess(home, database_url=database_url, environment=EVERYTHING) as server,
        server.client() as api,
    ):
        wait_until(lambda: not blob_file(home, inputs[0]).exists(), "the blob of the session that is gone")
        wait_until(lambda: not blob_file(home, loose).exists(), "the blob that nobody names is gone")
        assert not has(api, over["session_id"])
        assert has(api, working["session_id"])
        assert [blob_file(home, each).exists() for each in (inputs[1], of_agent, young)] == [True] * 3
        assert sorted(path.name for path in workspaces.iterdir()) == sorted(
            [working["session_id"], "something-else"]
        )
        assert (tmp_path / "kept" / "file").exists()
        assert api.http.get(f"/v1/executions/{over['execution_id']}").status_code == 404


def test_a_directory_that_cannot_be_moved_away_is_not_counted_and_stays(tmp_path: Path) -> None:
    (tmp_path / NEVER).mkdir()
    (tmp_path / f".removed-{NEVER}").touch()  # no directory can take its place
    (tmp_path / ".workspaces").mkdir()
    (tmp_path / ".workspaces" / NEVER).touch()

    assert retention.remove_directory(tmp_path, NEVER) is False
    assert (tmp_path / NEVER).is_dir() and (tmp_path / ".workspaces" / NEVER).exists()
    (tmp_path / f".removed-{NEVER}").unlink()
    assert retention.remove_directory(tmp_path, NEVER) is True
    assert retention.remove_directory(tmp_path, NEVER) is False
    assert [each.name for each in tmp_path.iterdir()] == [".workspaces"]


def test_by_default_everything_is_kept(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with ServerProcess(home) as server, server.client() as api:
        over = api.create_execution()
        end(api, over["execution_id"])
        loose = api.store_blob(b"nobody names it")
        os.utime(blob_file(home, loose), (LONG_AGO, LONG_AGO))
        assert has(api, over["session_id"]) and blob_file(home, loose).exists()
        assert "removed" not in server.log_file.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("STIGMER_RETENTION_EXECUTIONS", "soon"),
        ("STIGMER_RETENTION_BLOBS", "all"),
        ("STIGMER_PUBLIC_URL", "x"),
    ],
)
def test_a_setting_that_is_none_is_told(tmp_path: Path, variable: str, value: str) -> None:
    with pytest.raises(RuntimeError, match=variable):
        ServerProcess(tmp_path / "home", environment={variable: value}).start()


async def test_the_stacks_own_temporal_keeps_a_history_for_a_day_after_its_end(
    temporal: TemporalServer,
) -> None:
    """What `server start-dev` sets, by which the stack starts it, and what the operator's guide says."""
    client = await Client.connect(temporal.address)
    described = await client.workflow_service.describe_namespace(
        DescribeNamespaceRequest(namespace="default")
    )
    kept = described.config.workflow_execution_retention_ttl.ToTimedelta()
    assert kept == timedelta(days=1)
