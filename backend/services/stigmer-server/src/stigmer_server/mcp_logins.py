"""People's sign-ins at MCP servers: begun, finished, renewed, forgotten, and what a leg gets of one.

A sign-in belongs to a person and a server's address. A leg is given the present token of the server that its
execution's own manifest names, and nothing that gets another one. One caller at a time asks for a new token,
whichever server process it is in: what is renewed twice at once would be worth nothing with many
authorization servers.
"""

import asyncio
import importlib
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection

from stigmer_contract.inputs import InputKind, Login
from stigmer_contract.manifest_mcp import McpServer
from stigmer_contract.mcp_logins import (
    BeginMcpLogin,
    FinishMcpLogin,
    McpLogin,
    McpLoginBegun,
    McpToken,
    login_id_of,
    rejected_digest,
    resource_of,
)
from stigmer_server.agents import find_agent
from stigmer_server.database import Database
from stigmer_server.errors import Conflict, InvalidRequest, NotFound
from stigmer_server.inputs import Answerer, Inputs
from stigmer_server.owners import Caller
from stigmer_server.secrets_store import MCP_LOGINS, Secrets
from stigmer_server.stored_logins import Challenge, KnownClient, SignInFailed, SignInOver, StoredLogin
from stigmer_server.tool_pins import named_server, read_opening

if TYPE_CHECKING:
    from stigmer_server.mcp_addresses import McpAddresses
    from stigmer_server.mcp_sign_in import SignIn

logger = logging.getLogger(__name__)

SIGN_IN_TIME: Final = timedelta(minutes=10)
"""How long a person may take."""
MAX_SIGN_INS: Final = 200
"""Under way at once; of whoever has begun most the oldest are forgotten."""
RENEW_BEFORE_SECONDS: Final = 30.0
"""A token that lasts no longer is renewed before it is used."""
RENEWAL_TIME: Final = timedelta(seconds=60)
"""After so long somebody who asked for a new token is taken for dead."""
LOOK_SECONDS: Final = 0.1


@dataclass(frozen=True)
class _Wanted:
    """Where somebody wants to sign in."""

    url: str
    server: McpServer | None = None
    challenge: Challenge | None = None


@dataclass
class _UnderWay:
    """A sign-in that a person is in the middle of."""

    sign_in: "SignIn"
    owner: str
    ends_at: datetime


class McpLoginStore:
    """The sign-ins of all people. Those that are under way are this process's alone."""

    def __init__(
        self,
        database: Database,
        secrets: Secrets,
        inputs: Inputs,
        allowed_hosts: tuple[str, ...],
        metadata_url: str | None,
    ) -> None:
        self._database = database
        self._secrets = secrets
        self._inputs = inputs
        self._allowed_hosts = allowed_hosts
        self._metadata_url = metadata_url
        self._under_way: dict[tuple[str, str], _UnderWay] = {}
        self._renewals = set[asyncio.Task[StoredLogin]]()

    async def begin(self, request: BeginMcpLogin, caller: Caller) -> McpLoginBegun:
        """Find out how to sign in, and give the page for that. What was begun there before is forgotten.

        Raises:
            NotFound: no such agent, server or input that the caller sees.
            InvalidRequest: the server takes no sign-ins.
            Conflict: nobody can sign in there.
        """
        wanted = await self._find(request, caller)
        auth = None if wanted.server is None else wanted.server.auth
        client = None
        if auth is not None and auth.client_id is not None:
            client = KnownClient(client_id=auth.client_id, secret=await self._client_secret(auth, caller))
        key = caller.owner, login_id_of(wanted.url)
        module, addresses = await self._sdk()
        sign_in: SignIn = module.SignIn(
            wanted.url,
            request.redirect_uri,
            addresses,
            client=client,
            metadata_url=self._metadata_url,
            scopes=[*([] if auth is None else auth.scopes), *request.scopes],
            challenge=wanted.challenge,
            before=await self._read(*key),
        )
        ends_at = datetime.now(UTC) + SIGN_IN_TIME
        under_way = _UnderWay(sign_in, caller.owner, ends_at)
        await self._keep(key, under_way)
        try:
            link = await sign_in.link()
        except SignInFailed as error:
            if self._under_way.get(key) is under_way:  # else it was given up for another one
                del self._under_way[key]
            raise Conflict(str(error)) from error
        return McpLoginBegun(login_id=key[1], url=wanted.url, authorization_url=link, expires_at=ends_at)

    async def finish(self, login_id: str, request: FinishMcpLogin, who: Answerer) -> McpLogin:
        """Take what the browser came back with, and keep what that leads to. Whatever waits for it goes on.

        Raises:
            NotFound: nothing was begun there, or it took too long.
            Conflict: the sign-in failed.
        """
        key = who.caller.owner, login_id
        under_way = self._under_way.pop(key, None)
        if under_way is None:
            raise NotFound("sign-in", login_id)
        if under_way.ends_at < datetime.now(UTC):
            await under_way.sign_in.abandon()
            raise NotFound("sign-in", login_id)
        if request.code is None:
            await under_way.sign_in.abandon()
            raise Conflict(f"the sign-in was refused: {_in_one_line(request.error or 'without a reason')}")
        try:
            stored = await under_way.sign_in.finish(request.code, request.state, request.iss)
        except SignInFailed as error:
            raise Conflict(str(error), "begin the sign-in again") from error
        stored = stored.model_copy(update={"updated_at": datetime.now(UTC)})
        await self._change(*key, lambda _: stored)
        await self._inputs.resolve_logins(stored.url, who)
        return _resource(login_id, stored)

    async def list(self, caller: Caller) -> list[McpLogin]:
        """The caller's own."""
        found = await self._secrets.own(MCP_LOGINS, f"{caller.owner}/")
        logins = [_resource(name, StoredLogin.model_validate_json(text)) for name, text in found.items()]
        return sorted(logins, key=lambda login: login.url)

    async def forget(self, login_id: str, caller: Caller) -> None:
        """Forget a sign-in, and tell the authorization server so where it wants to know.

        Raises:
            NotFound: there is none.
        """
        before = list[StoredLogin]()

        def take(stored: StoredLogin | None) -> None:
            before[:] = [] if stored is None else [stored]

        await self._change(caller.owner, login_id, take)
        if not before:
            # One whose key is gone cannot be taken back, and would be in the way of a new key.
            if not await self._secrets.forget_own(MCP_LOGINS, f"{caller.owner}/{login_id}"):
                raise NotFound("sign-in", login_id)
            return
        module, addresses = await self._sdk()
        await module.revoke(before[0], addresses)

    async def token_for(self, execution_id: str, server_name: str, rejected: str | None) -> McpToken:
        """What a leg of an execution calls an MCP server with, which it names in its own manifest.

        `rejected` names the token that the server does not take.

        Raises:
            NotFound: there is no such execution, or it has no such server.
        """

        def work(connection: Connection) -> tuple[str, McpServer]:
            owner, first = read_opening(connection, execution_id)
            return owner, named_server(first.spec.mcp_servers, server_name)

        owner, server = await self._database.read(work)
        if server.url is None or not server.takes_logins:
            return McpToken()
        try:
            login_id = login_id_of(server.url)
        except ValueError:
            return McpToken()
        return await self._token(owner, login_id, rejected)

    async def _token(self, owner: str, login_id: str, rejected: str | None) -> McpToken:
        while True:
            stored = await self._read(owner, login_id)
            if stored is None:
                return McpToken()
            token = stored.access_token
            if token is None:
                return McpToken(problem=stored.problem)
            if not _has_expired(stored) and rejected_digest(token) != rejected:
                return McpToken(access_token=token)
            if not stored.can_be_renewed:
                return McpToken(problem="it has expired")
            if not await self._claim(owner, login_id, stored):
                await asyncio.sleep(LOOK_SECONDS)
                continue
            # Whoever asked may be gone meanwhile: what came must be kept all the same.
            renewal = asyncio.create_task(self._renew(owner, login_id, stored), name="renewal of a sign-in")
            self._renewals.add(renewal)
            renewal.add_done_callback(self._renewals.discard)
            try:
                renewed = await asyncio.shield(renewal)
            except SignInOver as error:
                return McpToken(problem=str(error))
            except SignInFailed as error:
                return McpToken(problem=f"it could not be renewed: {error}")
            return McpToken(access_token=renewed.access_token)

    async def _renew(self, owner: str, login_id: str, stored: StoredLogin) -> StoredLogin:
        """Ask for a new token, and keep it in the old one's place."""
        module, addresses = await self._sdk()
        after, fault = stored.model_copy(update={"renewing_until": None}), None
        try:
            after = await module.renew(stored, addresses)
        except SignInOver as error:
            after, fault = after.model_copy(update={"token": None, "problem": str(error)}), error
        except SignInFailed as error:
            fault = error
        after = after.model_copy(update={"updated_at": datetime.now(UTC)})

        def put(present: StoredLogin | None) -> StoredLogin | None:
            # Who signed in again or out meanwhile has the last word.
            is_same = present is not None and present.token == stored.token
            return after if is_same else present

        await self._change(owner, login_id, put)
        if fault is not None:
            logger.warning("a sign-in at an MCP server was not renewed: %s", fault)
            raise fault
        return after

    async def _claim(self, owner: str, login_id: str, seen: StoredLogin) -> bool:
        """Whether it is this caller that asks for a new token."""
        claimed = list[bool]()

        def decide(stored: StoredLogin | None) -> StoredLogin | None:
            now = datetime.now(UTC)
            is_free = stored is not None and (stored.renewing_until is None or stored.renewing_until < now)
            claimed[:] = [is_free and stored is not None and stored.token == seen.token]
            if stored is None or not claimed[0]:
                return stored
            return stored.model_copy(update={"renewing_until": now + RENEWAL_TIME})

        await self._change(owner, login_id, decide)
        return claimed == [True]

    async def _find(self, request: BeginMcpLogin, caller: Caller) -> _Wanted:
        given = [request.url, request.agent, request.input_id]
        if sum(each is not None for each in given) != 1 or (request.agent is None) != (
            request.server is None
        ):
            raise InvalidRequest("give one of url, input_id, and agent with server")
        if request.url is not None:
            return _Wanted(request.url)
        if request.agent is not None:
            name, server_name = request.agent, request.server or ""
            agent = await self._database.read(lambda connection: find_agent(connection, name, caller))
            return _wanted(named_server(agent.manifest.spec.mcp_servers, server_name), None)
        asked = await self._inputs.get(request.input_id or "", caller)
        if asked.kind is not InputKind.LOGIN or not asked.toolset:
            raise InvalidRequest(f"input {asked.input_id!r} is no sign-in")
        if asked.owner != caller.owner:
            raise NotFound("input", asked.input_id)
        login = Login.model_validate(getattr(asked.content, "value", None))
        server_name = asked.toolset

        def work(connection: Connection) -> McpServer:
            _, first = read_opening(connection, asked.execution_id)
            return named_server(first.spec.mcp_servers, server_name)

        challenge = Challenge(status=login.status, header=login.challenge)
        return _wanted(await self._database.read(work), challenge)

    async def _client_secret(self, auth: Any, caller: Caller) -> str | None:
        if auth.client_secret is None:
            return None
        name: str = auth.client_secret.secret
        found = await self._secrets.reveal([name], caller.owner)
        if name not in found:
            raise Conflict(f"there is no secret {name!r}", f"set it with `stigmer secrets set {name}`")
        return found[name].get_secret_value()

    async def _keep(self, key: tuple[str, str], under_way: _UnderWay) -> None:
        now = datetime.now(UTC)
        old = [each for each, one in self._under_way.items() if each == key or one.ends_at < now]
        gone = [self._under_way.pop(each) for each in old]
        while len(self._under_way) >= MAX_SIGN_INS:
            # Nobody keeps others from signing in.
            [(most, _)] = Counter([*(owner for owner, _ in self._under_way), key[0]]).most_common(1)
            gone.append(self._under_way.pop(next(each for each in self._under_way if each[0] == most)))
        self._under_way[key] = under_way
        for each in gone:
            await each.sign_in.abandon()

    async def _read(self, owner: str, login_id: str) -> StoredLogin | None:
        found = await self._secrets.own(MCP_LOGINS, f"{owner}/{login_id}")
        return StoredLogin.model_validate_json(found[""]) if "" in found else None

    async def _change(
        self, owner: str, login_id: str, decide: Callable[[StoredLogin | None], StoredLogin | None]
    ) -> None:
        def work(text: str | None) -> tuple[str | None, None]:
            after = decide(None if text is None else StoredLogin.model_validate_json(text))
            return None if after is None else after.model_dump_json(exclude_none=True), None

        await self._secrets.change_own(MCP_LOGINS, f"{owner}/{login_id}", work)

    async def _sdk(self) -> "tuple[Any, McpAddresses]":
        # In a thread: importing the SDK takes half a second, and other calls go on meanwhile.
        module: Any = await asyncio.to_thread(importlib.import_module, "stigmer_server.mcp_sign_in")
        addresses: McpAddresses = module.McpAddresses(self._allowed_hosts)
        return module, addresses


def _wanted(server: McpServer, challenge: Challenge | None) -> _Wanted:
    if server.url is None or not server.takes_logins:
        why = "is started, not called" if server.url is None else "has an Authorization header of its own"
        raise InvalidRequest(f"nobody signs in at MCP server {server.name!r}: it {why}")
    try:
        return _Wanted(resource_of(server.url), server, challenge)
    except ValueError as error:
        raise InvalidRequest(str(error)) from error


def _has_expired(stored: StoredLogin) -> bool:
    early = RENEW_BEFORE_SECONDS if stored.can_be_renewed else 0.0
    return stored.expires_at is not None and stored.expires_at - early < time.time()


def _resource(login_id: str, stored: StoredLogin) -> McpLogin:
    scope = (stored.token or {}).get("scope")
    return McpLogin(
        login_id=login_id,
        url=stored.url,
        issuer=(stored.metadata or {}).get("issuer"),
        scopes=scope.split() if isinstance(scope, str) else [],
        expires_at=None if stored.expires_at is None else _moment(stored.expires_at),
        is_renewed=stored.can_be_renewed,
        problem=stored.problem,
        updated_at=stored.updated_at or datetime.now(UTC),
    )


def _moment(seconds: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):  # an authorization server's own idea of a time
        return None


def _in_one_line(text: str) -> str:
    return "".join(each for each in " ".join(text.split()) if each.isprintable())[:300]
