"""A database that is damaged, of a newer version, or without room: told as that, and over when mended."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from server_process import ServerFactory, ServerProcess, responded, wait_until
from sqlite_files import damage_table, forget_pages

MENDING = "recover what can be read: `sqlite3 stigmer.db .recover | sqlite3 recovered.db`"


@pytest.fixture
def small_disk(tmp_path: Path) -> Generator[Path]:
    """A file system of 8 MiB."""
    directory = tmp_path / "small"
    directory.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(directory)]
    if subprocess.run(mount, check=False).returncode:
        pytest.skip("this environment forbids mounting")
    yield directory
    subprocess.run(["umount", "-l", directory], check=True)


def run_to_its_end(home: Path) -> "subprocess.CompletedProcess[str]":
    """A server that cannot start."""
    return subprocess.run(
        [sys.executable, "-m", "stigmer_server"],
        env={
            "PATH": os.environ["PATH"],
            "STIGMER_HOME": str(home),
            "STIGMER_TOKEN": "t",
            "STIGMER_PORT": "0",
        },
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def readiness(server: ServerProcess) -> dict[str, Any]:
    """What `/readyz` says now."""
    body: dict[str, Any] = httpx.get(f"{server.url}/readyz", trust_env=False, timeout=30).json()
    return body


def database_problem(server: ServerProcess) -> str:
    """What readiness has against the database; empty where nothing."""
    checks = readiness(server)["checks"]
    return next(check["detail"] or "" for check in checks if check["name"] == "database")


def test_a_damaged_file_is_told_at_the_start_with_what_to_do(start_server: ServerFactory) -> None:
    server = start_server()
    server.stop()
    path = server.home / "data" / "stigmer.db"
    damage_table(path, "executions")

    ended = run_to_its_end(server.home)

    said = ended.stderr.splitlines()[-1]
    assert ended.returncode == 4
    assert said.startswith(f"error: the database {str(path)!r} is damaged: ")
    assert said.endswith(MENDING)
    assert "Traceback" not in ended.stderr


def test_a_newer_database_is_told_as_that(start_server: ServerFactory) -> None:
    server = start_server()
    server.stop()
    path = server.home / "data" / "stigmer.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")

    ended = run_to_its_end(server.home)

    assert (ended.returncode, ended.stderr.splitlines()[-1].partition(" its tables")[0]) == (
        4,
        "error: the database is of a newer version of stigmer:",
    )


def test_damage_that_is_met_in_use_is_told_and_is_no_defect(start_server: ServerFactory) -> None:
    server = start_server()
    path = server.home / "data" / "stigmer.db"
    with server.client() as api:
        execution_id = api.create_execution()["execution_id"]
        assert database_problem(server) == ""
        damage_table(path, "events")
        forget_pages(path, "server_keys", "name")

        refused = api.http.get(f"/v1/executions/{execution_id}/events")

        assert refused.status_code == 503, refused.text
        assert refused.json()["code"] == "unavailable"
        assert refused.json()["detail"].startswith(f"the database {str(path)!r} is damaged: ")
        assert refused.json()["hint"].endswith(MENDING)
        # Though what readiness itself reads is sound.
        assert " is damaged: " in database_problem(server)
        assert readiness(server)["ready"] is False


def test_a_full_disk_is_told_and_over_by_itself(small_disk: Path, fill: Callable[[Path], Path]) -> None:
    with ServerProcess(small_disk / "home") as server, server.client() as api:
        execution_id = api.create_execution()["execution_id"]
        api.start_leg(execution_id)
        assert database_problem(server) == ""
        assert [line.partition(" MiB ")[2] for line in readiness(server)["warnings"]] == [
            "are free for the blobs",
            "are free for the database",
        ]
        assert api.read_metrics()['stigmer_free_bytes{of="database"}'] > 0
        wait_until(lambda: 'stigmer_stored_bytes{of="blobs"}' in api.read_metrics(), "sizes are measured")
        assert api.read_metrics()['stigmer_stored_bytes{of="database"}'] > 0

        filler = fill(small_disk)
        refused = [api.append(execution_id, [responded(turn, "x" * 50_000)]) for turn in range(1, 9)]
        assert refused[-1].status_code == 503, refused[-1].text
        wait_until(lambda: database_problem(server) != "", "readiness tells of the full disk")
        sequence = api.get_execution(execution_id)["last_sequence"]

        filler.unlink()
        wait_until(lambda: database_problem(server) == "", "the server is ready by itself")
        assert api.append(execution_id, [responded(9)]).status_code == 200
        assert api.get_execution(execution_id)["last_sequence"] == sequence + 1
    log = server.log_file.read_text(encoding="utf-8")
    assert log.count("are free for the database") == 1
    assert "Traceback" not in log


@pytest.fixture
def fill() -> Callable[[Path], Path]:
    """Fills a disk to its last byte; the file that does so frees it again."""

    def work(directory: Path) -> Path:
        filler = directory / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(64 * 1024)):
                pass
        with filler.open("ab", buffering=0) as file, suppress(OSError):
            while file.write(bytes(512)):
                pass
        return filler

    return work
