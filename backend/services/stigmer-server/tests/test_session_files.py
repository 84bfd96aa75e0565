"""A session's files over HTTP: what its owner reads of its workspace, and what nobody reads through it."""

import os
import re
import socket
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from server_process import ServerApi, ServerFactory, ServerProcess
from stigmer_contract.workspace_directories import Identity

NAMES = count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server without Temporal; where the sessions' files are is the same for every database."""
    with ServerProcess(tmp_path_factory.mktemp("session-files")) as process:
        yield process


@pytest.fixture
def workspace(api: ServerApi, server: ServerProcess) -> Path:
    """The own directory of a session, as a runner makes it; its name is the session's id."""
    session_id: str = api.http.post("/v1/sessions", json={}).raise_for_status().json()["session_id"]
    directory = server.home / "data" / "workspace" / session_id
    directory.mkdir(parents=True)
    return directory


def fetch(api: ServerApi, workspace: Path, path: str) -> httpx.Response:
    return api.http.get(f"/v1/sessions/{workspace.name}/files/{quote(path)}")


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_directories_are_listed_and_files_come_as_attachments(api: ServerApi, workspace: Path) -> None:
    (workspace / "out").mkdir()
    (workspace / "out" / "a b.html").write_bytes(b"<script>alert(1)</script>")
    (workspace / "link").symlink_to("/etc/passwd")
    os.mkfifo(workspace / "pipe")
    (workspace / os.fsdecode(b"\xff")).write_bytes(b"x")

    listed = api.http.get(f"/v1/sessions/{workspace.name}/files").raise_for_status().json()
    assert [(each["name"], each["kind"], each["size_bytes"]) for each in listed["entries"]] == [
        ("\\xff", "file", 1),
        ("link", "link", None),
        ("out", "directory", None),
        ("pipe", "other", None),
    ]
    inner = api.http.get(f"/v1/sessions/{workspace.name}/files", params={"path": "out"}).json()
    assert (inner["path"], inner["is_whole"], inner["entries"][0]["name"]) == ("out", True, "a b.html")
    answer = fetch(api, workspace, "out/a b.html")
    assert (answer.status_code, answer.content) == (200, b"<script>alert(1)</script>")
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''a%20b.html"
    assert answer.headers["content-security-policy"].startswith("sandbox;")


@pytest.mark.parametrize("size", [0, 1, 256 * 1024, 3_000_001])
def test_a_file_comes_whole(api: ServerApi, workspace: Path, size: int) -> None:
    content = os.urandom(size)
    (workspace / "file").write_bytes(content)
    assert fetch(api, workspace, "file").content == content


def test_nothing_outside_is_read_through_links(api: ServerApi, workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"of the machine")
    (workspace / "file").symlink_to(tmp_path / "secret")
    (workspace / "folder").symlink_to(tmp_path)
    (workspace / "inside").symlink_to("real")
    (workspace / "real").write_bytes(b"real")

    for path in ("file", "folder", "folder/secret", "inside"):
        assert code_of(fetch(api, workspace, path)) == (409, "conflict")
    listed = api.http.get(f"/v1/sessions/{workspace.name}/files", params={"path": "folder"})
    assert code_of(listed) == (409, "conflict")


@pytest.mark.parametrize(
    "path",
    ["..%2fx", "%2e%2e/%2e%2e/etc/passwd", "a//b", "./a", "%2fetc%2fpasswd", "a%00b", "a/" * 300 + "a"],
)
def test_a_path_that_leads_elsewhere_is_none(
    api: ServerApi, server: ServerProcess, workspace: Path, path: str
) -> None:
    for url in (f"/files/{path}", f"/files?path={path}"):
        # As it stands: httpx would put some of these right by itself.
        target = httpx.URL(f"{server.url}/v1/sessions/{workspace.name}{url}")
        answer = api.http.get(target)
        assert answer.status_code in (404, 422)


def test_what_is_no_file_is_neither_opened_nor_waited_for(api: ServerApi, workspace: Path) -> None:
    os.mkfifo(workspace / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        directory = os.open(workspace, os.O_RDONLY)
        try:
            listener.bind(f"/proc/self/fd/{directory}/socket")
        finally:
            os.close(directory)
        for path in ("pipe", "socket", ""):
            assert fetch(api, workspace, path).status_code in (404, 409, 422)
    (workspace / "folder").mkdir()
    assert code_of(fetch(api, workspace, "folder")) == (409, "conflict")
    assert code_of(fetch(api, workspace, "missing")) == (404, "not_found")
    assert code_of(fetch(api, workspace, "folder/missing/file")) == (404, "not_found")
    with (workspace / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    assert code_of(fetch(api, workspace, "sparse")) == (413, "payload_too_large")


def test_a_named_directory_is_read_where_the_runner_has_opened_it_and_no_other_in_its_place(
    api: ServerApi, server: ServerProcess, tmp_path: Path
) -> None:
    named = Path(os.path.realpath(tmp_path)) / "project"
    named.mkdir()
    (named / "file").write_bytes(b"mine")
    answer = api.http.post("/v1/sessions", json={"workspace": str(named)})
    if not answer.is_success:
        pytest.skip(f"a workspace cannot be here: {answer.text}")
    session = Path(answer.json()["session_id"])
    assert code_of(fetch(api, session, "file")) == (409, "workspace_unavailable")

    descriptor = os.open(named, os.O_RDONLY)
    identity = Identity.of(descriptor)
    os.close(descriptor)
    kept = server.home / "data" / "workspace" / ".workspaces" / session.name
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(os.fsencode(f"{identity}\n{named}\n"))
    assert fetch(api, session, "file").content == b"mine"

    named.rename(named.with_name("moved"))
    assert code_of(fetch(api, session, "file")) == (409, "workspace_unavailable")
    named.symlink_to(named.with_name("moved"))
    assert code_of(fetch(api, session, "file")) == (409, "workspace_unavailable")
    named.unlink()
    named.mkdir()
    (named / "file").write_bytes(b"another's")
    assert code_of(fetch(api, session, "file")) == (409, "workspace_unavailable")


def test_with_whom_a_session_is_shared_its_files_are_not(
    api: ServerApi, server: ServerProcess, workspace: Path
) -> None:
    (workspace / "file").write_bytes(b"mine")
    body = {"name": f"reader-{next(NAMES)}", "scope": "user"}
    token: str = api.http.post("/v1/tokens", json=body).raise_for_status().json()["token"]
    with server.client(token) as reader:
        assert code_of(fetch(reader, workspace, "file")) == (404, "not_found")
        shared = {"shared_with": "everybody"}
        api.http.put(f"/v1/sessions/{workspace.name}/owner", json=shared).raise_for_status()
        assert reader.http.get(f"/v1/sessions/{workspace.name}").is_success
        for path in ("/files", "/files/file"):
            assert code_of(reader.http.get(f"/v1/sessions/{workspace.name}{path}")) == (403, "forbidden")


def test_a_server_that_shares_no_machine_with_the_runners_says_so(start_server: ServerFactory) -> None:
    with start_server(environment={"MODE": "cloud"}).client() as api:
        session_id = api.http.post("/v1/sessions", json={}).raise_for_status().json()["session_id"]
        for path in ("/files", "/files/file"):
            answer = api.http.get(f"/v1/sessions/{session_id}{path}")
            assert code_of(answer) == (409, "workspace_unavailable")
            assert re.search("on the runner's machine", answer.json()["detail"])


def test_before_an_execution_there_is_no_directory(api: ServerApi) -> None:
    session_id = api.http.post("/v1/sessions", json={}).raise_for_status().json()["session_id"]
    answer = api.http.get(f"/v1/sessions/{session_id}/files")
    assert code_of(answer) == (409, "workspace_unavailable")
