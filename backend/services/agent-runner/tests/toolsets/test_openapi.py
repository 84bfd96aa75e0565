"""Operations of an OpenAPI document as tools: what is sent, what is told, and where no request goes."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue, SecretStr

from agent_runner.legs import ActivityAttempt
from agent_runner.mcp_servers.tool_names import model_name
from agent_runner.toolsets.openapi_requests import ArgumentsUnfit, write_request
from leg_server import Server, leg_runner
from mcp_legs import calls, results
from recording_server import Given, RecordingServer
from stigmer_contract.conversation import ToolOutcome
from stigmer_contract.events import EVENT_ADAPTER, ExecutionFailed, ToolStarted
from stigmer_contract.manifest_openapi import OpenApi
from stigmer_contract.openapi_document import read_api
from stigmer_contract.openapi_operations import OPERATIONS_FILE, Operation
from stigmer_contract.packs import PackedFile, write_pack
from stigmer_isolation.launcher import CommandLauncher

TRY = ActivityAttempt("try-1", b"token")
CANARY = "Bearer a-canary-4711"
JSON = {"content-type": "application/json"}
ORDER: dict[str, JsonValue] = {
    "type": "object",
    "required": ["item"],
    "properties": {"item": {"type": "string"}, "parts": {"$ref": "#/components/schemas/Order"}},
}
TEXTS: dict[str, JsonValue] = {"type": "array", "items": {"type": "string"}}
DOCUMENT: dict[str, JsonValue] = {
    "openapi": "3.1.0",
    "paths": {
        "/orders/{id}": {
            "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
            "get": {
                "operationId": "getOrder",
                "parameters": [
                    {"name": "fields", "in": "query", "schema": TEXTS},
                    {"name": "X-Trace", "in": "header", "schema": {"type": "string"}},
                    {"name": "authorization", "in": "header", "schema": {"type": "string"}},
                    {"name": "x-tenant", "in": "header", "schema": {"type": "string"}},
                ],
            },
            "delete": {"operationId": "removeOrder"},
        },
        "/orders": {
            "post": {
                "operationId": "createOrder",
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Order"}}},
                },
            },
            "get": {"operationId": "find orders"},
        },
    },
    "components": {"schemas": {"Order": ORDER}},
}  # fmt: skip


def server_for(web: RecordingServer, **fields: Any) -> Server:
    """An agent that has the API, as `stigmer apply` packs it."""
    api = OpenApi.model_validate({"name": "shop", "document": "x", "server": f"{web.url}/v1", **fields})
    read = read_api(DOCUMENT, api)
    content = read.operations.model_dump_json(exclude_defaults=True).encode()
    pack = write_pack([PackedFile(OPERATIONS_FILE, content, False)])
    digest = hashlib.sha256(pack).hexdigest()
    packed = api.model_copy(update={"pack": f"sha256:{digest}"})
    server = Server(openapi=[packed.model_dump(mode="json", by_alias=True)])
    server.blobs[digest] = pack
    return server


async def run(
    server: Server,
    launcher: CommandLauncher,
    root: Path,
    *asked: tuple[str, Mapping[str, object]],
    allowed: str = "127.0.0.1",
) -> None:
    environment = {"STIGMER_WEB_ALLOW_HOSTS": allowed}
    await leg_runner(server, calls(*asked), launcher, root, environment=environment).run("exe_1", TRY)


async def test_operations_are_called_with_the_manifest_s_headers_and_the_call_s_arguments(
    web: RecordingServer, launcher: CommandLauncher, tmp_path: Path
) -> None:
    headers = {"Authorization": {"secret": "TOKEN"}, "X-Tenant": "acme"}
    server = server_for(web, headers=headers)
    server.secrets = {"TOKEN": SecretStr(CANARY)}
    web.answers["/v1/orders/a%2Fb"] = Given(f'{{"item": "pen", "seen": "{CANARY}"}}'.encode(), 200, JSON)
    web.answers["/v1/orders"] = Given(b'{"id": 7}', 201, JSON)

    await run(
        server, launcher, tmp_path,
        ("shop__getOrder", {"id": "a/b", "fields": ["x", "y z"], "X-Trace": "t1"}),
        ("shop__createOrder", {"body": {"item": "ink", "parts": {"item": "cap"}}}),
        ("shop__createOrder", {"body": {"parts": {}}}),
        ("shop__removeOrder", {"id": "9"}),
    )  # fmt: skip

    read, created, unfit, removed = results(server)
    assert read.text.startswith('{"item": "pen", "seen": "') and CANARY not in read.text
    assert created.text == '{"id": 7}'
    assert (unfit.outcome, "'item' is a required property" in unfit.text) == (ToolOutcome.INVALID, True)
    assert (removed.outcome, removed.text) == (
        ToolOutcome.FAILED, "HTTP 404 Not Found\nnothing here",
    )  # fmt: skip
    assert [(each.method, each.target) for each in web.asked] == [
        ("GET", "/v1/orders/a%2Fb?fields=x&fields=y%20z"),
        ("POST", "/v1/orders"),
        ("DELETE", "/v1/orders/9"),
    ]
    assert [each.headers["authorization"] for each in web.asked] == [CANARY] * 3
    assert (web.asked[0].headers["x-trace"], web.asked[0].headers["x-tenant"]) == ("t1", "acme")
    assert json.loads(web.asked[1].body) == {"item": "ink", "parts": {"item": "cap"}}
    assert not [event for event in server.events if CANARY.encode() in EVENT_ADAPTER.dump_json(event)]
    effects = [(each.tool, each.side_effects) for each in server.events if isinstance(each, ToolStarted)]
    assert effects == [
        ("shop__getOrder", False), ("shop__createOrder", True), ("shop__removeOrder", True)
    ]  # fmt: skip


async def test_what_is_in_the_log_is_not_asked_for_again(
    web: RecordingServer, launcher: CommandLauncher, tmp_path: Path
) -> None:
    server = server_for(web)
    web.answers["/v1/orders"] = Given(b"[]", 200, JSON)
    await run(server, launcher, tmp_path, ("shop__createOrder", {"body": {"item": "ink"}}))
    asked = len(web.asked)
    del server.log[-2:]  # as if the runner had died before it wrote that the execution is done

    await run(server, launcher, tmp_path, ("shop__createOrder", {"body": {"item": "ink"}}))

    assert (len(web.asked), [result.text for result in results(server)]) == (asked, ["[]"])


async def test_of_a_request_that_broke_off_nobody_knows_and_what_only_reads_is_asked_again(
    web: RecordingServer, launcher: CommandLauncher, tmp_path: Path
) -> None:
    server = server_for(web, idempotent=["removeOrder"])
    web.answers |= {path: Given(b"{", 200, JSON, promised=10) for path in ("/v1/orders", "/v1/orders/1")}

    await run(
        server, launcher, tmp_path,
        (next(name for name in tools_of(server) if "find" in name), {}),
        ("shop__removeOrder", {"id": "1"}),
        ("shop__createOrder", {"body": {"item": "ink"}}),
    )  # fmt: skip

    found, removed, created = results(server)
    outcomes = (found.outcome, removed.outcome, created.outcome)
    assert outcomes == (ToolOutcome.FAILED, ToolOutcome.UNKNOWN, ToolOutcome.UNKNOWN)
    assert created.text.startswith("Outcome unknown: the connection was lost")
    assert [each.method for each in web.asked] == ["GET", "GET", "DELETE", "DELETE", "POST"]


def tools_of(server: Server) -> list[str]:
    api = server.spec.openapi[0]
    return [model_name(api.name, each.name) for each in read_api(DOCUMENT, api).operations.operations]


async def test_a_redirection_to_another_place_is_not_followed(
    web: RecordingServer, launcher: CommandLauncher, tmp_path: Path
) -> None:
    server = server_for(web, operations=["getOrder"])
    with RecordingServer() as other:
        other.answers["/orders/1"] = Given(b"stolen")
        web.answers |= {
            "/v1/orders/1": Given(status=302, headers={"location": f"{other.url}/orders/1"}),
            "/v1/orders/2": Given(status=307, headers={"location": "/v1/orders/3"}),
            "/v1/orders/3": Given(b"three"),
            "/v1/orders/4": Given(status=302, headers={"location": "/v1/orders/4"}),
        }
        await run(server, launcher, tmp_path, *(("shop__getOrder", {"id": number}) for number in "124"))
        assert other.asked == []
    away, near, around = results(server)
    assert (
        away.text
        == f"HTTP 302 Found, which sends on to '{other.url}/orders/1': not followed, without content"
    )
    assert (near.text, "redirections" in around.text) == ("three", True)


async def test_private_addresses_are_called_only_where_the_operator_allows_it(
    web: RecordingServer, launcher: CommandLauncher, tmp_path: Path
) -> None:
    server = server_for(web)
    await run(server, launcher, tmp_path, ("shop__getOrder", {"id": "1"}), allowed="shop.example")
    [refused] = results(server)
    assert refused.text == (
        "The request was not sent: '127.0.0.1' is this machine itself, which the operator has not allowed "
        "(STIGMER_WEB_ALLOW_HOSTS)"
    )
    assert web.asked == []


async def test_a_pack_that_is_not_there_ends_the_execution_with_what_to_do(
    web: RecordingServer, launcher: CommandLauncher, tmp_path: Path
) -> None:
    server = server_for(web)
    server.blobs = dict.fromkeys(server.blobs, b"other")
    await run(server, launcher, tmp_path, ("shop__getOrder", {"id": "1"}))
    ended = server.events[-1]
    assert isinstance(ended, ExecutionFailed)
    assert (ended.code, ended.hint) == ("invalid_manifest", "apply the agent again")


def operation(path: str, *parameters: dict[str, Any], body: str | None = None) -> Operation:
    fields: dict[str, Any] = {"name": "x", "method": "POST", "path": path, "input_schema": {"type": "object"}}
    parts = [
        {"argument": each["name"], "style": "form", "explode": False, "location": "query", **each}
        for each in parameters
    ]
    media = None if body is None else {"argument": "body", "media_type": body}
    return Operation.model_validate({**fields, "parameters": parts, "body": media})


@pytest.mark.parametrize(
    ("fields", "value", "target"),
    [
        ({"style": "form", "explode": True}, ["a", "b&c"], "?p=a&p=b%26c"),
        ({"style": "form"}, ["a", "b"], "?p=a,b"),
        ({"style": "form", "explode": True}, {"k": 1, "l": True}, "?k=1&l=true"),
        ({"style": "form"}, {"k": 1}, "?p=k,1"),
        ({"style": "spaceDelimited"}, ["a", "b"], "?p=a%20b"),
        ({"style": "pipeDelimited"}, ["a", "b"], "?p=a%7Cb"),
        ({"style": "deepObject"}, {"k": "ä"}, "?p%5Bk%5D=%C3%A4"),
        ({"style": "form", "is_json": True}, {"k": [1]}, "?p=%7B%22k%22%3A%20%5B1%5D%7D"),
        ({"style": "form"}, None, "?p="),
        ({"style": "form"}, 1.5, "?p=1.5"),
        ({"style": "form"}, "\ud800#", "?p=%ED%A0%80%23"),
    ],
)
def test_arguments_are_written_into_the_query_by_their_style(
    fields: dict[str, Any], value: JsonValue, target: str
) -> None:
    request = write_request("https://a.example", operation("/x", {"name": "p", **fields}), {"p": value})
    assert request.url == f"https://a.example/x{target}"


@pytest.mark.parametrize(
    ("style", "explode", "value", "path"),
    [
        ("simple", False, "a/../b?c", "/x/a%2F..%2Fb%3Fc/y"),
        ("simple", False, ["a", "b"], "/x/a,b/y"),
        ("simple", True, {"k": "v"}, "/x/k=v/y"),
        ("label", False, 5, "/x/.5/y"),
        ("matrix", False, 5, "/x/;p=5/y"),
        ("matrix", True, {"k": 1, "l": 2}, "/x/;k=1;l=2/y"),
    ],
)
def test_arguments_are_written_into_the_path_by_their_style(
    style: str, explode: bool, value: JsonValue, path: str
) -> None:
    parameter = {"name": "p", "location": "path", "style": style, "explode": explode}
    assert write_request("", operation("/x/{p}/y", parameter), {"p": value}).url == path


@pytest.mark.parametrize("value", ["..", ".", "", [], {}])
def test_an_argument_never_leads_to_another_operation(value: JsonValue) -> None:
    parameter = {"name": "p", "location": "path", "style": "simple"}
    with pytest.raises(ArgumentsUnfit):
        write_request("https://a.example/v1", operation("/x/{p}/admin", parameter), {"p": value})


@pytest.mark.parametrize("value", ["a\r\nHost: evil", "ä", "\0", ["x", "\n"]])
def test_an_argument_never_writes_a_header_of_its_own(value: JsonValue) -> None:
    parameter = {"name": "X-P", "location": "header", "style": "simple"}
    with pytest.raises(ArgumentsUnfit):
        write_request("", operation("/x", parameter), {"X-P": value})
    named = {"name": "Host", "location": "header", "style": "simple"}
    with pytest.raises(ArgumentsUnfit, match="not the tool's to set"):
        write_request("", operation("/x", named), {"Host": "evil"})


def test_bodies_are_written_as_their_media_type_says() -> None:
    def content(media_type: str, value: JsonValue) -> tuple[bytes, str]:
        request = write_request("", operation("/x", body=media_type), {"body": value})
        return request.content, request.headers["Content-Type"]

    form = "application/x-www-form-urlencoded"
    assert content(form, {"a": [1, "b c"], "d": "ä"}) == (b"a=1&a=b+c&d=%C3%A4", form)
    assert content("text/plain", "ä") == ("ä".encode(), "text/plain; charset=utf-8")
    assert content("application/merge-patch+json", {"a": "ä"}) == (
        '{"a": "ä"}'.encode(), "application/merge-patch+json",
    )  # fmt: skip
    with pytest.raises(ArgumentsUnfit):
        content(form, "a=b")
