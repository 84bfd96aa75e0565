"""Signs a person in at an MCP server: shows the page, and hears what the browser is sent back with.

The browser comes to a port of this machine that nobody else is told (RFC 8252, section 7.3). Where it runs on
another one, it cannot reach that; the person pastes the address that it was sent to.
"""

import http.server
import os
import queue
import secrets
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Final
from urllib.parse import parse_qs, urlsplit

from stigmer_cli.api_client import ApiClient
from stigmer_cli.commands.prompting import TerminalLines
from stigmer_cli.errors import StigmerError, UsageError
from stigmer_cli.output import print_note
from stigmer_contract.inputs import InputKind
from stigmer_contract.mcp_logins import BeginMcpLogin, FinishMcpLogin, McpLogin, McpLoginBegun

LOOPBACK: Final = "127.0.0.1"
LOOK_SECONDS: Final = 0.5
_PAGE: Final = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>Stigmer</title>'
    '<body style="font-family: sans-serif; margin: 4rem"><h1>{title}</h1><p>{text}</p></body></html>'
)


@dataclass(frozen=True)
class Where:
    """The server that is meant: by its address, or as an applied agent has it."""

    url: str | None = None
    agent: str | None = None
    server: str | None = None
    input_id: str | None = None
    """What an execution waits for."""


def find_server(client: ApiClient, given: str) -> Where:
    """A URL, `AGENT/SERVER`, what waits in the inbox, or the name of a server that all applied agents which
    have it agree on.

    Raises:
        UsageError: there is none, or several.
    """
    if "://" in given:
        from stigmer_contract.mcp_logins import resource_of

        try:
            return Where(url=resource_of(given))
        except ValueError as error:
            raise UsageError(str(error)) from error
    waiting = [
        each.input_id
        for each in client.list_inputs(1000)
        if each.kind is InputKind.LOGIN and each.input_id.endswith(given.lower()) and given
    ]
    if len(waiting) == 1:
        return Where(input_id=waiting[0])
    agent, slash, server = given.rpartition("/")
    if slash:
        return Where(agent=agent, server=server)
    found = {
        (each.name, one.url)
        for each in client.list_agents(1000)
        for one in each.manifest.spec.mcp_servers
        if one.name == given and one.url is not None
    }
    if not found:
        raise UsageError(
            f"no applied agent has an MCP server {given!r} at a URL",
            "name it as AGENT/SERVER or by its URL; `stigmer mcp list` shows them",
        )
    if len({url for _, url in found}) > 1:
        listed = ", ".join(sorted(f"{name}/{given}" for name, _ in found))
        raise UsageError(
            f"several agents have an MCP server {given!r}, at different URLs", f"say which: {listed}"
        )
    return Where(agent=min(found)[0], server=given)


def url_of(client: ApiClient, given: str) -> str:
    """The address of the server that is meant, in the form that sign-ins are known by.

    Raises:
        UsageError: there is none, or several.
    """
    from stigmer_contract.mcp_logins import resource_of

    where = find_server(client, given)
    if where.url is not None:
        return where.url
    servers = client.get_agent(where.agent or "").manifest.spec.mcp_servers
    for server in servers:
        if server.name == where.server and server.url is not None:
            return resource_of(server.url)
    raise UsageError(f"the agent {where.agent!r} has no MCP server {where.server!r} at a URL")


def sign_in(client: ApiClient, request: Mapping[str, object], *, opens_browser: bool) -> McpLogin:
    """Sign in. `request` says where, in the words of `BeginMcpLogin`.

    Raises:
        StigmerError: it failed, or took too long.
    """
    answers = queue.SimpleQueue[dict[str, str]]()
    path = f"/{secrets.token_urlsafe(12)}"
    with _listening(path, answers) as port:
        redirect_uri = f"http://{LOOPBACK}:{port}{path}"
        begun = client.begin_mcp_login(
            BeginMcpLogin.model_validate({**request, "redirect_uri": redirect_uri})
        )
        _check_link(begun.authorization_url)
        _show(begun, opens_browser=opens_browser)
        state = parse_qs(urlsplit(begun.authorization_url).query).get("state", [""])[0]
        answer = _wait(answers, begun, state)
    return client.finish_mcp_login(
        begun.login_id,
        FinishMcpLogin(
            state=answer.get("state", ""),
            code=answer.get("code"),
            iss=answer.get("iss"),
            error=answer.get("error_description") or answer.get("error"),
        ),
    )


class _Handler(http.server.BaseHTTPRequestHandler):
    path_wanted: str
    answers: "queue.SimpleQueue[dict[str, str]]"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        pass

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path != self.path_wanted:
            self._answer(404, "Nothing here", "Go back to the terminal.")
            return
        answer = _fields(parts.query)
        if "code" in answer:
            self._answer(200, "Back to the terminal", "It has what it needs. This page can be closed.")
        else:
            self._answer(200, "Not signed in", answer.get("error_description") or answer.get("error", ""))
        self.answers.put(answer)

    def _answer(self, status: int, title: str, text: str) -> None:
        body = _PAGE.format(title=escape(title), text=escape(text)).encode()
        self.send_response(status)
        self.send_header("content-type", "text/html; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.send_header("cache-control", "no-store")
        self.send_header("referrer-policy", "no-referrer")
        self.end_headers()
        self.wfile.write(body)


class _listening:
    """The port where the browser is awaited, while it is entered."""

    def __init__(self, path: str, answers: "queue.SimpleQueue[dict[str, str]]") -> None:
        handler = type("Handler", (_Handler,), {"path_wanted": path, "answers": answers})
        self._http = http.server.ThreadingHTTPServer((LOOPBACK, 0), handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> int:
        self._thread.start()
        return self._http.server_address[1]

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()


def _show(begun: McpLoginBegun, *, opens_browser: bool) -> None:
    print_note(f"sign in at {begun.url} with this page:")
    # As it is: whatever would steer a terminal was refused before.
    print(begun.authorization_url, file=sys.stderr, flush=True)
    if opens_browser and _has_browser():
        import webbrowser

        if webbrowser.open(begun.authorization_url):
            return
    if TerminalLines.are_there():
        print_note("a browser on another machine ends at an address that it cannot open: paste that here")


def _has_browser() -> bool:
    from stigmer_cli.commands.console import has_browser

    return has_browser()


def _check_link(address: str) -> None:
    """Open and show nothing but a web page: the address comes from whoever runs the MCP server."""
    parts = urlsplit(address)
    if parts.scheme not in ("https", "http") or not address.isascii() or not address.isprintable():
        raise StigmerError("could not sign in: the server names a page that is none of the web")


def _wait(answers: "queue.SimpleQueue[dict[str, str]]", begun: McpLoginBegun, state: str) -> dict[str, str]:
    lines = TerminalLines(lambda line: _take_line(answers, line))
    if TerminalLines.are_there() and os.environ.get("CI") is None:
        lines.begin()
    try:
        while datetime.now(UTC) < begun.expires_at:
            try:
                answer = answers.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                continue
            if answer.get("state") == state:
                return answer
            print_note("that is no answer to this sign-in; still waiting")
    finally:
        lines.end()
    raise StigmerError(f"nobody signed in at {begun.url} in time", "run the command again")


def _take_line(answers: "queue.SimpleQueue[dict[str, str]]", line: str) -> None:
    text = line.strip()
    if text:
        answers.put(_fields(urlsplit(text).query))


def _fields(query: str) -> dict[str, str]:
    try:
        return {name: values[0] for name, values in parse_qs(query, max_num_fields=50).items()}
    except ValueError:
        return {}
