"""Every route x every credential x every foreign object: what is another's is not there.

The routes are the app's own, so that a new one without a rule fails here. Each is asked by whoever may not,
with ids of things that belong to somebody else; then by their owner, so that a refusal is not that of a wrong
call.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlencode

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from server_process import ServerApi, ServerProcess, manifest, responded
from stigmer_contract.identifiers import INPUT_PREFIX, new_id
from stigmer_server.app import StigmerServer
from stigmer_server.console_files import PAGE_DIRECTORY
from stigmer_server.settings import load_settings

Reach = Literal["theirs", "own", "list", "nothing", "itself", "lease"]
"""What a caller reaches of another's.

`theirs`: the path names it, and to all but its owner it is not there. `own`: the call makes or changes what
is the caller's under that name. `list`: what is seen is listed. `nothing`: the call is about no object.
`itself`: the call ends what it is made by. `lease`: bound by what a runner leases.
"""
STAMPS: Final = count()
EVERYBODY: Final = frozenset({"user", "runner", "approve", "admin"})
READERS: Final = EVERYBODY - {"approve"}
USERS: Final = frozenset({"user", "admin"})
DECIDERS: Final = USERS | {"approve"}
RUNNERS: Final = frozenset({"runner", "admin"})
ADMINS: Final = frozenset({"admin"})
APPEND: Final[dict[str, Any]] = {"attempt": 1, "append_id": "x", "events": [responded()]}
LIVE: Final[dict[str, Any]] = {"attempt": 1, "events": [{"type": "model.delta", "turn": 1, "text": "x"}]}
HOLD: Final[dict[str, Any]] = {"attempt": 1}
LEG: Final[dict[str, Any]] = {"runner": "1@test", "runner_version": "0"}
REPORT: Final[dict[str, Any]] = {"runner": "1@test", "version": "0.1.0", "slots": 4}
ENDED: Final[dict[str, Any]] = {"runner": "1@test", "proof": "x", "how": "it was ended by signal 9"}
MOVE: Final[dict[str, Any]] = {"owner": "thief", "shared_with": "everybody"}
SIGN_IN: Final[dict[str, Any]] = {
    "agent": "theirs",
    "server": "none",
    "redirect_uri": "http://127.0.0.1:9/",
}
SECRET: Final[dict[str, Any]] = {"value": "another-value"}


@dataclass(frozen=True)
class Rule:
    """What a route answers whom."""

    scopes: frozenset[str] | None
    """None: everybody, without a token too."""
    reach: Reach
    body: dict[str, Any] | bytes | None = None
    is_done_by_owner: bool = True
    """Whether the owner's own `user` token may do it."""


RULES: Final[dict[tuple[str, str], Rule]] = {
    ("GET", "/v1/agents"): Rule(USERS, "list"),
    ("GET", "/v1/agents/{name}"): Rule(USERS, "theirs"),
    ("PUT", "/v1/agents/{name}"): Rule(USERS, "own", manifest("theirs", description="changed")),
    ("DELETE", "/v1/agents/{name}"): Rule(USERS, "theirs"),
    ("PUT", "/v1/agents/{name}/owner"): Rule(ADMINS, "theirs", MOVE, is_done_by_owner=False),
    ("GET", "/v1/agents/{name}/tool-pins"): Rule(USERS, "theirs"),
    # Theirs has no such server.
    ("POST", "/v1/agents/{name}/tool-pins/{server}/accept"): Rule(
        USERS, "theirs", {"digest": "0" * 32}, is_done_by_owner=False
    ),
    ("GET", "/v1/secrets"): Rule(USERS, "list"),
    ("PUT", "/v1/secrets/{name}"): Rule(USERS, "own", SECRET),
    ("DELETE", "/v1/secrets/{name}"): Rule(USERS, "theirs"),
    ("PUT", "/v1/secrets/{name}/owner"): Rule(ADMINS, "theirs", MOVE, is_done_by_owner=False),
    ("POST", "/v1/secrets/rotate-key"): Rule(ADMINS, "nothing", is_done_by_owner=False),
    ("GET", "/v1/sessions"): Rule(USERS, "list"),
    ("POST", "/v1/sessions"): Rule(USERS, "own", {}),
    ("GET", "/v1/sessions/{session_id}"): Rule(USERS, "theirs"),
    # Of a document that nobody has stored; who has is tried in test_session_imports.
    ("POST", "/v1/sessions/import"): Rule(USERS, "theirs", {"sha256": "0" * 64}, is_done_by_owner=False),
    ("DELETE", "/v1/sessions/{session_id}"): Rule(USERS, "theirs"),
    ("POST", "/v1/sessions/{session_id}/compact"): Rule(USERS, "theirs"),
    ("PUT", "/v1/sessions/{session_id}/owner"): Rule(ADMINS, "theirs", MOVE, is_done_by_owner=False),
    # No leg has made its directory; what its owner gets where one has is tried in test_session_files.
    ("GET", "/v1/sessions/{session_id}/files"): Rule(USERS, "theirs", is_done_by_owner=False),
    ("GET", "/v1/sessions/{session_id}/files/{path:path}"): Rule(USERS, "theirs", is_done_by_owner=False),
    ("GET", "/v1/executions"): Rule(USERS, "list"),
    ("POST", "/v1/executions"): Rule(USERS, "own", {"manifest": manifest(), "input": "x"}),
    ("GET", "/v1/executions/{execution_id}"): Rule(USERS, "theirs"),
    ("POST", "/v1/executions/{execution_id}/cancel"): Rule(USERS, "theirs"),
    ("POST", "/v1/executions/{execution_id}/retry"): Rule(USERS, "theirs"),
    ("POST", "/v1/executions/{execution_id}/pause"): Rule(USERS, "theirs"),
    ("POST", "/v1/executions/{execution_id}/resume"): Rule(USERS, "theirs"),
    ("POST", "/v1/executions/{execution_id}/messages"): Rule(USERS, "theirs", {"text": "x"}),
    ("GET", "/v1/executions/{execution_id}/artifacts"): Rule(USERS, "theirs"),
    # Here the execution has left nothing behind; that its owner gets what it has is tried in test_artifacts.
    ("GET", "/v1/executions/{execution_id}/artifacts/{path:path}"): Rule(
        USERS, "theirs", is_done_by_owner=False
    ),
    ("POST", "/v1/executions/{execution_id}/fork"): Rule(USERS, "theirs", {"at": 0}),
    # Another one of its session has not ended; that its owner may is tried in test_rewinds.
    ("POST", "/v1/executions/{execution_id}/rewind"): Rule(
        USERS, "theirs", {"at": 0}, is_done_by_owner=False
    ),
    ("GET", "/v1/executions/{execution_id}/snapshot"): Rule(USERS, "theirs"),
    ("GET", "/v1/inputs"): Rule(DECIDERS, "list"),
    ("GET", "/v1/inputs/{input_id}"): Rule(DECIDERS, "theirs"),
    ("POST", "/v1/inputs/{input_id}"): Rule(DECIDERS, "theirs", {"outcome": "denied"}),
    ("GET", "/v1/executions/{execution_id}/grants"): Rule(DECIDERS, "theirs"),
    # There is none in this world; `test_reminders` has it done.
    ("DELETE", "/v1/executions/{execution_id}/grants/{input_id}"): Rule(
        DECIDERS, "theirs", is_done_by_owner=False
    ),
    ("GET", "/v1/executions/{execution_id}/events"): Rule(READERS, "theirs"),
    ("POST", "/v1/executions/{execution_id}/events"): Rule(RUNNERS, "lease", APPEND),
    ("POST", "/v1/executions/{execution_id}/live"): Rule(RUNNERS, "lease", LIVE),
    ("POST", "/v1/executions/{execution_id}/hold"): Rule(RUNNERS, "lease", HOLD),
    ("GET", "/v1/executions/{execution_id}/tool-pins"): Rule(RUNNERS, "lease"),
    # Theirs has no such server; what their own legs get is tried in test_mcp_logins, as all that follows.
    ("POST", "/v1/executions/{execution_id}/mcp-tokens/{server}"): Rule(
        RUNNERS, "lease", {}, is_done_by_owner=False
    ),
    ("GET", "/v1/mcp-logins"): Rule(USERS, "list"),
    ("POST", "/v1/mcp-logins"): Rule(USERS, "theirs", SIGN_IN, is_done_by_owner=False),
    ("POST", "/v1/mcp-logins/{login_id}"): Rule(
        USERS, "theirs", {"state": "x", "code": "x"}, is_done_by_owner=False
    ),
    ("DELETE", "/v1/mcp-logins/{login_id}"): Rule(USERS, "theirs", is_done_by_owner=False),
    ("PUT", "/v1/executions/{execution_id}/tool-pins/{server}"): Rule(
        RUNNERS, "lease", {"tool_list": "{}"}, is_done_by_owner=False
    ),
    # Whoever has a runner's token and an id that Temporal gave it may take the execution (docs/security.md).
    ("POST", "/v1/executions/{execution_id}/legs"): Rule(RUNNERS, "nothing", LEG, is_done_by_owner=False),
    # Bound by the proof that only who named the runner has.
    ("POST", "/v1/runners/ended"): Rule(RUNNERS, "nothing", ENDED, is_done_by_owner=False),
    # Shown to people; nothing is decided by it.
    ("POST", "/v1/runners/reports"): Rule(RUNNERS, "nothing", REPORT, is_done_by_owner=False),
    ("GET", "/v1/placements"): Rule(ADMINS, "nothing", is_done_by_owner=False),
    ("POST", "/v1/placements/{placement_id}/reports"): Rule(
        ADMINS, "nothing", {"phase": "ready"}, is_done_by_owner=False
    ),
    ("GET", "/v1/blobs/{sha256}"): Rule(READERS, "theirs"),
    ("PUT", "/v1/blobs/{sha256}"): Rule(READERS, "own", b"only who has the bytes can bring them"),
    ("GET", "/v1/webhooks"): Rule(ADMINS, "nothing", is_done_by_owner=False),
    ("POST", "/v1/webhooks"): Rule(
        ADMINS, "nothing", {"name": "x", "url": "https://example.com/"}, is_done_by_owner=False
    ),
    ("POST", "/v1/webhooks/{name}/test"): Rule(ADMINS, "nothing", is_done_by_owner=False),
    ("DELETE", "/v1/webhooks/{name}"): Rule(ADMINS, "nothing", is_done_by_owner=False),
    # Whoever has a link's secret decides that one input; this is none (test_webhooks).
    ("GET", "/answer/{secret}"): Rule(None, "nothing", is_done_by_owner=False),
    ("POST", "/answer/{secret}"): Rule(None, "nothing", b"outcome=approved", is_done_by_owner=False),
    ("GET", "/v1/tokens"): Rule(USERS, "list"),
    ("POST", "/v1/tokens"): Rule(
        ADMINS, "nothing", {"name": "made-by-all", "scope": "admin"}, is_done_by_owner=False
    ),
    ("GET", "/v1/tokens/self"): Rule(EVERYBODY, "nothing"),
    ("DELETE", "/v1/tokens/{name}"): Rule(USERS, "theirs"),
    ("GET", "/v1/audit"): Rule(ADMINS, "nothing", is_done_by_owner=False),
    ("POST", "/v1/console/links"): Rule(DECIDERS, "nothing"),
    # Lets in whoever has a link's secret, and gives them no more than its token; and only from its own page.
    ("POST", "/v1/console/sessions"): Rule(None, "nothing", {"secret": "x"}, is_done_by_owner=False),
    # Of a session of the console, which no call with a token is.
    ("DELETE", "/v1/console/sessions/self"): Rule(DECIDERS, "itself", is_done_by_owner=False),
    # The page is the same for everybody; where it was not built, these say so.
    ("GET", "/"): Rule(None, "nothing"),
    ("GET", "/console"): Rule(None, "nothing"),
    ("GET", "/console/"): Rule(None, "nothing"),
    ("GET", "/console/{view}"): Rule(None, "nothing"),
    ("GET", "/console/{view}/{item}"): Rule(None, "nothing"),
    ("GET", "/console/assets/{file}"): Rule(None, "nothing"),
    ("GET", "/v1/events"): Rule(USERS, "list"),
    ("GET", "/v1/summary"): Rule(USERS, "list"),
    ("GET", "/v1/usage"): Rule(USERS, "list"),
    ("GET", "/v1/stack"): Rule(USERS, "nothing"),
    ("POST", "/v1/manifests/validate"): Rule(USERS, "nothing", {"text": "kind: Agent"}),
    ("GET", "/metrics"): Rule(USERS, "nothing"),
    ("GET", "/healthz"): Rule(None, "nothing"),
    ("GET", "/readyz"): Rule(None, "nothing"),
    ("GET", "/v1/installation"): Rule(EVERYBODY, "nothing"),
    # FastAPI's own; the Gate asks for a token.
    ("GET", "/openapi.json"): Rule(EVERYBODY, "nothing"),
}


OWNERS_ALONE: Final = (
    ("GET", "/v1/sessions/{session_id}/files"),
    ("GET", "/v1/sessions/{session_id}/files/{path:path}"),
    ("GET", "/v1/executions/{execution_id}/snapshot"),
    ("POST", "/v1/executions/{execution_id}/fork"),
    ("POST", "/v1/executions/{execution_id}/rewind"),
)
"""Routes to a session's files, as they are and as they were: with whom it is shared, they are not."""


def routes_of_the_app() -> set[tuple[str, str]]:
    """Method and path of every route that the app serves."""
    server = StigmerServer(load_settings({"STIGMER_HOME": "/nonexistent", "STIGMER_TOKEN": "none"}))
    return {
        (method, str(route.path))
        for route in iter_route_contexts(server.routes)
        for method in route.methods or set()
        if method != "HEAD"
    }


ROUTES: Final = sorted(routes_of_the_app())


def test_every_route_of_the_app_has_a_rule() -> None:
    assert set(ROUTES) == set(RULES)


@dataclass
class World:
    """One of everything, all of one owner; and callers of every kind."""

    server: ServerProcess
    owner: ServerApi
    clients: dict[str, ServerApi]
    """By what they may: `user`, `runner` and `admin` of others, and one of the owner's that was `revoked`."""
    ids: dict[str, str]
    """By the name of a path's parameter; names of objects by their collection."""
    strange_lease: str
    """Of the runner, for an execution of somebody else than the owner."""
    owner_name: str
    content: bytes
    """Of the blob."""

    def path(self, template: str, *, missing: bool = False) -> str:
        """The path to the owner's object, or to one like it that is not there."""
        ids = self.ids if not missing else dict.fromkeys(self.ids, "missing") | {"sha256": "0" * 64}
        collection = template.split("/")[2] if template.count("/") > 1 else ""
        return template.replace(":path}", "}").format_map(ids | {"name": ids.get(collection, "")})

    def seen_by_owner(self) -> dict[str, Any]:
        """All that the owner sees of theirs, to find whether anything has changed."""
        paths = [self.path(path) for method, path in ROUTES if method == "GET" and path.startswith("/v1")]
        answers = {path: self.owner.http.get(path) for path in paths if path not in UNSTEADY}
        return {path: (answer.status_code, STANDING.sub("", answer.text)) for path, answer in answers.items()}


UNSTEADY: Final = {"/v1/audit", "/v1/tokens", "/v1/stack"}
"""What the owner may not read, and what tells when a token was last used, or a runner heard of."""
STANDING: Final = re.compile(r'"(pending|standing)_reason":(null|"([^"\\]|\\.)*"),')
"""Why an execution stands still: said of one that nothing has become of for some seconds, by time alone."""


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def server(
    request: pytest.FixtureRequest,
    make_database: Callable[[str], str | None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ServerProcess]:
    """A server without Temporal, so that executions stay as they are."""
    kind: str = request.param
    home: Path = tmp_path_factory.mktemp(f"routes-{kind}")
    with ServerProcess(home, database_url=make_database(kind)) as process:
        yield process
        assert "Traceback" not in process.log_file.read_text(encoding="utf-8")


@pytest.fixture
def world(server: ServerProcess) -> Iterator[World]:
    """A world of its own for each test, since what may be done is done in it."""
    stamp = next(STAMPS)
    with ExitStack() as stack:
        admin = stack.enter_context(server.client())

        def client(name: str, scope: str, **request: Any) -> ServerApi:
            body = {"name": f"{name}-{stamp}", "scope": scope, **request}
            token: str = admin.http.post("/v1/tokens", json=body).raise_for_status().json()["token"]
            return stack.enter_context(server.client(token))

        name, content = f"alice-{stamp}", f"alice's bytes {stamp}".encode()
        owner = client("alice", "user", owner=name)
        clients = {scope: client(scope, scope) for scope in ("user", "runner", "approve", "admin")}
        clients["revoked"] = client("revoked", "user", owner=name)
        admin.http.delete(f"/v1/tokens/revoked-{stamp}").raise_for_status()
        client("spare", "user", owner=name)
        strange = clients["user"].create_execution()["execution_id"]
        lease = clients["runner"].start_leg(strange)["lease"]
        yield World(server, owner, clients, make_objects(owner, admin, stamp, content), lease, name, content)


def make_objects(owner: ServerApi, admin: ServerApi, stamp: int, content: bytes) -> dict[str, str]:
    """One of everything, and how it is named."""
    secret = f"SECRET_{stamp}"
    owner.http.put("/v1/agents/theirs", json=manifest("theirs")).raise_for_status()
    owner.http.put(f"/v1/secrets/{secret}", json={"value": "a-value-of-alice"}).raise_for_status()
    sha256 = hashlib.sha256(content).hexdigest()
    owner.http.put(f"/v1/blobs/{sha256}", content=content).raise_for_status()
    execution = owner.create_execution(agent="theirs")
    asking = owner.create_execution(agent="theirs")["execution_id"]
    admin.start_leg(asking)
    input_id = new_id(INPUT_PREFIX)
    asked: dict[str, Any] = {
        "type": "input.requested",
        "input_id": input_id,
        "kind": "approval",
        "turn": 1,
        "call_id": "call",
        "tool": "run_command",
        "title": "Push?",
        "content": {"kind": "inline", "value": {"toolset": "shell", "tool": "run_command", "arguments": {}}},
    }
    assert admin.append(asking, [responded(), asked]).is_success
    return {
        "input_id": input_id,
        "session_id": execution["session_id"],
        "execution_id": execution["execution_id"],
        "placement_id": "none",
        "path": "report.md",
        "secret": "none",
        "server": "none",
        "login_id": "none",
        "sha256": sha256,
        "agents": "theirs",
        "secrets": secret,
        "tokens": f"spare-{stamp}",
        "webhooks": "none",
        "view": "executions",
        "item": execution["execution_id"],
        "file": next((file.name for file in PAGE_DIRECTORY.glob("assets/*")), "none"),
    }


def ask(
    client: ServerApi | None, world: World, method: str, path: str, body: dict[str, Any] | bytes | None
) -> httpx.Response:
    """Make a call, without a token where there is no client."""
    options: dict[str, Any] = {} if body is None else {"content" if isinstance(body, bytes) else "json": body}
    if client is None:
        return httpx.request(method, f"{world.server.url}{path}", trust_env=False, **options)
    return client.http.request(method, path, **options)


def without_id(answer: httpx.Response, *ids: str) -> str:
    text = answer.text
    for one in ids:
        text = text.replace(one, "ID")
    return text


@pytest.mark.parametrize(("method", "template"), ROUTES)
def test_a_route_tells_and_does_nothing_to_whom_it_is_not_for(
    world: World, method: str, template: str
) -> None:
    rule = RULES[method, template]
    path = world.path(template)
    before = world.seen_by_owner()

    for name in (None, "revoked"):
        status = ask(world.clients[name] if name else None, world, method, path, rule.body).status_code
        assert status == 401 or (rule.scopes is None and status in (200, 404, 503))
    for scope in EVERYBODY - (rule.scopes or EVERYBODY):
        answer = ask(world.clients[scope], world, method, path, rule.body)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    if not rule.is_done_by_owner and "user" not in (rule.scopes or EVERYBODY):
        assert ask(world.owner, world, method, path, rule.body).status_code == 403
    if "runner" in (rule.scopes or ()) and rule.reach != "nothing":
        check_runner(world, rule, method, path)
    if "user" in (rule.scopes or ()):
        check_stranger(world, rule, method, template)

    assert world.seen_by_owner() == before


def check_runner(world: World, rule: Rule, method: str, path: str) -> None:
    """Without a lease nothing, and with one of another execution no more than that one is good for."""
    runner = world.clients["runner"]
    assert ask(runner, world, method, path, rule.body).status_code == 403
    if rule.reach == "own":
        return
    runner.http.headers["Stigmer-Lease"] = world.strange_lease
    try:
        assert ask(runner, world, method, path, rule.body).status_code == 403
    finally:
        del runner.http.headers["Stigmer-Lease"]


def check_stranger(world: World, rule: Rule, method: str, template: str) -> None:
    """What is another's answers like what is not there, and is in no list."""
    stranger = world.clients["user"]
    path = world.path(template)
    answer = ask(stranger, world, method, path, rule.body)
    ids = [value for value in world.ids.values() if value != "theirs"]
    if rule.reach == "theirs":
        body = rule.body
        if isinstance(body, dict):
            body = {name: "missing" if value == "theirs" else value for name, value in body.items()}
        missing = ask(stranger, world, method, world.path(template, missing=True), body)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert without_id(answer, *ids, "theirs", "0" * 64) == without_id(missing, "missing", "0" * 64)
    elif rule.reach == "list":
        assert answer.status_code == 200
        assert not [one for one in ids if one in answer.text]
    elif rule.reach == "own":
        # A blob's name is that of other bytes, which the stranger does not have.
        assert answer.status_code in ({422} if "{sha256}" in template else {200, 201})
    elif rule.reach == "itself":
        assert answer.status_code == 403
    else:
        assert answer.is_success


@pytest.mark.parametrize(("method", "template"), OWNERS_ALONE)
def test_with_whom_a_session_is_shared_its_files_are_not(world: World, method: str, template: str) -> None:
    path, body = world.path(template), RULES[method, template].body
    shared = {"shared_with": "everybody"}
    moved = world.clients["admin"].http.put(f"/v1/sessions/{world.ids['session_id']}/owner", json=shared)
    assert moved.is_success
    stranger = world.clients["user"]
    before = world.seen_by_owner()

    assert stranger.http.get(f"/v1/executions/{world.ids['execution_id']}").is_success
    refused = ask(stranger, world, method, path, body)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert world.seen_by_owner() == before
    for caller in (world.owner, world.clients["admin"]):
        assert ask(caller, world, method, path, body).status_code != 403


@pytest.mark.parametrize(
    ("method", "template"), [route for route, rule in RULES.items() if rule.is_done_by_owner]
)
def test_whoever_it_is_for_is_let_in(world: World, method: str, template: str) -> None:
    rule = RULES[method, template]
    body = world.content if isinstance(rule.body, bytes) else rule.body
    path, callers = world.path(template), [world.owner, world.clients["admin"]]
    if (method, template) == ("DELETE", "/v1/sessions/{session_id}"):
        world.owner.http.post(f"/v1/executions/{world.ids['execution_id']}/cancel").raise_for_status()
    if template.endswith("/resume"):
        world.owner.http.post(f"/v1/executions/{world.ids['execution_id']}/pause").raise_for_status()
        callers = callers[:1]
    if template.endswith("/retry"):
        world.clients["admin"].fail_execution(world.ids["execution_id"])
    if rule.reach == "lease":
        runner = world.clients["runner"]
        runner.http.headers["Stigmer-Lease"] = runner.start_leg(world.ids["execution_id"])["lease"]
        callers = [runner]
    if method == "DELETE" or (template == "/v1/inputs/{input_id}" and method == "POST"):
        callers = callers[:1]

    for caller in callers:
        named = {"owner": world.owner_name} if "{name}" in template and "tokens" not in template else {}
        answer = ask(caller, world, method, f"{path}?{urlencode(named)}", body)
        assert answer.is_success or (answer.status_code == 503 and may_be_away(template)), answer.text


def may_be_away(template: str) -> bool:
    """Whether a path answers for what this server may be without: Temporal, the console's page."""
    return template in ("/", "/readyz") or template.startswith("/console")
