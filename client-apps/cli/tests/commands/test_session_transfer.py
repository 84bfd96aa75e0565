"""`stigmer sessions export` and `import`: one file, and what is refused of those of strangers."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli_harness import Command, Server
from stigmer_contract import events

LONG = "The answer goes on. " * 10_000


def make_session(command: Command, server: Server) -> str:
    """A session of two executions, one with a large answer; its id."""
    first = command.run("run", ".", "Remember 7.", "--detach").stdout.strip()
    leg = server.take_execution(first)
    leg.answer(1, "I do.", calls={"a": "ls"})
    leg.call(1, "a", "ls")
    leg.finish_call(1, "a", "a.txt")
    leg.complete("I do.")
    session_id = server.client.get_execution(first).session_id
    second = command.run("run", ".", "Go on.", "--session", session_id, "--detach").stdout.strip()
    leg = server.take_execution(second)
    sha256 = server.client.upload_blob(json.dumps(LONG).encode())
    output = events.BlobPayload(sha256=sha256, size_bytes=len(LONG) + 2)
    leg.append(events.ExecutionCompleted(output=output))
    return session_id


def without_ids(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**each, "event": {**each["event"], "session_id": ""}} for each in log]


def log_of(server: Server, execution_id: str) -> list[dict[str, Any]]:
    return [each.model_dump(mode="json") for each in server.client.read_events(execution_id)]


def test_an_exported_session_is_imported_as_a_new_one_with_the_same_logs(
    command: Command, server: Server
) -> None:
    session_id = make_session(command, server)
    exported = command.run("sessions", "export", session_id, "-o", "talk.stigmer")
    assert (exported.exit_code, exported.stdout) == (0, "talk.stigmer\n"), exported.stderr
    assert (command.folder / "talk.stigmer").stat().st_mode & 0o777 == 0o600
    assert command.run("sessions", "export", session_id, "-o", "talk.stigmer").exit_code == 1

    imported = command.run("sessions", "import", "talk.stigmer")
    assert imported.exit_code == 0, imported.stderr
    new_id = imported.stdout.strip()
    assert new_id != session_id
    pairs = [server.client.list_executions(10, session_id=each) for each in (session_id, new_id)]
    for old, new in zip(*pairs, strict=True):
        assert old.execution_id != new.execution_id
        assert (new.phase, new.usage, new.output) == (old.phase, old.usage, old.output)
        assert without_ids(log_of(server, new.execution_id)) == without_ids(log_of(server, old.execution_id))
    # It goes on like any other.
    further = command.run("run", ".", "And now?", "--session", new_id, "--detach")
    assert further.exit_code == 0
    # Other tests take the first execution that is pending.
    server.take_execution(further.stdout.strip()).complete("Fine.")


def test_what_files_were_is_not_exported(command: Command, server: Server) -> None:
    execution_id = command.run("run", ".", "Remember 7.", "--detach").stdout.strip()
    leg = server.take_execution(execution_id)
    listing = b"what the files of this session are"
    sha256 = server.client.upload_blob(listing)
    taken = events.SnapshotTaken(
        listing=events.BlobPayload(sha256=sha256, size_bytes=len(listing)),
        entries=1,
        size_bytes=1,
        changed=1,
        duration_seconds=0.1,
    )
    leg.append(taken)
    leg.complete("I do.")
    session_id = server.client.get_execution(execution_id).session_id
    exported = command.run("sessions", "export", session_id, "-o", "without-files.stigmer")
    assert exported.exit_code == 0, exported.stderr
    with zipfile.ZipFile(command.folder / "without-files.stigmer") as archive:
        assert archive.namelist() == ["session.json"]
        assert sha256 not in archive.read("session.json").decode()
    imported = command.run("sessions", "import", "without-files.stigmer").stdout.strip()
    [new] = server.client.list_executions(1, session_id=imported)
    told = [each["event"] for each in log_of(server, new.execution_id)]
    assert [each.get("reason") for each in told if each["type"] == "snapshot.skipped"] == [
        "an exported session has no files"
    ]


def test_what_has_not_ended_is_not_exported(command: Command) -> None:
    execution_id = command.run("run", ".", "Work.", "--detach").stdout.strip()
    refused = command.run("sessions", "export", "--last")
    assert refused.exit_code == 1
    assert f"{execution_id} has not ended" in refused.stderr
    command.run("executions", "cancel", execution_id)


def change_document(change: Callable[[dict[str, Any]], object]) -> Callable[[Path, Path], None]:
    """Rewrites a file with a changed document."""

    def rewrite(source: Path, target: Path) -> None:
        with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
            for member in old.infolist():
                content = old.read(member)
                if member.filename == "session.json":
                    document = json.loads(content)
                    change(document)
                    content = json.dumps(document).encode()
                new.writestr(member.filename, content)

    return rewrite


def add_member(name: str, content: bytes) -> Callable[[Path, Path], None]:
    def rewrite(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes())
        with zipfile.ZipFile(target, "a") as archive:
            archive.writestr(name, content)

    return rewrite


def cut(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes()[:-200])


def no_archive(_source: Path, target: Path) -> None:
    target.write_bytes(b"hello")


def without_blobs(source: Path, target: Path) -> None:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        content = old.read("session.json").decode()
        [blob] = [name for name in old.namelist() if name.startswith("blobs/")]
        # Of another one, which nobody has stored.
        new.writestr("session.json", content.replace(blob.removeprefix("blobs/"), "0" * 64))


def log(document: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = document["executions"][0]["events"]
    return found


HOSTILE: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "a path out of it": (add_member("../../evil", b"x"), "'../../evil' does not belong into such a file"),
    "an absolute path": (add_member("/etc/passwd", b"x"), "'/etc/passwd' does not belong"),
    "a blob that is another": (add_member("blobs/" + "a" * 64, b"x"), "is not what it says"),
    "a cut file": (cut, "it is no exported session"),
    "no archive": (no_archive, "it is no exported session"),
    "a blob that is missing": (without_blobs, "was not brought along"),
    "no document": (change_document(lambda document: document.clear()), "Field required"),
    "another version": (change_document(lambda document: document.update(version=2)), "version: "),
    "no beginning": (change_document(lambda document: log(document).pop(0)), "its log begins with"),
    "no end": (change_document(lambda document: log(document).pop()), "it has not ended"),
    "two beginnings": (
        change_document(lambda document: log(document).insert(1, log(document)[0])),
        "can only be the first of a log",
    ),
    "events behind the end": (
        change_document(lambda document: log(document).append(log(document)[1])),
        "cannot follow the event that ended the execution",
    ),
    "an event of a newer version": (
        change_document(lambda document: log(document)[1]["event"].update(type="future.event")),
        "could not import the session: executions.0.events.1.event",
    ),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The file that all of them begin with, once it is there."""
    return [tmp_path_factory.mktemp("exported") / "talk.stigmer"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_and_leaves_nothing(
    command: Command, server: Server, exported: list[Path], name: str
) -> None:
    [source] = exported
    if not source.exists():
        session_id = make_session(command, server)
        assert command.run("sessions", "export", session_id, "-o", str(source)).exit_code == 0
    rewrite, problem = HOSTILE[name]
    rewrite(source, command.folder / "hostile.stigmer")
    before = {each.session_id for each in server.client.list_sessions(1000)}
    files = sorted(path.name for path in command.folder.rglob("*"))

    refused = command.run("sessions", "import", "hostile.stigmer")

    assert refused.exit_code == 1, refused.stderr
    assert problem in refused.stderr and "Traceback" not in refused.stderr
    assert {each.session_id for each in server.client.list_sessions(1000)} == before
    assert sorted(path.name for path in command.folder.rglob("*")) == files
