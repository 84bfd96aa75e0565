"""A stack that another version left, stopped or running: it is said, and its database is copied first."""

import json
import sqlite3
from pathlib import Path

import pytest

from stack_home import StackHome
from stigmer_cli.config import load_configuration
from stigmer_cli.errors import BackupFailed
from stigmer_cli.program_version import is_newer, program_version
from stigmer_cli.stack import database_backup
from stigmer_cli.stack.state import StackFiles

OLD = "0.0.9"
NEW = "9.0.0"


def write_database(home: Path, version: str | None) -> Path:
    """A database with a row that stands in its write-ahead log only, as a killed server leaves it."""
    data = home / "data"
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.chmod(0o700)
    aside = sqlite3.connect(data / "aside.db", isolation_level=None)
    aside.executescript(
        "PRAGMA journal_mode=wal; CREATE TABLE log (said TEXT); INSERT INTO log VALUES ('here')"
    )
    for suffix in ("", "-wal"):
        (data / f"stigmer.db{suffix}").write_bytes((data / f"aside.db{suffix}").read_bytes())
    aside.close()
    (data / "aside.db").unlink()
    if version is not None:
        (data / "version").write_text(f"{version}\n", encoding="ascii")
    return data


def rows(database: Path) -> list[tuple[str]]:
    """What the copy holds."""
    connection = sqlite3.connect(database)
    try:
        return connection.execute("SELECT said FROM log").fetchall()
    finally:
        connection.close()


def pretend_version(home: StackHome, version: str) -> None:
    """Has the running stack say that another version started it."""
    file = StackFiles(load_configuration(home.environment)).state
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | {"version": version}), encoding="utf-8")


def running_version(home: StackHome) -> str:
    """What the stack says now."""
    file = StackFiles(load_configuration(home.environment)).state
    return str(json.loads(file.read_text("utf-8"))["version"])


def test_the_first_start_of_another_version_keeps_a_copy_of_the_database(stack_home: StackHome) -> None:
    data = write_database(stack_home.path, OLD)

    first = stack_home.stigmer("server", "start", "--no-wait")
    stack_home.stigmer("server", "stop")
    second = stack_home.stigmer("server", "start", "--no-wait")

    copy = data / "backups" / f"stigmer-{OLD}.db"
    line = f"another version of Stigmer used the database; a copy of it is kept in {copy}"
    assert (first.returncode, first.stderr.splitlines().count(line)) == (0, 1), first.stderr
    assert (second.returncode, second.stderr.splitlines().count(line)) == (0, 0), second.stderr
    assert rows(copy) == [("here",)]
    assert copy.stat().st_mode & 0o777 == 0o600
    assert (data / "version").read_text("ascii").strip() == program_version()


def test_copies_of_three_versions_stay(tmp_path: Path) -> None:
    configuration = load_configuration({"STIGMER_HOME": str(tmp_path)})
    said: list[str] = []
    for version in (None, "0.0.1", "0.0.2", "0.0.3", "../../etc"):
        write_database(tmp_path, version)
        database_backup.back_up(configuration, said.append)

    names = {file.name for file in database_backup.backup_directory(configuration).iterdir()}
    assert names == {"stigmer-0.0.2.db", "stigmer-0.0.3.db", "stigmer-unknown.db"}
    assert len(said) == 5


def test_a_damaged_database_is_left_to_the_server_to_tell_of(tmp_path: Path) -> None:
    data = write_database(tmp_path, OLD)
    (data / "stigmer.db").write_bytes(b"no database at all" * 1000)
    (data / "stigmer.db-wal").unlink()
    said: list[str] = []

    database_backup.back_up(load_configuration({"STIGMER_HOME": str(tmp_path)}), said.append)

    assert said[-1] == "note: the database could not be copied: file is not a database"
    assert list((data / "backups").iterdir()) == []


def test_a_copy_without_room_stops_the_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_database(tmp_path, OLD)
    monkeypatch.setattr(database_backup, "SPARE_BYTES", 10**18)

    with pytest.raises(BackupFailed) as raised:
        database_backup.require_room(load_configuration({"STIGMER_HOME": str(tmp_path)}))

    assert raised.value.exit_code == 3
    assert "it needs 1000000000.0 GB on its disk" in raised.value.message


def test_the_next_command_tells_of_a_running_stack_of_another_version(stack_home: StackHome) -> None:
    stack_home.start()
    for version, remedy in (
        (OLD, "run `stigmer server restart`, which keeps a copy of its database first"),
        (NEW, "install that version, too"),
    ):
        pretend_version(stack_home, version)

        done = stack_home.stigmer("server", "start", "--no-wait")

        line = f"note: the running stack is version {version}, and this is {program_version()}; {remedy}"
        assert line in done.stderr.splitlines()


def test_at_a_terminal_the_next_command_offers_a_restart(stack_home: StackHome) -> None:
    stack_home.start()
    pretend_version(stack_home, OLD)

    _, declined = stack_home.stigmer_on_terminal("executions", "list", typed="n\n")
    version_before = running_version(stack_home)
    _, accepted = stack_home.stigmer_on_terminal("executions", "list", typed="y\n")

    assert f"the running stack is version {OLD}, and this is {program_version()}" in declined
    assert version_before == OLD
    assert "Restart it now? A copy of its database is kept" in accepted
    assert running_version(stack_home) == program_version()


@pytest.mark.parametrize(
    ("theirs", "expected"), [(OLD, False), (NEW, True), (program_version(), False), ("1.0.0rc1", True)]
)
def test_versions_are_compared_by_number(theirs: str, expected: bool) -> None:
    assert is_newer(theirs) is expected
