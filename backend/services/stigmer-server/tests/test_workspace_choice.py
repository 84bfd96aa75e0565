"""Whose call may have a session work in which directory."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from server_process import ServerApi, ServerFactory, ServerProcess, manifest


@pytest.fixture
def user(server: ServerProcess, api: ServerApi) -> Iterator[ServerApi]:
    """A caller with a token of the scope `user`."""
    answer = api.http.post("/v1/tokens", json={"name": f"test-{uuid4().hex[:12]}", "scope": "user"})
    with server.client(answer.json()["token"]) as client:
        yield client


def choose(api: ServerApi, workspace: Path | str) -> tuple[int, str]:
    """The status of a new session, and what was said: its workspace, or the problem's code."""
    answer = api.http.post("/v1/sessions", json={"workspace": str(workspace)})
    execution = api.http.post(
        "/v1/executions", json={"input": "x", "manifest": manifest(), "workspace": str(workspace)}
    )
    assert execution.status_code == answer.status_code  # the same choice, by the other way
    body = answer.json()
    return answer.status_code, body["workspace"] if answer.status_code == 201 else body["code"]


REFUSED = (422, "invalid_request")


def test_nobody_gets_the_servers_own_state_or_what_the_machine_is_made_of(
    api: ServerApi, user: ServerApi, server: ServerProcess
) -> None:
    home = server.home
    paths = [home, home / "run", home / "data" / "workspace" / "ses_x", home.parent, Path.home(), "/", "/etc"]
    for path in [*paths, Path.home() / ".ssh", Path(pytest.__file__).parent, "/tmp", "/usr/local"]:
        assert choose(api, path) == REFUSED, path
        is_theirs = Path(path).is_relative_to(Path.home())
        assert choose(user, path) == (REFUSED if is_theirs else (403, "forbidden")), path


def test_a_refusal_says_what_to_do_instead(api: ServerApi) -> None:
    problem = api.http.post("/v1/sessions", json={"workspace": str(Path.home())}).json()
    assert problem["detail"].startswith(f"could not use the workspace {str(Path.home())!r}: it ")
    assert problem["hint"].startswith("name a directory")


def test_the_administrator_may_choose_any_other_directory_and_a_user_what_lies_in_the_home(
    api: ServerApi, user: ServerApi, tmp_path_factory: pytest.TempPathFactory
) -> None:
    own = tmp_path_factory.mktemp("own")
    assert choose(api, own) == (201, str(own))
    assert choose(api, "/srv/elsewhere") == (201, "/srv/elsewhere")
    assert choose(user, own) == (403, "forbidden")
    assert choose(user, "/srv/elsewhere") == (403, "forbidden")
    project = str(Path.home() / "project")
    assert choose(user, project) == (201, project)


def test_roots_bind_all_but_the_administrator_and_links_are_not_taken(
    start_server: ServerFactory, tmp_path_factory: pytest.TempPathFactory
) -> None:
    roots = tmp_path_factory.mktemp("roots")
    for name in ("one/project", "two", "one-more"):
        (roots / name).mkdir(parents=True)
    (roots / "one" / "out").symlink_to(roots / "one-more")
    (roots / "one" / "in").symlink_to(roots / "one" / "project")
    server = start_server(environment={"STIGMER_WORKSPACE_ROOTS": f"{roots / 'one'}:{roots / 'two'}"})
    with server.client() as api:
        token = api.http.post("/v1/tokens", json={"name": "ann", "scope": "user"}).json()["token"]
        with server.client(token) as user:
            for name in ("one", "one/project", "two", "two/later"):
                assert choose(user, roots / name) == (201, str(roots / name))
            assert choose(user, roots / "one" / "in") == REFUSED
            for name in ("one-more", "one/out", "one/../one-more", "."):
                assert choose(user, f"{roots}/{name}")[0] in (403, 422), name
        assert choose(api, roots / "one-more") == (201, str(roots / "one-more"))


def test_of_what_lies_outside_its_roots_a_token_learns_nothing(
    start_server: ServerFactory, tmp_path_factory: pytest.TempPathFactory
) -> None:
    roots, outside = tmp_path_factory.mktemp("roots"), tmp_path_factory.mktemp("outside")
    (roots / "narrow").mkdir()
    (roots / "beside").mkdir()
    (outside / "there").mkdir()
    (outside / "file").write_text("x", encoding="utf-8")
    (outside / "link").symlink_to("/etc")
    (outside / "loop").symlink_to("loop")
    targets = [
        outside,
        "/etc",
        "/root/.ssh",
        Path.home(),
        *(outside / name for name in ("link", "loop", "none")),
    ]
    targets += [outside / "there", outside / "there" / "none", outside / "file", f"/{'a' * 300}"]
    for number, target in enumerate(targets):
        (roots / f"link{number}").symlink_to(target)
        (roots / "narrow" / f"link{number}").symlink_to(roots / "beside" if number == 0 else target)
    server = start_server(environment={"STIGMER_WORKSPACE_ROOTS": str(roots)})
    with server.client() as api:
        token = api.http.post("/v1/tokens", json={"name": "ann", "scope": "user"}).json()["token"]
        policy = {"allow_workspaces": [str(roots / "narrow")]}
        bound = api.http.post("/v1/tokens", json={"name": "bob", "scope": "user", "policy": policy})
        said = set[tuple[int, str]]()
        paths = [(token, str(target)) for target in targets]
        paths += [
            (token, f"{roots}/link{number}{end}") for number in range(len(targets)) for end in ("", "/x")
        ]
        paths += [(bound.json()["token"], f"{roots}/narrow/link{number}") for number in range(len(targets))]
        for key, path in paths:
            with server.client(key) as caller:
                answer = caller.http.post("/v1/sessions", json={"workspace": path})
            problem = answer.json()
            said.add(
                (answer.status_code, problem["detail"].replace(repr(path), "PATH").replace("bob", "ann"))
            )
    assert said == {(403, "token 'ann' may not choose the workspace PATH")}


@pytest.mark.parametrize("below", ["", "/below", "/missing"])
def test_a_path_through_a_link_is_refused_with_the_one_to_name_instead(
    below: str, api: ServerApi, tmp_path_factory: pytest.TempPathFactory
) -> None:
    own = tmp_path_factory.mktemp("own")
    (own / "project" / "below").mkdir(parents=True)
    (own / "link").symlink_to("project")
    problem = api.http.post("/v1/sessions", json={"workspace": f"{own}/link{below}"})
    assert problem.status_code == 422
    assert problem.json()["detail"] == (
        f"could not use the workspace '{own}/link{below}': '{own}/link' is a symbolic link"
    )
    assert problem.json()["hint"] == f"name '{own}/project{below}' instead"


def test_in_the_cloud_users_choose_none_unless_roots_are_set(start_server: ServerFactory) -> None:
    server = start_server(environment={"MODE": "cloud"})
    with server.client() as api:
        token = api.http.post("/v1/tokens", json={"name": "ann", "scope": "user"}).json()["token"]
        with server.client(token) as user:
            assert choose(user, Path.home() / "project") == (403, "forbidden")
            assert user.http.post("/v1/sessions", json={}).status_code == 201
        assert choose(api, "/home/ann/project") == (201, "/home/ann/project")
        assert choose(api, "/home/ann") == REFUSED


@pytest.mark.parametrize("workspace", ["project", "", "/srv/../etc", "/a" * 500_000, "/a\0b"])
def test_what_is_no_path_is_refused(workspace: str, api: ServerApi) -> None:
    assert choose(api, workspace) == REFUSED


@pytest.mark.parametrize("path", ["/etc/passwd", "/no/such/file", "relative.yaml"])
def test_only_the_administrator_has_a_runner_open_a_file_as_a_cassette(
    path: str, api: ServerApi, user: ServerApi
) -> None:
    model, name = f"replay:{path}", f"reader-{uuid4().hex[:8]}"
    calls = [
        ("POST", "/v1/executions", {"input": "x", "manifest": manifest(), "model": model}),
        ("POST", "/v1/executions", {"input": "x", "manifest": manifest(model=model)}),
        ("PUT", f"/v1/agents/{name}", manifest(name, model=model)),
    ]
    for method, route, body in calls:
        answer = user.http.request(method, route, json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert api.http.request(method, route, json=body).status_code == 201
    given = api.http.post(
        "/v1/executions", json={"input": "x", "manifest": manifest(), "model": model}
    ).json()
    owner = {"owner": user.http.get("/v1/tokens/self").json()["owner"]}
    api.http.put(f"/v1/sessions/{given['session_id']}/owner", json=owner).raise_for_status()
    fork = f"/v1/executions/{given['execution_id']}/fork"
    assert user.http.post(fork, json={"at": 0}).status_code == 403  # it would have its parent's model
    other = f"replay:sha256:{'0' * 64}"
    assert user.http.post(fork, json={"at": 0, "model": other}).status_code == 201
    assert api.http.post(fork, json={"at": 0}).status_code == 201
    uploaded = {"input": "x", "manifest": manifest(), "model": f"replay:sha256:{'0' * 64}"}
    assert user.http.post("/v1/executions", json=uploaded).status_code == 201
