"""Signing in to the console: who gets in, with what, from where, and for how long."""

import re
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest

from server_process import TOKEN, ServerApi, ServerFactory, ServerProcess, responded, wait_until
from stigmer_server.console_files import NOT_BUILT, PAGE_DIRECTORY

SIGN_IN: Final = "/v1/console/sessions"
WHO: Final = "/v1/tokens/self"


@dataclass(frozen=True)
class Page:
    """A browser's page that is signed in: what it keeps, and what it calls."""

    server: ServerProcess
    cookie_name: str
    cookie: str
    secret: str

    @property
    def headers(self) -> dict[str, str]:
        """What the page and the browser send with each call."""
        return {
            "Cookie": f"{self.cookie_name}={self.cookie}",
            "Stigmer-Console": self.secret,
            "Origin": self.server.url,
        }

    def call(
        self,
        method: str = "GET",
        path: str = WHO,
        *,
        without: str | None = None,
        changed: Mapping[str, str] | None = None,
        **options: Any,
    ) -> httpx.Response:
        """A call with these headers, but for some."""
        headers = {name: value for name, value in self.headers.items() if name != without}
        headers |= changed or {}
        return httpx.request(
            method, f"{self.server.url}{path}", headers=headers, trust_env=False, timeout=60, **options
        )


def create_token(api: ServerApi, scope: str = "user", **request: Any) -> dict[str, Any]:
    """A new token with its text."""
    answer = api.http.post("/v1/tokens", json={"name": f"test-{uuid4().hex[:12]}", "scope": scope, **request})
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    return created


def make_link(server: ServerProcess, token: str = TOKEN) -> str:
    """A link's secret."""
    with server.client(token) as api:
        answer = api.http.post("/v1/console/links")
    assert answer.status_code == 201, answer.text
    secret: str = answer.json()["secret"]
    return secret


def use_link(server: ServerProcess, secret: str, **headers: str) -> httpx.Response:
    """Sign in as a page of the server does, or one with other headers."""
    return httpx.post(
        f"{server.url}{SIGN_IN}",
        json={"secret": secret},
        headers={"Origin": server.url} | headers,
        trust_env=False,
        timeout=60,
    )


def sign_in(server: ServerProcess, token: str = TOKEN) -> Page:
    """A page that is signed in with a link of this token."""
    answer = use_link(server, make_link(server, token))
    assert answer.status_code == 201, answer.text
    ((name, morsel),) = SimpleCookie(answer.headers["set-cookie"]).items()
    return Page(server, name, morsel.value, answer.json()["secret"])


@pytest.fixture
def page(server: ServerProcess) -> Page:
    return sign_in(server)


@pytest.fixture
def alice(api: ServerApi) -> Iterator[dict[str, Any]]:
    """A user's token."""
    yield create_token(api)


def test_a_session_stands_for_its_link_s_token(
    server: ServerProcess, api: ServerApi, alice: dict[str, Any]
) -> None:
    api.create_execution()
    page = sign_in(server, alice["token"])

    who = page.call().json()
    seen = page.call(path="/v1/executions").json()
    refused = page.call("POST", "/v1/tokens", json={"name": "other", "scope": "admin"})
    made = page.call("POST", "/v1/sessions", json={})

    assert (who["name"], who["scope"], who["owner"]) == (alice["name"], "user", alice["owner"])
    assert seen["items"] == []
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert made.json()["owner"] == alice["owner"]


def test_the_cookie_tells_its_installation_and_is_kept_from_pages(server: ServerProcess) -> None:
    with server.client() as api:
        installation_id = api.http.get("/v1/installation").json()["installation_id"]

    cookie = use_link(server, make_link(server)).headers["set-cookie"]

    assert re.fullmatch(
        rf"stigmer_{installation_id}=[\w-]{{43}}; HttpOnly; Max-Age=43200; Path=/v1; SameSite=strict", cookie
    )


def test_over_tls_the_cookie_is_for_this_host_and_for_tls_alone(server: ServerProcess) -> None:
    # As behind a proxy that ends TLS: the browser says so.
    origin = server.url.replace("http:", "https:")

    cookie = use_link(server, make_link(server), Origin=origin).headers["set-cookie"]

    assert cookie.startswith("__Host-stigmer_")
    assert "; Path=/;" in cookie
    assert cookie.endswith("; Secure")


def test_half_of_what_a_page_has_opens_nothing(page: Page) -> None:
    answers = [
        page.call(without="Cookie"),
        page.call(without="Stigmer-Console"),
        page.call(changed={"Stigmer-Console": page.cookie}),
        page.call(changed={"Cookie": f"{page.cookie_name}={page.secret}"}),
        page.call(changed={"Cookie": f"stigmer_0123456789={page.cookie}"}),
        page.call(changed={"Authorization": f"Bearer {page.cookie}"}),
        page.call(without="Cookie", changed={"Authorization": f"Bearer {page.secret}"}),
    ]

    assert [answer.status_code for answer in answers] == [401] * len(answers)
    assert page.call().status_code == 200


def test_two_halves_of_different_sessions_open_nothing(server: ServerProcess, page: Page) -> None:
    other = sign_in(server)

    assert page.call(changed={"Stigmer-Console": other.secret}).status_code == 401


def test_a_cookie_that_another_port_has_set_beside_it_changes_nothing(page: Page) -> None:
    both = f"{page.cookie_name}=planted; {page.cookie_name}={page.cookie}; theirs=1"

    assert page.call(changed={"Cookie": both}).status_code == 200


@pytest.mark.parametrize(
    "origin",
    ["null", "http://127.0.0.1:1", "http://localhost:{port}", "https://evil.example", "http://127.0.0.1", ""],
)
def test_no_other_origin_signs_in_or_calls(server: ServerProcess, page: Page, origin: str) -> None:
    foreign = origin.format(port=server.port)
    secret = make_link(server)

    refused = use_link(server, secret, Origin=foreign)

    assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
    assert "set-cookie" not in refused.headers
    assert page.call(changed={"Origin": foreign}).status_code == 401
    # Nor did it use up the link.
    assert use_link(server, secret).status_code == 201


def test_a_call_that_changes_something_needs_its_origin(page: Page) -> None:
    assert page.call("POST", "/v1/sessions", without="Origin", json={}).status_code == 401
    assert page.call(without="Origin").status_code == 200
    assert page.call(without="Origin", changed={"Sec-Fetch-Site": "same-site"}).status_code == 401
    assert page.call(changed={"Sec-Fetch-Site": "cross-site"}).status_code == 401


def test_a_tunnel_with_another_local_port_signs_in_and_calls(server: ServerProcess) -> None:
    through = {"Host": "localhost:9000", "Origin": "http://localhost:9000"}
    answer = use_link(server, make_link(server), **through)
    ((name, morsel),) = SimpleCookie(answer.headers["set-cookie"]).items()
    page = Page(server, name, morsel.value, answer.json()["secret"])

    assert page.call(changed=through).status_code == 200


def test_beyond_this_machine_nobody_signs_in_without_tls(start_server: ServerFactory) -> None:
    server = start_server(environment={"STIGMER_ALLOWED_HOSTS": "agents.example,127.0.0.1"})
    there = {"Host": "agents.example:7234"}

    plain = use_link(server, make_link(server), Origin="http://agents.example:7234", **there)
    over_tls = use_link(server, make_link(server), Origin="https://agents.example:7234", **there)

    assert (plain.status_code, plain.json()["code"]) == (401, "unauthenticated")
    assert "everybody on the way could read along" in plain.json()["detail"]
    assert over_tls.status_code == 201


def test_a_link_opens_once(server: ServerProcess) -> None:
    secret = make_link(server)

    statuses = [use_link(server, secret).status_code for _ in range(3)]

    assert statuses == [201, 401, 401]
    assert use_link(server, "x" * 43).status_code == 401


def test_neither_a_cookie_nor_a_page_s_secret_is_a_link(server: ServerProcess, page: Page) -> None:
    assert use_link(server, page.cookie).status_code == 401
    assert use_link(server, page.secret).status_code == 401
    assert page.call().status_code == 200


def test_a_page_makes_no_links(page: Page) -> None:
    answer = page.call("POST", "/v1/console/links")

    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_a_link_and_a_session_end_with_their_token(
    server: ServerProcess, api: ServerApi, alice: dict[str, Any]
) -> None:
    page, secret = sign_in(server, alice["token"]), make_link(server, alice["token"])
    assert page.call().status_code == 200

    api.http.delete(f"/v1/tokens/{alice['name']}").raise_for_status()

    assert page.call().status_code == 401
    assert use_link(server, secret).status_code == 401


def test_a_session_ends_when_its_token_expires(server: ServerProcess, api: ServerApi) -> None:
    token = create_token(api, expires_in_seconds=3600)
    answer = use_link(server, make_link(server, token["token"]))

    assert answer.json()["expires_at"] == token["expires_at"]


def test_a_session_outlives_a_restart_but_not_the_change_of_the_server_s_token(
    start_server: ServerFactory,
) -> None:
    server = start_server()
    page, secret = sign_in(server), make_link(server)
    server.stop()
    server.start()
    assert page.call().status_code == 200
    server.stop()

    changed = start_server(environment={"STIGMER_TOKEN": "another-token-of-the-administrator"})

    page = Page(changed, page.cookie_name, page.cookie, page.secret)
    assert page.call().status_code == 401
    assert use_link(changed, secret).status_code == 401


def test_what_is_too_old_opens_nothing(start_server: ServerFactory) -> None:
    server = start_server()
    page, secret = sign_in(server), make_link(server)
    server.stop()
    with sqlite3.connect(server.home / "data" / "stigmer.db") as database:
        rows = database.execute("UPDATE console_secrets SET expires_at = '2020-01-01 00:00:00.000000'")
        assert rows.rowcount == 2
        stored = str(database.execute("SELECT * FROM console_secrets").fetchall())
    server.start()

    assert page.call().status_code == 401
    assert use_link(server, secret).status_code == 401
    assert not [kept for kept in (page.cookie, page.secret, secret) if kept in stored]


def test_signing_out_ends_the_session_and_its_streams(server: ServerProcess, api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]
    page = sign_in(server)
    stream = {"Accept": "text/event-stream"}
    path = f"{server.url}/v1/executions/{execution_id}/events"
    with httpx.stream("GET", path, headers=page.headers | stream, trust_env=False, timeout=60) as answer:
        lines = answer.iter_lines()
        assert next(lines) == ": connected"

        signed_out = page.call("DELETE", f"{SIGN_IN}/self")
        attempt = api.start_leg(execution_id)["attempt"]
        api.append(execution_id, [responded(text="not for who has left")], attempt=attempt)
        rest = "\n".join(lines)

    assert signed_out.status_code == 204
    assert "Max-Age=0" in signed_out.headers["set-cookie"]
    assert "not for who has left" not in rest
    assert page.call().status_code == 401
    assert page.call("DELETE", f"{SIGN_IN}/self").status_code == 401


def test_signing_out_on_one_server_ends_the_session_on_the_others(
    database_url: str, start_server: ServerFactory, tmp_path: Any
) -> None:
    with ServerProcess(tmp_path / "second", database_url=database_url) as second:
        first = start_server(database_url=database_url)
        page = sign_in(first)
        there = Page(second, page.cookie_name, page.cookie, page.secret)
        assert there.call().status_code == 200

        page.call("DELETE", f"{SIGN_IN}/self").raise_for_status()

        wait_until(lambda: there.call().status_code == 401, "the other server has heard of it")


def test_two_installations_of_one_machine_do_not_sign_each_other_out(
    server: ServerProcess, start_server: ServerFactory
) -> None:
    here, there = sign_in(server), sign_in(start_server())
    # What a browser has for 127.0.0.1, whatever the port.
    cookies = f"{here.cookie_name}={here.cookie}; {there.cookie_name}={there.cookie}"

    assert here.cookie_name != there.cookie_name
    assert here.call(changed={"Cookie": cookies}).status_code == 200
    assert there.call(changed={"Cookie": cookies}).status_code == 200
    assert here.call(changed={"Cookie": cookies, "Stigmer-Console": there.secret}).status_code == 401


def test_who_may_only_decide_gets_no_further_from_a_browser(server: ServerProcess, api: ServerApi) -> None:
    page = sign_in(server, create_token(api, "approve")["token"])

    assert page.call(path="/v1/inputs").status_code == 200
    assert page.call(path="/v1/executions").status_code == 403


def test_a_runner_s_token_opens_no_console(server: ServerProcess, api: ServerApi) -> None:
    with server.client(create_token(api, "runner")["token"]) as runner:
        assert runner.http.post("/v1/console/links").status_code == 403


def test_the_audit_trail_tells_who_signed_in(server: ServerProcess, api: ServerApi) -> None:
    token = create_token(api)
    page = sign_in(server, token["token"])
    page.call("DELETE", f"{SIGN_IN}/self").raise_for_status()

    def actions() -> list[str]:
        items = api.http.get("/v1/audit", params={"limit": 100}).json()["items"]
        return [item["action"] for item in items if item["actor"] == token["name"]]

    expected = ["DELETE /v1/console/sessions/self", "POST /v1/console/sessions", "POST /v1/console/links"]
    wait_until(lambda: len(actions()) == len(expected), "the audit trail is written")
    assert sorted(actions()) == sorted(expected)


@pytest.mark.parametrize("path", ["/", "/console", "/console/", "/console/executions/exe_1"])
def test_the_page_is_served_to_everybody_with_a_strict_policy(server: ServerProcess, path: str) -> None:
    answer = httpx.get(f"{server.url}{path}", trust_env=False, timeout=60)

    if not (PAGE_DIRECTORY / "index.html").is_file():
        assert (answer.status_code, answer.text) == (503, NOT_BUILT)
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        return
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert answer.status_code == 200
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-cache"
    # All of it comes from this server, and nothing of it stands in the page itself.
    sources = re.findall(r"(?:src|href)=\"([^\"]*)\"", answer.text)
    assert sources
    for source in sources:
        asset = httpx.get(f"{server.url}{source}", trust_env=False, timeout=60)
        assert asset.status_code == 200
        assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert "<style" not in answer.text
    assert re.findall(r"<script[^>]*>", answer.text) == re.findall(
        r"<script type=\"module\" crossorigin src=\"/console/assets/[\w.-]+\">", answer.text
    )


@pytest.mark.parametrize(
    "path",
    [
        "/console/assets/none.js",
        "/console/assets/..%2findex.html",
        "/console/assets/%2e%2e",
        "/console/a/b/c",
    ],
)
def test_what_is_no_file_of_the_page_is_not_there(server: ServerProcess, path: str) -> None:
    answer = httpx.get(f"{server.url}{path}", trust_env=False, timeout=60)

    assert answer.status_code in (404, 503)
    assert "<script" not in answer.text
