"""People sign in at MCP servers: what is kept is theirs, renewed once at a time, and shown to legs alone."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import pytest

from mcp_http_server import McpHttpServer
from mcp_sign_in_server import McpSignInServer, files_with
from server_process import WAIT_SECONDS, ServerApi, ServerProcess, completed, manifest, responded
from stigmer_contract.api import LEASE_HEADER
from stigmer_contract.identifiers import INPUT_PREFIX, new_id
from stigmer_contract.inputs import SIGNED_IN, Login
from stigmer_contract.mcp_logins import login_id_of, rejected_digest, resource_of

REDIRECT = "http://127.0.0.1:9/back"
ALLOWED: Final = {"STIGMER_MCP_ALLOW_HOSTS": "127.0.0.1"}
NO_TOKEN: Final = {"access_token": None, "problem": None}
OF_TWO: Final = (
    "from stigmer_server import __main__, mcp_logins; mcp_logins.MAX_SIGN_INS = 2; __main__.main()"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("logins"), environment=ALLOWED) as process:
        yield process


@pytest.fixture
def api(server: ServerProcess) -> Iterator[ServerApi]:
    with server.client() as client:
        yield client


@pytest.fixture
def person(server: ServerProcess, api: ServerApi) -> Iterator[ServerApi]:
    """Somebody of their own."""
    with server.client(new_person(api)) as client:
        yield client


@pytest.fixture
def web() -> Iterator[McpSignInServer]:
    with McpSignInServer() as running:
        yield running


def new_person(api: ServerApi) -> str:
    """The token of somebody who was not there before."""
    name = f"person-{uuid4().hex[:8]}"
    request = {"name": name, "scope": "user", "owner": name}
    made: str = api.http.post("/v1/tokens", json=request).raise_for_status().json()["token"]
    return made


def browse(link: str) -> dict[str, str]:
    """What a browser that opens the page is sent back with."""
    location = httpx.get(link, trust_env=False).headers["location"]
    assert location.startswith(f"{REDIRECT}?")
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}


def begin(person: ServerApi, **where: Any) -> httpx.Response:
    return person.http.post("/v1/mcp-logins", json={"redirect_uri": REDIRECT, **where})


def finish(person: ServerApi, begun: dict[str, Any]) -> httpx.Response:
    answer = browse(begun["authorization_url"])
    return person.http.post(f"/v1/mcp-logins/{begun['login_id']}", json=answer)


def sign_in(person: ServerApi, web: McpSignInServer, **options: Any) -> dict[str, Any]:
    begun = begin(person, **{"url": web.url, **options}).raise_for_status().json()
    return finish(person, begun).raise_for_status().json()


def leg_of(api: ServerApi, person: ServerApi, url: str, **fields: Any) -> str:
    """An execution of the person's, whose agent has the server as `shop`."""
    spec: dict[str, Any] = {"mcpServers": [{"name": "shop", "url": url, **fields}]}
    return person.create_execution(manifest=manifest(**spec), input="x")["execution_id"]


def token(api: ServerApi, execution_id: str, rejected: str | None = None) -> dict[str, Any]:
    body = {} if rejected is None else {"rejected": rejected_digest(rejected)}
    answer = api.http.post(f"/v1/executions/{execution_id}/mcp-tokens/shop", json=body)
    return answer.raise_for_status().json()


def test_a_leg_is_given_the_token_of_its_owner_s_sign_in_at_just_that_server(
    api: ServerApi, person: ServerApi, web: McpSignInServer
) -> None:
    signed_in = sign_in(person, web)
    assert (signed_in["url"], signed_in["issuer"]) == (web.url, web.issuer)
    assert (signed_in["scopes"], signed_in["is_renewed"]) == (["read"], True)
    [access, refresh] = web.authorization.given
    assert token(api, leg_of(api, person, web.url)) == {"access_token": access, "problem": None}
    assert token(api, leg_of(api, person, f"{web.issuer}/other")) == NO_TOKEN
    assert token(api, leg_of(api, api, web.url)) == NO_TOKEN
    own = {"Authorization": "Bearer of-the-manifest"}
    assert token(api, leg_of(api, person, web.url, headers=own)) == NO_TOKEN
    listed = person.http.get("/v1/mcp-logins").raise_for_status()
    assert [each["login_id"] for each in listed.json()["logins"]] == [login_id_of(web.url)]
    assert access not in listed.text
    assert refresh not in listed.text
    assert api.http.get("/v1/mcp-logins").json()["logins"] == []


def test_what_a_server_asks_for_with_the_first_question_is_what_the_sign_in_asks_for(
    person: ServerApi, web: McpSignInServer
) -> None:
    web.begins_with_everybody = True
    assert sign_in(person, web)["scopes"] == ["write"]
    assert web.calls == []


def test_a_server_that_does_not_answer_the_first_question_is_signed_in_at_all_the_same(
    person: ServerApi, web: McpSignInServer
) -> None:
    web.hangs_up_on_strangers = True
    assert sign_in(person, web)["scopes"] == ["read"]


def test_nobody_finds_a_token_in_lists_of_secrets_in_the_database_or_in_the_log(
    server: ServerProcess, api: ServerApi, person: ServerApi, web: McpSignInServer
) -> None:
    sign_in(person, web)
    token(api, leg_of(api, person, web.url), rejected=web.authorization.given[0])
    assert len(web.authorization.given) == 4
    for client in (person, api):
        assert web.url not in client.http.get("/v1/secrets?limit=500").text
    assert files_with(server.home, [*web.authorization.given, *web.authorization.clients]) == []


def test_what_has_expired_or_is_not_taken_is_renewed_once_however_many_ask(
    api: ServerApi, person: ServerApi, web: McpSignInServer
) -> None:
    web.authorization.lasts_seconds = 1
    sign_in(person, web)
    web.authorization.lasts_seconds = 3600
    executions = [leg_of(api, person, web.url) for _ in range(6)]

    def ask(rejected: str | None) -> set[str]:
        with ThreadPoolExecutor(6) as threads:
            asked = [threads.submit(token, api, each, rejected) for each in executions]
            return {each.result()["access_token"] for each in asked}

    [renewed] = ask(None)
    assert web.authorization.renewals == 1
    [again] = ask(renewed)
    assert web.authorization.renewals == 2
    assert again in web.authorization.live


def test_an_authorization_server_that_is_away_ends_no_sign_in_and_one_that_refuses_does(
    api: ServerApi, person: ServerApi, web: McpSignInServer
) -> None:
    sign_in(person, web)
    execution_id, first = leg_of(api, person, web.url), web.authorization.given[0]
    web.authorization.answers_token_calls_with = 503
    away = token(api, execution_id, rejected=first)
    assert away == {
        "access_token": None,
        "problem": "it could not be renewed: the authorization server answered 503",
    }
    web.authorization.answers_token_calls_with = None
    renewed = token(api, execution_id, rejected=first)["access_token"]
    assert renewed is not None
    web.authorization.end_sign_ins()
    over = {"access_token": None, "problem": "it has expired, or was taken back"}
    assert token(api, execution_id, rejected=renewed) == over
    assert token(api, execution_id) == over
    [known] = person.http.get("/v1/mcp-logins").json()["logins"]
    assert known["problem"] == "it has expired, or was taken back"
    sign_in(person, web)
    assert token(api, execution_id)["access_token"] in web.authorization.live


def test_signing_out_forgets_and_takes_back(api: ServerApi, person: ServerApi, web: McpSignInServer) -> None:
    login_id = sign_in(person, web)["login_id"]
    assert api.http.delete(f"/v1/mcp-logins/{login_id}").status_code == 404
    assert person.http.delete(f"/v1/mcp-logins/{login_id}").status_code == 204
    assert web.authorization.revoked == [web.authorization.given[1]]
    assert token(api, leg_of(api, person, web.url))["access_token"] is None
    assert person.http.delete(f"/v1/mcp-logins/{login_id}").status_code == 404


def asks_for_login(api: ServerApi, execution_id: str, url: str) -> str:
    """Have a runner put down that the server `shop` wants more than it was shown."""
    api.start_leg(execution_id)
    input_id = new_id(INPUT_PREFIX)
    challenge = 'Bearer error="insufficient_scope", scope="write", error_description="naïve"'
    login = Login(text="Sign in", url=url, status=403, challenge=challenge)
    asked: dict[str, Any] = {
        "type": "input.requested",
        "input_id": input_id,
        "kind": "login",
        "turn": 1,
        "call_id": "call",
        "toolset": "shop",
        "tool": "shop__add",
        "title": "Sign in",
        "content": {"kind": "inline", "value": login.model_dump(mode="json")},
        "answer_schema": {"type": "string", "enum": [SIGNED_IN]},
    }
    api.append(execution_id, [responded(), asked]).raise_for_status()
    return input_id


def test_signing_in_answers_what_waits_for_it_and_asks_for_what_the_server_wanted(
    api: ServerApi, person: ServerApi, web: McpSignInServer
) -> None:
    sign_in(person, web)
    executions = [leg_of(api, person, web.url), leg_of(api, api, web.url)]
    mine, others = (asks_for_login(api, each, web.url) for each in executions)
    assert begin(person, input_id=others).status_code == 404
    assert begin(api, input_id=mine).status_code == 404
    begun = begin(person, input_id=mine).raise_for_status().json()
    assert finish(person, begun).raise_for_status().json()["scopes"] == ["read", "write"]
    resolved = person.http.get(f"/v1/inputs/{mine}").raise_for_status().json()["resolution"]
    assert resolved["outcome"] == "answered"
    assert api.http.get(f"/v1/inputs/{others}").raise_for_status().json()["resolution"] is None
    assert token(api, executions[0])["access_token"] == web.authorization.given[-2]


@pytest.mark.parametrize("changed", ["state", "iss", "code"])
def test_an_answer_that_is_not_of_this_sign_in_leads_to_nothing(
    person: ServerApi, web: McpSignInServer, changed: str
) -> None:
    begun = begin(person, url=web.url).raise_for_status().json()
    answer = browse(begun["authorization_url"]) | {changed: "https://elsewhere.example"}
    path = f"/v1/mcp-logins/{begun['login_id']}"
    refused = person.http.post(path, json=answer)
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert person.http.post(path, json=answer).status_code == 404
    assert person.http.get("/v1/mcp-logins").json()["logins"] == []


def test_what_somebody_else_began_or_refused_is_not_finished(
    api: ServerApi, person: ServerApi, web: McpSignInServer
) -> None:
    begun = begin(person, url=web.url).raise_for_status().json()
    answer = browse(begun["authorization_url"])
    path = f"/v1/mcp-logins/{begun['login_id']}"
    assert api.http.post(path, json=answer).status_code == 404
    refused = person.http.post(path, json={"state": answer["state"], "error": "access_denied"})
    assert (refused.status_code, refused.json()["detail"]) == (409, "the sign-in was refused: access_denied")


def test_a_server_that_wants_nobody_to_sign_in_is_told_so(person: ServerApi, web: McpSignInServer) -> None:
    with McpHttpServer() as plain:
        refused = begin(person, url=plain.url)
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert "names no authorization server" in refused.json()["detail"]
    agent = f"agent-{uuid4().hex[:8]}"
    servers = [{"name": "started", "command": ["x"]}]
    person.http.put(f"/v1/agents/{agent}", json=manifest(agent, mcpServers=servers)).raise_for_status()
    assert begin(person, agent=agent, server="started").status_code == 422
    assert begin(person, agent=agent, server="missing").status_code == 404
    assert begin(person, agent=agent).status_code == 422
    assert begin(person, url=web.url, agent=agent, server="started").status_code == 422


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1/mcp", "http://user:word@127.0.0.1/", "http://a b/", "file:///etc/passwd", "x"]
)
def test_what_is_no_address_of_a_server_is_refused(person: ServerApi, url: str) -> None:
    assert begin(person, url=url).status_code == 422


def test_redirects_lead_to_the_caller_s_machine_only(person: ServerApi, web: McpSignInServer) -> None:
    body = {"url": web.url, "redirect_uri": "https://elsewhere.example/"}
    assert person.http.post("/v1/mcp-logins", json=body).status_code == 422


@pytest.mark.parametrize("host", ["localhost", "[::1]", "0x7f.1", "169.254.169.254"])
def test_addresses_that_the_operator_has_not_allowed_are_not_called(person: ServerApi, host: str) -> None:
    refused = begin(person, url=f"https://{host}:9/mcp")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert "STIGMER_MCP_ALLOW_HOSTS" in refused.json()["detail"]


def test_one_server_has_one_address_however_it_is_written() -> None:
    assert resource_of("HTTPS://Example.com:443/mcp#x") == "https://example.com/mcp"
    assert resource_of("https://example.com") == "https://example.com/"
    assert login_id_of("https://example.com/a") != login_id_of("https://example.com/b")


def test_a_leg_that_is_over_is_given_no_token_any_more(
    api: ServerApi, person: ServerApi, web: McpSignInServer
) -> None:
    sign_in(person, web)
    execution_id = leg_of(api, person, web.url)
    leases = [api.start_leg(execution_id)["lease"] for _ in range(2)]

    def ask(lease: str) -> httpx.Response:
        path = f"/v1/executions/{execution_id}/mcp-tokens/shop"
        return api.http.post(path, json={}, headers={LEASE_HEADER: lease})

    assert ask(leases[0]).json()["code"] == "attempt_superseded"
    assert ask(leases[1]).raise_for_status().json()["access_token"] == web.authorization.given[0]
    api.append(execution_id, [completed("Done.")], attempt=2).raise_for_status()
    assert ask(leases[1]).json()["code"] == "execution_ended"


def test_a_sign_in_that_is_begun_anew_ends_the_one_before(person: ServerApi) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(2) as threads:
        silent.settimeout(WAIT_SECONDS)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/mcp"
        first = threads.submit(begin, person, url=url)
        asked, _ = silent.accept()
        second = threads.submit(begin, person, url=url)
        refused = first.result(WAIT_SECONDS)
        asked_again, _ = silent.accept()
        asked.close()
        asked_again.close()
        unanswered = second.result(WAIT_SECONDS)
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert refused.json()["detail"] == f"the sign-in at {url} was given up for one that was begun later"
    assert (unanswered.status_code, unanswered.json()["code"]) == (409, "conflict")
    assert "cannot be asked" in unanswered.json()["detail"]


def test_whoever_begins_many_sign_ins_ends_nobody_else_s(tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path, environment=ALLOWED, program=OF_TWO) as server,
        server.client() as api,
        server.client(new_person(api)) as one,
        server.client(new_person(api)) as many,
        McpSignInServer() as first,
        McpSignInServer() as second,
    ):
        begun = begin(one, url=first.url).raise_for_status().json()
        given_up, last = (begin(many, url=web.url).raise_for_status().json() for web in (first, second))
        assert finish(one, begun).status_code == 200
        assert finish(many, given_up).status_code == 404
        assert finish(many, last).status_code == 200


def test_sign_ins_whose_key_is_gone_are_none_and_can_be_forgotten(tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path, environment=ALLOWED) as server,
        server.client() as api,
        server.client(new_person(api)) as person,
        McpSignInServer() as web,
    ):
        login_id = sign_in(person, web)["login_id"]
        (tmp_path / "secrets.key").unlink()
        assert person.http.get("/v1/mcp-logins").raise_for_status().json()["logins"] == []
        assert token(api, leg_of(api, person, web.url)) == NO_TOKEN
        secret = {"value": "another-value"}
        assert api.http.put("/v1/secrets/OTHER", json=secret).json()["code"] == "secrets_key_unusable"
        assert [person.http.delete(f"/v1/mcp-logins/{login_id}").status_code for _ in range(2)] == [204, 404]
        assert api.http.put("/v1/secrets/OTHER", json=secret).status_code == 201
        sign_in(person, web)
        assert token(api, leg_of(api, person, web.url))["access_token"] == web.authorization.given[-2]


def test_a_server_s_address_may_be_written_otherwise_than_it_is_sent(
    api: ServerApi, person: ServerApi, web: McpSignInServer
) -> None:
    url = f'{web.url}?of="all"'
    assert sign_in(person, web, url=url)["url"] == url
    renewed = token(api, leg_of(api, person, url), rejected=web.authorization.given[0])
    assert renewed["access_token"] == web.authorization.given[2]
    assert web.seen == []


def test_a_token_that_cannot_be_renewed_is_given_until_its_end(
    api: ServerApi, person: ServerApi, web: McpSignInServer
) -> None:
    web.authorization.gives_refresh_tokens, web.authorization.lasts_seconds = False, 29
    sign_in(person, web)
    execution_id = leg_of(api, person, web.url)
    assert token(api, execution_id)["access_token"] == web.authorization.given[0]
    over = {"access_token": None, "problem": "it has expired"}
    assert token(api, execution_id, rejected=web.authorization.given[0]) == over


def test_a_token_that_lasts_longer_than_any_clock_goes_and_a_state_that_is_none_are_refused(
    person: ServerApi, web: McpSignInServer
) -> None:
    web.authorization.lasts_seconds = 10**400
    begun = begin(person, url=web.url).raise_for_status().json()
    path = f"/v1/mcp-logins/{begun['login_id']}"
    assert person.http.post(path, json={"state": "é", "code": "x"}).status_code == 422
    refused = finish(person, begun)
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
