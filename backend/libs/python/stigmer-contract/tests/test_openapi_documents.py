"""OpenAPI documents, ordinary and hostile: which tools come of them, and what is said where none do."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from stigmer_contract.errors import ManifestError
from stigmer_contract.manifest_openapi import OpenApi
from stigmer_contract.manifest_reader import read_manifests
from stigmer_contract.openapi_document import DocumentRefused, ReadApi, read_api
from stigmer_contract.openapi_operations import MAX_OPERATIONS, Operation
from stigmer_contract.openapi_text import DocumentUnreadable, read_document_text

SHOP = """
openapi: 3.0.3
info: {title: Shop, version: 1.0}
servers:
  - url: https://{env}.shop.example/v1/
    variables: {env: {default: api}}
paths:
  /orders/{id}:
    parameters:
      - $ref: '#/components/parameters/Id'
    get:
      operationId: getOrder
      summary: Look an order up.
      responses: {200: {description: ok}}
    put:
      operationId: putOrder
      requestBody:
        required: true
        content: {application/json: {schema: {$ref: '#/components/schemas/Order'}}}
      responses: {200: {description: ok}}
  /orders:
    post:
      requestBody:
        content: {multipart/form-data: {schema: {type: object}}, text/csv: {schema: {type: string}}}
components:
  parameters:
    Id: {name: id, in: path, required: true, description: Its number., schema: {type: integer, minimum: 0,
      exclusiveMinimum: true, example: 5}}
  schemas:
    Order:
      type: object
      required: [id, name]
      properties:
        id: {type: integer, readOnly: true}
        name: {type: string, nullable: true}
        parent: {$ref: '#/components/schemas/Order', description: dropped beside a reference}
        nullable: {type: string, enum: [a], nullable: true}
"""


def api(**fields: Any) -> OpenApi:
    return OpenApi.model_validate({"name": "shop", "document": "shop.yaml", **fields})


def read(text: str, url: str | None = None, **fields: Any) -> ReadApi:
    return read_api(read_document_text(text.encode()), api(**fields), url)


def only(operations: dict[str, Any], **document: Any) -> Operation:
    """The only operation of a document."""
    whole: Any = {
        "openapi": "3.1.0",
        "servers": [{"url": "https://a.example"}],
        "paths": operations,
        **document,
    }
    [operation] = read_api(whole, api()).operations.operations
    return operation


def test_operations_become_tools_with_schemas_that_are_whole_in_themselves() -> None:
    found = read(SHOP)

    assert found.server == "https://api.shop.example/v1"
    get, put, post = found.operations.operations
    assert [(each.name, each.method, each.path) for each in (get, put, post)] == [
        ("getOrder", "GET", "/orders/{id}"),
        ("putOrder", "PUT", "/orders/{id}"),
        ("post_orders", "POST", "/orders"),
    ]
    assert (get.description, post.description) == ("Look an order up.", "POST /orders")
    assert get.input_schema == {
        "type": "object",
        "properties": {"id": {"type": "integer", "exclusiveMinimum": 0, "description": "Its number."}},
        "required": ["id"],
        "additionalProperties": False,
    }
    assert put.input_schema["$defs"] == {
        "Order": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"type": ["string", "null"]},
                "parent": {"$ref": "#/$defs/Order"},
                "nullable": {"type": ["string", "null"], "enum": ["a", None]},
            },
        }
    }
    assert post.body is not None and post.body.media_type == "text/csv"
    assert json.loads(found.operations.model_dump_json()) == json.loads(
        read(SHOP).operations.model_dump_json()
    )


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"operations": ["get*"]}, ["getOrder"]),
        ({"operations": ["PUT *", "POST /orders"]}, ["putOrder", "post_orders"]),
        ({"exclude": ["* /orders/*"]}, ["post_orders"]),
    ],
)
def test_operations_are_chosen_by_name_or_by_method_and_path(fields: Any, names: list[str]) -> None:
    assert [each.name for each in read(SHOP, **fields).operations.operations] == names


def test_arguments_of_one_name_are_told_apart_and_fixed_headers_are_not_the_agent_s() -> None:
    parameters: Any = [
        {"name": name, "in": place, "required": place == "path", "schema": {}}
        for name, place in [
            ("a", "path"), ("a", "query"), ("a", "header"), ("body", "query"), ("Host", "header"),
            ("k", "header"),
        ]
    ]  # fmt: skip
    operation: Any = {"parameters": parameters, "requestBody": {"content": {"application/json": {}}}}
    document: Any = {"openapi": "3.1.0", "paths": {"/x/{a}": {"post": operation}}}
    found = read_api(document, api(server="https://a.example", headers={"K": "fixed"}))
    [made] = found.operations.operations
    assert [(each.argument, each.location) for each in made.parameters] == [
        ("a", "path"), ("a_query", "query"), ("a_header", "header"), ("body", "query"),
    ]  # fmt: skip
    assert made.body is not None and made.body.argument == "body_body"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "it is empty"),
        ("a: 1\n---\nb: 2\n", "it holds more than one document"),
        ("- a\n", "it is not an OpenAPI document: its top is no mapping"),
        ("swagger: '2.0'\n", "it is not an OpenAPI document of version 3.0 or 3.1, but says Swagger 2.0"),
        ("openapi: 4.0.0\n", "but says `openapi: 4.0.0`"),
        ("openapi: 3.1.0\npaths: {}\n", "it names no server; write its address as `server`"),
        ("a: [1, 2\nb: 3\n", "it cannot be read as YAML in line 2"),
        ("a: *nothing\n", "the alias *nothing leads to nothing before it"),
        ("a: &a [*a]\n", "the alias *a leads to nothing before it"),
        ("? [a]\n: b\n", "a key of it is a list or a mapping"),
        ("a: 1\na: 2\n", "the key 'a' stands twice in one mapping"),
        ("[" * 5000, "it is nested more than 100 levels deep"),
        ('{"a":' * 50_000, "it is nested more than 100 levels deep"),
        ('{"a":' * 200 + "1" + "}" * 200, "it is nested more than 100 levels deep"),
        ("\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "it"),
    ],
)
def test_what_is_no_document_is_told_in_one_line(text: str, told: str) -> None:
    with pytest.raises((DocumentUnreadable, DocumentRefused)) as refused:
        read(text)
    assert told in str(refused.value) and "\n" not in str(refused.value)


def test_a_relative_server_is_meant_from_where_the_document_was_fetched() -> None:
    text = "openapi: 3.1.0\nservers: [{url: /api}]\npaths: {/x: {get: {operationId: x}}}\n"
    assert read(text, "https://a.example/docs/openapi.yaml").server == "https://a.example/api"
    with pytest.raises(DocumentRefused, match="no whole address"):
        read(text)
    with pytest.raises(DocumentRefused, match="no whole address"):
        read(text.replace("/api", "file:///etc"))


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"$ref": "https://evil.example/x.json"}, "leads out of the document, and is not followed"),
        ({"$ref": "other.yaml#/x"}, "leads out of the document"),
        ({"$ref": "#/components/schemas/None"}, "leads to nothing in the document"),
        ({"type": "strng"}, "'strng' is no type"),
        ({"properties": {"a": 5}}, "stands where a schema is to be"),
        ({"enum": ["x" * 100_000]}, "its schema is larger than 64 KiB"),
        ({"properties": {f"p{each}": True for each in range(6000)}}, "more than 5000 parts"),
    ],
)
def test_an_odd_operation_is_left_out_and_the_others_stay(schema: dict[str, Any], why: str) -> None:
    odd = {"parameters": [{"name": "a", "in": "query", "schema": schema}], "operationId": "odd"}
    paths: Any = {"/odd": {"get": odd}, "/even": {"get": {"operationId": "even"}}}
    found = read_api({"openapi": "3.1.0", "paths": paths}, api(server="https://a.example")).operations
    assert [each.name for each in found.operations] == ["even"]
    assert why in found.left_out["odd"] and "\n" not in found.left_out["odd"]


def test_references_in_a_circle_end() -> None:
    loop = {"$ref": "#/components/schemas/B"}
    schemas = {"A": loop, "B": {"$ref": "#/components/schemas/A"}, "C": {"properties": {"c": {"$ref": "#"}}}}
    parameters = [{"name": "a", "in": "query", "schema": loop}]
    made = only({"/x": {"get": {"parameters": parameters}}}, components={"schemas": schemas})
    assert made.input_schema["$defs"] == {"B": {"$ref": "#/$defs/A"}, "A": {"$ref": "#/$defs/B"}}
    around = {"P": {"$ref": "#/components/parameters/P"}}
    circle: Any = {"/x": {"get": {"parameters": [{"$ref": "#/components/parameters/P"}]}}}
    with pytest.raises(DocumentRefused, match="leads in a circle"):
        only(circle, components={"parameters": around})


def test_a_bomb_of_aliases_is_bounded() -> None:
    levels = "\n".join(
        f"  s{at}: &s{at} {{anyOf: [{', '.join([f'*s{at - 1}'] * 9)}]}}" for at in range(1, 12)
    )
    text = (
        "openapi: 3.1.0\nservers: [{url: 'https://a.example'}]\nx:\n  s0: &s0 {type: string}\n" + levels
        + "\npaths: {/x: {get: {operationId: x, parameters: [{name: a, in: query, schema: *s11}]}}}\n"
    )  # fmt: skip
    with pytest.raises(DocumentRefused, match="more than 5000 parts"):
        read(text)


def test_more_operations_than_a_model_can_be_told_of_are_to_be_narrowed() -> None:
    paths: Any = {f"/x{at}": {"get": {"operationId": f"x{at}"}} for at in range(MAX_OPERATIONS + 1)}
    document: Any = {"openapi": "3.1.0", "paths": paths}
    with pytest.raises(DocumentRefused, match="name those that the agent needs in `operations`"):
        read_api(document, api(server="https://a.example"))
    found = read_api(document, api(server="https://a.example", operations=["x1*"])).operations
    assert len(found.operations) > 100
    with pytest.raises(DocumentRefused, match="`operations` names 'y', and it has no such operation"):
        read_api(document, api(server="https://a.example", operations=["y"]))


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["$ref", "parameters", "get", "post", "schema", "content", "requestBody", "name", "in", "type",
             "properties", "required", "nullable", "allOf", "items", "x", "/x/{a}", "operationId",
             "servers", "url"]
        ),
        inner | st.sampled_from(["#", "#/", "#/paths/~1x", "query", "path", "header", "a", "object"]),
        max_size=4,
    ),
    max_leaves=25,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(_ANY, _ANY)
def test_no_document_does_more_than_be_refused(paths: JsonValue, components: JsonValue) -> None:
    document: JsonValue = {"openapi": "3.0.0", "paths": {"/x": paths}, "components": components}
    try:
        read_api(document, api(server="https://a.example"))
    except DocumentRefused as refused:
        assert "\n" not in str(refused)


MANIFEST = """apiVersion: agentic.stigmer.ai/v1
kind: Agent
metadata: {name: desk}
spec:
  instructions: Work.
  mcpServers: [{name: crm, url: 'https://crm.example/mcp'}]
  openapi:
    - FIELDS
"""


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ("{name: shop}", "name a document; or server and pack together"),
        ("{name: web, document: x}", "'web' is the name of a built-in toolset"),
        ("{name: crm, document: x}", "names 'crm' twice"),
        ("{name: shop, document: x, server: 'ftp://x'}", "'ftp://x' is not an address such as"),
        ("{name: shop, document: x, server: 'https://u:p@x.example'}", "is not an address such as"),
        ("{name: shop, document: x, headers: {'a b': c}}", "'a b' is not the name of an HTTP header"),
        ("{name: shop, document: x, operations: []}", "must not be empty"),
    ],
)
def test_a_wrong_manifest_is_told_with_what_would_be_right(fields: str, told: str) -> None:
    with pytest.raises(ManifestError) as refused:
        read_manifests(MANIFEST.replace("FIELDS", fields), "agent.yaml")
    [problem] = refused.value.problems
    assert told in problem.message and problem.line >= 7


def test_secrets_and_networks_of_apis_are_the_agent_s() -> None:
    fields = "{name: shop, document: x, server: 'https://a.example', headers: {A: {secret: TOKEN}}}"
    [manifest] = read_manifests(MANIFEST.replace("FIELDS", fields), "agent.yaml")
    assert manifest.spec.secret_names == ["TOKEN"]
    assert manifest.spec.networks["spec.openapi[0].server"] == "web"
    assert manifest.spec.unpacked == ["the OpenAPI document 'x'"]
