"""A damaged file of the stack's own databases: Temporal's is moved aside, the server's is told of."""

import asyncio
import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from sqlite_files import damage_table
from stack_home import StackHome
from stigmer_cli.stack.process_launcher import ProcessLauncher
from stigmer_cli.stack.temporal_database import BELIEVED_COMPLAINTS, TemporalLauncher

COMPLAINS = (
    "import time; print('query failed: database disk image is malformed', flush=True); time.sleep(600)"
)


def _findings(home: StackHome, name: str) -> list[tuple[str, str]]:
    document = json.loads(home.stigmer("doctor", "--json").stdout)
    return [(each["outcome"], each["detail"]) for each in document["findings"] if each["name"] == name]


def _aside(directory: Path) -> list[Path]:
    return list(directory.glob("temporal.db.damaged-*"))


def _make_database(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("CREATE TABLE executions (id TEXT)")


def test_a_damaged_database_of_temporals_is_moved_aside_and_a_new_one_begun(temporal_home: StackHome) -> None:
    temporal_home.start()
    temporal_home.stigmer("server", "stop")
    path = temporal_home.path / "data" / "temporal.db"
    damage_table(path, "executions")
    assert [outcome for outcome, _ in _findings(temporal_home, "temporal's database")] == ["failed"]

    temporal_home.start()

    [aside] = _aside(path.parent)
    assert aside.stat().st_size > 0
    assert temporal_home.component("temporal")["ready"]
    assert f"was moved to {aside}" in temporal_home.stigmer("server", "logs", "--temporal").stdout
    assert [outcome for outcome, _ in _findings(temporal_home, "temporal's database")] == [
        "passed",
        "warning",
    ]


async def test_temporal_is_started_anew_where_it_complains_of_its_database(tmp_path: Path) -> None:
    path = tmp_path / "temporal.db"
    _make_database(path)
    lines: list[str] = []
    launcher = TemporalLauncher(ProcessLauncher((sys.executable, "-c", COMPLAINS), {}, tmp_path), path)

    for _ in range(BELIEVED_COMPLAINTS):
        running = await launcher.launch(lines.append)
        async with asyncio.timeout(60):
            assert await running.wait() == -9
        assert not _aside(tmp_path)
    running = await launcher.launch(lines.append)
    running.kill()
    await running.wait()

    [aside] = _aside(tmp_path)
    assert f"{path} is damaged (Temporal says so) and was moved to {aside}" in "\n".join(lines)


def test_doctor_tells_of_a_damaged_log_and_what_to_do(stack_home: StackHome) -> None:
    path = stack_home.path / "data" / "stigmer.db"
    path.parent.mkdir(parents=True)
    _make_database(path)
    assert _findings(stack_home, "database") == [("passed", f"{path} is sound")]
    [(outcome, sizes)] = _findings(stack_home, "sizes")
    assert (outcome, sizes.partition(",")[2]) == (
        "passed",
        " blobs 0.0 MB, Temporal 0.0 MB, sessions' folders 0.0 MB",
    )
    damage_table(path, "executions")

    completed = stack_home.stigmer("doctor")

    assert completed.returncode == 3
    assert f"{path} is damaged: " in completed.stdout
    assert "`sqlite3 stigmer.db .recover | sqlite3 recovered.db`" in completed.stdout
