"""The calls of the HTTP API that the command line makes, one method each, in the contract's models."""

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, SecretStr, ValidationError

from stigmer_cli.api_client.http_transport import HttpTransport
from stigmer_cli.config import Connection
from stigmer_cli.errors import CallRefused, UsageError
from stigmer_contract.api import (
    IDEMPOTENCY_KEY_HEADER,
    AgentResource,
    ArtifactList,
    CancelExecution,
    ConsoleLink,
    CreatedToken,
    CreateExecution,
    CreateToken,
    ExecutionResource,
    ForkExecution,
    GrantResource,
    InputResource,
    MessageResource,
    Owned,
    Page,
    PauseExecution,
    ResolveInput,
    RetryExecution,
    RewindExecution,
    SecretResource,
    SecretsKeyRotation,
    SendMessage,
    SessionResource,
    SetOwner,
    SnapshotResource,
    TokenResource,
)
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import BlobPayload, Payload, RecordedEvent
from stigmer_contract.exported_sessions import ImportSession
from stigmer_contract.manifest import AgentManifest
from stigmer_contract.mcp_logins import (
    BeginMcpLogin,
    FinishMcpLogin,
    McpLogin,
    McpLoginBegun,
    McpLogins,
)
from stigmer_contract.tool_lists import AcceptTools, AgentTools
from stigmer_contract.webhooks import CreatedWebhook, CreateWebhook, WebhookResource, WebhookTest

PAGE_SIZE = 500

ResourceT = TypeVar("ResourceT", bound=BaseModel)
_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class AgentChange:
    """What `apply` did."""

    agent: AgentResource
    change: Literal["created", "updated", "unchanged"]


class ApiClient:
    """A stigmer-server's API.

    Every method raises `CallRefused` with the server's code, or `ServerUnreachable`.
    """

    def __init__(self, connection: Connection, *, timeout_seconds: float | None = None) -> None:
        """`timeout_seconds`: give up for good after so long a silence; None: as patient as it is of use."""
        self.transport = HttpTransport(connection, timeout_seconds=timeout_seconds)

    def __enter__(self) -> "ApiClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.transport.close()

    # --- secrets ------------------------------------------------------------------------------

    def set_secret(self, name: str, value: SecretStr) -> tuple[SecretResource, bool]:
        """Keeps a value under a name; answers also whether the name is new."""
        # Not through the model: its JSON has asterisks in the place of the value.
        body = json.dumps({"value": value.get_secret_value()}).encode()
        answer = self.transport.request("PUT", _secret_path(name), body=body, headers=_JSON)
        return SecretResource.model_validate_json(answer.body), answer.status == HTTPStatus.CREATED

    def list_secrets(self, limit: int) -> list[SecretResource]:
        """Secrets by name, without their values."""
        return self._list("/v1/secrets", Page[SecretResource], limit, {})

    def delete_secret(self, name: str) -> None:
        """Deletes a secret."""
        self.transport.request("DELETE", _secret_path(name))

    def rotate_secrets_key(self) -> SecretsKeyRotation:
        """Has every secret encrypted with a new key."""
        answer = self.transport.request("POST", "/v1/secrets/rotate-key")
        return SecretsKeyRotation.model_validate_json(answer.body)

    # --- owners -------------------------------------------------------------------------------

    def set_owner(self, collection: str, name: str, request: SetOwner, of: str | None) -> Owned:
        """Gives an object of a collection to somebody; `of` says whose one of that name is meant."""
        answer = self.transport.request(
            "PUT",
            f"/v1/{collection}/{quote(name, safe='')}/owner",
            body=request.model_dump_json().encode(),
            headers=_JSON,
            query={"owner": of},
        )
        return Owned.model_validate_json(answer.body)

    # --- agents -------------------------------------------------------------------------------

    def apply_agent(self, manifest: AgentManifest) -> AgentChange:
        """Creates the agent, or brings it to this manifest."""
        name = manifest.metadata.name
        before = self.find_agent(name)
        body = manifest.model_dump_json(by_alias=True, exclude_unset=True).encode()
        response = self.transport.request(
            "PUT", f"/v1/agents/{quote(name, safe='')}", body=body, headers=_JSON
        )
        agent = AgentResource.model_validate_json(response.body)
        # What was found before may have been a shared agent of that name.
        if before is None or response.status == HTTPStatus.CREATED:
            return AgentChange(agent, "created")
        return AgentChange(agent, "unchanged" if agent.version == before.version else "updated")

    def find_agent(self, name: str) -> AgentResource | None:
        """An applied agent; None where there is none of that name."""
        try:
            return self.get_agent(name)
        except CallRefused as error:
            if error.code == ErrorCode.NOT_FOUND:
                return None
            raise

    def get_agent(self, name: str) -> AgentResource:
        """An applied agent."""
        return self._get(f"/v1/agents/{quote(name, safe='')}", AgentResource)

    def list_agents(self, limit: int) -> list[AgentResource]:
        """Applied agents, at most `limit`."""
        return self._list("/v1/agents", Page[AgentResource], limit)

    def delete_agent(self, name: str) -> None:
        """Deletes an applied agent; its executions stay."""
        self.transport.request("DELETE", f"/v1/agents/{quote(name, safe='')}")

    def get_tool_pins(self, name: str) -> AgentTools:
        """What is known of the tools of an applied agent's MCP servers."""
        return self._get(f"/v1/agents/{quote(name, safe='')}/tool-pins", AgentTools)

    def accept_tools(self, name: str, server: str, digest: str) -> None:
        """Pins what an MCP server was found to offer."""
        self.transport.request(
            "POST",
            f"/v1/agents/{quote(name, safe='')}/tool-pins/{quote(server, safe='')}/accept",
            body=AcceptTools(digest=digest).model_dump_json().encode(),
            headers=_JSON,
        )

    # --- sign-ins at MCP servers --------------------------------------------------------------

    def list_mcp_logins(self) -> list[McpLogin]:
        """Where the person has signed in."""
        return self._get("/v1/mcp-logins", McpLogins).logins

    def begin_mcp_login(self, request: BeginMcpLogin) -> McpLoginBegun:
        """Finds out how to sign in at an MCP server."""
        body = request.model_dump_json(exclude_none=True).encode()
        answer = self.transport.request("POST", "/v1/mcp-logins", body=body, headers=_JSON)
        return McpLoginBegun.model_validate_json(answer.body)

    def finish_mcp_login(self, login_id: str, request: FinishMcpLogin) -> McpLogin:
        """Finishes a sign-in with what the browser was sent back with."""
        path, body = f"/v1/mcp-logins/{quote(login_id, safe='')}", request.model_dump_json().encode()
        return McpLogin.model_validate_json(
            self.transport.request("POST", path, body=body, headers=_JSON).body
        )

    def forget_mcp_login(self, login_id: str) -> None:
        """Forgets a sign-in."""
        self.transport.request("DELETE", f"/v1/mcp-logins/{quote(login_id, safe='')}")

    # --- sessions -----------------------------------------------------------------------------

    def get_session(self, session_id: str) -> SessionResource:
        """A session."""
        return self._get(f"/v1/sessions/{quote(session_id, safe='')}", SessionResource)

    def list_sessions(self, limit: int) -> list[SessionResource]:
        """Sessions, at most `limit`."""
        return self._list("/v1/sessions", Page[SessionResource], limit)

    def compact_session(self, session_id: str) -> SessionResource:
        """Lets the session's next execution begin with a compacted conversation."""
        path = f"/v1/sessions/{quote(session_id, safe='')}/compact"
        return SessionResource.model_validate_json(self.transport.request("POST", path).body)

    def import_session(self, sha256: str) -> SessionResource:
        """Makes a session of an exported one, whose document and blobs were uploaded."""
        body = ImportSession(sha256=sha256).model_dump_json().encode()
        answer = self.transport.request("POST", "/v1/sessions/import", body=body, headers=_JSON)
        return SessionResource.model_validate_json(answer.body)

    def delete_session(self, session_id: str) -> None:
        """Deletes a session with the logs of its executions."""
        self.transport.request("DELETE", f"/v1/sessions/{quote(session_id, safe='')}")

    # --- executions ---------------------------------------------------------------------------

    def create_execution(self, request: CreateExecution) -> ExecutionResource:
        """Starts an execution; sent again after a broken connection it still starts one only."""
        response = self.transport.request(
            "POST",
            "/v1/executions",
            body=request.model_dump_json(by_alias=True, exclude_unset=True).encode(),
            headers=_JSON | {IDEMPOTENCY_KEY_HEADER: secrets.token_hex(16)},
        )
        return ExecutionResource.model_validate_json(response.body)

    def get_execution(self, execution_id: str) -> ExecutionResource:
        """An execution as it stands."""
        return self._get(_execution_path(execution_id), ExecutionResource)

    def list_executions(
        self, limit: int, *, session_id: str | None = None, agent: str | None = None, phase: str | None = None
    ) -> list[ExecutionResource]:
        """Executions that fit every filter given, at most `limit`."""
        filters = {"session_id": session_id, "agent": agent, "phase": phase}
        return self._list("/v1/executions", Page[ExecutionResource], limit, filters)

    def cancel_execution(self, execution_id: str, reason: str | None) -> None:
        """Asks an execution to stop; its log says when it has."""
        body = _body(CancelExecution, reason=reason)
        self.transport.request("POST", f"{_execution_path(execution_id)}/cancel", body=body, headers=_JSON)

    def pause_execution(self, execution_id: str, reason: str | None) -> ExecutionResource:
        """Lets an execution rest, once what it has in hand has ended."""
        body = PauseExecution(reason=reason).model_dump_json().encode()
        path = f"{_execution_path(execution_id)}/pause"
        answer = self.transport.request("POST", path, body=body, headers=_JSON)
        return ExecutionResource.model_validate_json(answer.body)

    def resume_execution(self, execution_id: str) -> ExecutionResource:
        """Lets a paused execution go on; sent again after a broken connection it is still done once."""
        headers = {IDEMPOTENCY_KEY_HEADER: secrets.token_hex(16)}
        path = f"{_execution_path(execution_id)}/resume"
        return ExecutionResource.model_validate_json(
            self.transport.request("POST", path, headers=headers).body
        )

    def retry_execution(self, execution_id: str, limits: Mapping[str, object]) -> ExecutionResource:
        """Lets an execution that failed go on; sent again after a broken connection it is still done once.

        `limits` are as in a manifest; those that are left out stay what they were.
        """
        request = RetryExecution.model_validate({"limits": limits} if limits else {})
        response = self.transport.request(
            "POST",
            f"{_execution_path(execution_id)}/retry",
            body=request.model_dump_json(by_alias=True, exclude_unset=True).encode(),
            headers=_JSON | {IDEMPOTENCY_KEY_HEADER: secrets.token_hex(16)},
        )
        return ExecutionResource.model_validate_json(response.body)

    def fork_execution(self, execution_id: str, request: ForkExecution) -> ExecutionResource:
        """Begins a fork; sent again after a broken connection it still begins one only."""
        response = self.transport.request(
            "POST",
            f"{_execution_path(execution_id)}/fork",
            body=request.model_dump_json(by_alias=True, exclude_unset=True).encode(),
            headers=_JSON | {IDEMPOTENCY_KEY_HEADER: secrets.token_hex(16)},
        )
        return ExecutionResource.model_validate_json(response.body)

    def rewind_execution(self, execution_id: str, at: int) -> ExecutionResource:
        """Begins to bring the session back; sent again after a broken connection it does so once only."""
        response = self.transport.request(
            "POST",
            f"{_execution_path(execution_id)}/rewind",
            body=RewindExecution(at=at).model_dump_json().encode(),
            headers=_JSON | {IDEMPOTENCY_KEY_HEADER: secrets.token_hex(16)},
        )
        return ExecutionResource.model_validate_json(response.body)

    def get_snapshot(self, execution_id: str, at: int | None) -> SnapshotResource:
        """The files as they were at a step; None: at the newest."""
        response = self.transport.request(
            "GET", f"{_execution_path(execution_id)}/snapshot", query={"at": at}
        )
        return SnapshotResource.model_validate_json(response.body)

    def send_message(self, execution_id: str, text: str) -> MessageResource:
        """Says something to an execution; sent again after a broken connection it is still said once."""
        body = _body(SendMessage, text=text)
        headers = {**_JSON, IDEMPOTENCY_KEY_HEADER: secrets.token_hex(16)}
        answer = self.transport.request(
            "POST", f"{_execution_path(execution_id)}/messages", body=body, headers=headers
        )
        return MessageResource.model_validate_json(answer.body)

    def read_events(self, execution_id: str) -> Iterator[RecordedEvent]:
        """The log so far, ascending by sequence."""
        after = 0
        while True:
            response = self.transport.request(
                "GET", f"{_execution_path(execution_id)}/events", query={"after": after, "limit": PAGE_SIZE}
            )
            page = Page[RecordedEvent].model_validate_json(response.body)
            yield from page.items
            if not page.items or page.next_cursor is None:
                return
            after = page.items[-1].sequence

    def list_artifacts(self, execution_id: str) -> ArtifactList:
        """What an execution left behind when it ended."""
        return self._get(f"{_execution_path(execution_id)}/artifacts", ArtifactList)

    def fetch_artifact(self, execution_id: str, path: str) -> bytes:
        """The bytes of one file that an execution left behind."""
        target = f"{_execution_path(execution_id)}/artifacts/{quote(path)}"
        return self.transport.request("GET", target, headers={"Accept": "*/*"}).body

    # --- inputs -------------------------------------------------------------------------------

    def list_inputs(
        self, limit: int, *, execution_id: str | None = None, state: Literal["open", "resolved"] = "open"
    ) -> list[InputResource]:
        """What waits for a person, or did, at most `limit`, oldest first; its contents may stand in blobs."""
        wanted = {"execution_id": execution_id, "state": state}
        return self._list("/v1/inputs", Page[InputResource], limit, wanted)

    def get_input(self, input_id: str) -> InputResource:
        """One input, with its content."""
        return self._get(f"/v1/inputs/{quote(input_id, safe='')}", InputResource)

    def resolve_input(self, input_id: str, request: ResolveInput) -> InputResource:
        """Decides; sent again after a broken connection it is still one decision."""
        response = self.transport.request(
            "POST",
            f"/v1/inputs/{quote(input_id, safe='')}",
            body=request.model_dump_json(exclude_unset=True).encode(),
            headers=_JSON | {IDEMPOTENCY_KEY_HEADER: secrets.token_hex(16)},
        )
        return InputResource.model_validate_json(response.body)

    def list_grants(self, execution_id: str) -> list[GrantResource]:
        """The kinds of calls that were approved once for all in an execution, oldest first."""
        return self._get(f"{_execution_path(execution_id)}/grants", Page[GrantResource]).items

    def revoke_grant(self, execution_id: str, input_id: str) -> GrantResource:
        """Has calls of such a kind asked about again."""
        path = f"{_execution_path(execution_id)}/grants/{quote(input_id, safe='')}"
        return GrantResource.model_validate_json(self.transport.request("DELETE", path).body)

    # --- tokens -------------------------------------------------------------------------------

    def create_token(self, request: CreateToken) -> CreatedToken:
        """Makes a token. A call that got no answer may have made it: then it has to be revoked."""
        response = self.transport.request(
            "POST", "/v1/tokens", body=request.model_dump_json().encode(), headers=_JSON
        )
        return CreatedToken.model_validate_json(response.body)

    def list_tokens(self, limit: int, *, with_revoked: bool) -> list[TokenResource]:
        """Tokens, at most `limit`, newest first."""
        filters = {"revoked": "true" if with_revoked else None}
        return self._list("/v1/tokens", Page[TokenResource], limit, filters)

    def revoke_token(self, name: str) -> None:
        """Revokes a token."""
        self.transport.request("DELETE", f"/v1/tokens/{quote(name, safe='')}")

    # --- webhooks -----------------------------------------------------------------------------

    def create_webhook(self, request: CreateWebhook) -> CreatedWebhook:
        """Makes a webhook; its secret is in this answer only."""
        body = request.model_dump_json().encode()
        response = self.transport.request("POST", "/v1/webhooks", body=body, headers=_JSON)
        return CreatedWebhook.model_validate_json(response.body)

    def list_webhooks(self, limit: int) -> list[WebhookResource]:
        """Webhooks by name, at most `limit`."""
        return self._list("/v1/webhooks", Page[WebhookResource], limit)

    def test_webhook(self, name: str) -> WebhookTest:
        """Sends a message that tells of nothing."""
        path = f"/v1/webhooks/{quote(name, safe='')}/test"
        return WebhookTest.model_validate_json(self.transport.request("POST", path).body)

    def delete_webhook(self, name: str) -> None:
        """Deletes a webhook."""
        self.transport.request("DELETE", f"/v1/webhooks/{quote(name, safe='')}")

    # --- the console --------------------------------------------------------------------------

    def create_console_link(self) -> ConsoleLink:
        """Makes what opens the console once."""
        return ConsoleLink.model_validate_json(self.transport.request("POST", "/v1/console/links").body)

    # --- blobs --------------------------------------------------------------------------------

    def upload_blob(self, content: bytes) -> str:
        """Stores a blob; answers its SHA-256 in hex."""
        digest = hashlib.sha256(content).hexdigest()
        headers = {"Content-Type": "application/octet-stream"}
        self.transport.request("PUT", f"/v1/blobs/{digest}", body=content, headers=headers)
        return digest

    def fetch_blob(self, sha256: str) -> bytes:
        """A stored blob."""
        return self.transport.request("GET", f"/v1/blobs/{sha256}", headers={"Accept": "*/*"}).body

    def load_payload(self, payload: Payload) -> object:
        """The JSON value of a payload, wherever it is kept."""
        import json

        if isinstance(payload, BlobPayload):
            value: object = json.loads(self.fetch_blob(payload.sha256))
            return value
        return payload.value

    def _get(self, path: str, resource: type[ResourceT]) -> ResourceT:
        return resource.model_validate_json(self.transport.request("GET", path).body)

    def _list(
        self,
        path: str,
        page_type: type[Page[ResourceT]],
        limit: int,
        filters: dict[str, str | None] | None = None,
    ) -> list[ResourceT]:
        items: list[ResourceT] = []
        cursor: str | None = None
        while len(items) < limit:
            query = {**(filters or {}), "limit": min(limit - len(items), PAGE_SIZE), "cursor": cursor}
            page = page_type.model_validate_json(self.transport.request("GET", path, query=query).body)
            items += page.items
            cursor = page.next_cursor
            if cursor is None:
                break
        return items[:limit]


def _secret_path(name: str) -> str:
    return f"/v1/secrets/{quote(name, safe='')}"


def _body(kind: type[BaseModel], **words: object) -> bytes:
    """A request's body of what a person said.

    Raises:
        UsageError: the API takes none like it.
    """
    try:
        return kind.model_validate(words).model_dump_json().encode()
    except ValidationError as error:
        [problem, *_] = error.errors(include_url=False, include_input=False)
        raise UsageError(f"the {problem['loc'][0]} cannot be sent: {problem['msg']}") from error


def _execution_path(execution_id: str) -> str:
    return f"/v1/executions/{quote(execution_id, safe='')}"
