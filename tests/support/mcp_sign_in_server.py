"""An MCP server at which people sign in, and its authorization server: OAuth 2.1 over HTTP, without any SDK.

It holds whoever signs in to the protocol, and remembers what was asked of it.
"""

import base64
import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import uuid4

from mcp_http_server import McpHandler, McpHttpServer

MCP_PATH: Final = "/mcp"


def files_with(folder: Path, secrets: Iterable[str]) -> list[Path]:
    """The files in a folder, however deep, that hold one of the secrets; some come and go meanwhile."""
    wanted, found = [secret.encode() for secret in secrets], list[Path]()
    for directory, _, names in os.walk(folder):
        for file in (Path(directory, name) for name in names):
            with contextlib.suppress(OSError):
                content = file.read_bytes() if file.is_file() else b""
                found += [file] if any(secret in content for secret in wanted) else []
    return found


@dataclass
class Grant:
    """What somebody has allowed."""

    client_id: str
    redirect_uri: str
    challenge: str
    resource: str
    scope: str


@dataclass
class AuthorizationServer:
    """What it remembers, and how it behaves."""

    lasts_seconds: int = 3600
    """How long an access token is good for."""
    gives_refresh_tokens: bool = True
    adds_scope_for_calls: str | None = None
    """The scope that tools are called with only."""
    answers_token_calls_with: int | None = None
    """Instead of a token."""
    renewals: int = 0
    clients: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    codes: dict[str, Grant] = field(default_factory=dict[str, Grant])
    live: dict[str, tuple[str, float]] = field(default_factory=dict[str, tuple[str, float]])
    """Access tokens that are taken: the scope, and until when."""
    refreshing: dict[str, Grant] = field(default_factory=dict[str, Grant])
    """Refresh tokens that are good for one more renewal."""
    given: list[str] = field(default_factory=list[str])
    """Every secret that was ever given out."""
    revoked: list[str] = field(default_factory=list[str])
    lock: threading.Lock = field(default_factory=threading.Lock)

    def end_tokens(self) -> None:
        """No access token is taken any more."""
        self.live.clear()

    def end_sign_ins(self) -> None:
        """Nor is any renewed."""
        self.end_tokens()
        self.refreshing.clear()

    def issue(self, grant: Grant) -> dict[str, Any]:
        """An answer of the token endpoint."""
        token = f"access-{uuid4().hex}"
        # It may say whatever it likes.
        self.live[token] = (grant.scope, time.monotonic() + min(self.lasts_seconds, 3600))
        self.given.append(token)
        answer: dict[str, Any] = {
            "access_token": token,
            "token_type": "bearer",
            "expires_in": self.lasts_seconds,
            "scope": grant.scope,
        }
        if self.gives_refresh_tokens:
            answer["refresh_token"] = f"refresh-{uuid4().hex}"
            self.refreshing[answer["refresh_token"]] = grant
            self.given.append(answer["refresh_token"])
        return answer


class McpSignInServer(McpHttpServer):
    """Serves in a thread while it is entered."""

    def __init__(self, *, streams: bool = False) -> None:
        super().__init__(streams=streams)
        self.authorization = AuthorizationServer()
        self.ends_tokens_after_calls: int | None = None
        """After so many calls of tools no token is taken any more that was given before."""
        self.refuses_calls = False
        """Whether no token is good enough to call a tool with."""
        self.begins_with_everybody = False
        """Whether it asks nobody who calls as a conversation begins, and then for the scope `write`."""
        self.hangs_up_on_strangers = False
        """Whether whoever has no token gets no answer at all, but as a conversation begins."""

    @property
    def issuer(self) -> str:
        """Of the authorization server."""
        return self.url.removesuffix(MCP_PATH)


class _Handler(McpHandler):
    @property
    def web(self) -> McpSignInServer:
        """Whose requests are served."""
        assert isinstance(self.mcp, McpSignInServer)
        return self.mcp

    def do_GET(self) -> None:
        at, parts = self.web.issuer, urlsplit(self.path)
        match parts.path:
            case "/.well-known/oauth-protected-resource/mcp":
                self._json(
                    {"resource": self.web.url, "authorization_servers": [at], "scopes_supported": ["read"]}
                )
            case "/.well-known/oauth-authorization-server":
                endpoints = {
                    f"{name}_endpoint": f"{at}/{path}"
                    for name, path in (
                        ("authorization", "authorize"),
                        ("token", "token"),
                        ("registration", "register"),
                        ("revocation", "revoke"),
                    )
                }
                self._json(
                    {
                        "issuer": at,
                        **endpoints,
                        "response_types_supported": ["code"],
                        "code_challenge_methods_supported": ["S256"],
                        "token_endpoint_auth_methods_supported": ["none"],
                        "authorization_response_iss_parameter_supported": True,
                    }
                )
            case "/authorize":
                self._authorize({name: values[0] for name, values in parse_qs(parts.query).items()})
            case _:
                self.answer(404 if parts.path != MCP_PATH else 405)

    def do_POST(self) -> None:
        if self.path == MCP_PATH:
            super().do_POST()
            return
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        known = self.web.authorization
        if self.path == "/register":
            client_id = f"client-{uuid4().hex}"
            known.clients[client_id] = json.loads(body)
            self._json({**known.clients[client_id], "client_id": client_id}, 201)
            return
        form = {name: values[0] for name, values in parse_qs(body).items()}
        with known.lock:
            if self.path == "/token":
                self._token(form)
            elif self.path == "/revoke":
                known.revoked.append(form["token"])
                known.refreshing.pop(form["token"], None)
                self.answer(200)
            else:
                self.answer(404)

    def is_let_in(self, message: dict[str, Any]) -> bool:
        known = self.web.authorization
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        scope, until = known.live.get(token, ("", 0.0))
        is_call = message["method"] == "tools/call"
        lets_begin = self.web.begins_with_everybody or self.web.hangs_up_on_strangers
        if lets_begin and message["method"] == "initialize":
            return True
        if self.web.hangs_up_on_strangers and until < time.monotonic():
            self.close_connection = True
            return False
        if until < time.monotonic() or (is_call and self.web.refuses_calls):
            where = f"{self.web.issuer}/.well-known/oauth-protected-resource/mcp"
            more = ', scope="write"' if self.web.begins_with_everybody else ""
            self.answer(401, headers={"www-authenticate": f'Bearer resource_metadata="{where}"{more}'})
            return False
        needed = known.adds_scope_for_calls
        if is_call and len(self.web.calls) + 1 == self.web.ends_tokens_after_calls:
            known.end_tokens()
        if is_call and needed is not None and needed not in scope.split():
            challenge = f'Bearer error="insufficient_scope", scope="{needed}"'
            self.answer(403, headers={"www-authenticate": challenge})
            return False
        return True

    def _authorize(self, asked: Mapping[str, str]) -> None:
        """Somebody is signed in already, and allows everything."""
        client = self.web.authorization.clients.get(asked.get("client_id", ""))
        is_right = (
            client is not None
            and asked["redirect_uri"] in client["redirect_uris"]
            and (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
            and asked["resource"] == self.web.url
        )
        if not is_right:
            self.answer(400)
            return
        code = f"code-{uuid4().hex}"
        self.web.authorization.codes[code] = Grant(
            client_id=asked["client_id"],
            redirect_uri=asked["redirect_uri"],
            challenge=asked["code_challenge"],
            resource=asked["resource"],
            scope=asked.get("scope", ""),
        )
        answer = urlencode({"code": code, "state": asked["state"], "iss": self.web.issuer})
        self.answer(302, headers={"location": f"{asked['redirect_uri']}?{answer}"})

    def _token(self, form: Mapping[str, str]) -> None:
        known = self.web.authorization
        if known.answers_token_calls_with is not None:
            self.answer(known.answers_token_calls_with)
            return
        if form["grant_type"] == "refresh_token":
            known.renewals += 1
            grant = known.refreshing.pop(form["refresh_token"], None)
            is_right = grant is not None and grant.resource == form["resource"]
        else:
            grant = known.codes.pop(form["code"], None)
            digest = hashlib.sha256(form["code_verifier"].encode()).digest()
            is_right = (
                grant is not None
                and base64.urlsafe_b64encode(digest).decode().rstrip("=") == grant.challenge
                and (form["redirect_uri"], form["resource"]) == (grant.redirect_uri, grant.resource)
            )
        if grant is None or not is_right or form["client_id"] != grant.client_id:
            self._json({"error": "invalid_grant"}, HTTPStatus.BAD_REQUEST)
            return
        self._json(known.issue(grant))

    def _json(self, value: dict[str, Any], status: int = 200) -> None:
        self.answer(status, json.dumps(value).encode())


McpSignInServer.handler = _Handler
