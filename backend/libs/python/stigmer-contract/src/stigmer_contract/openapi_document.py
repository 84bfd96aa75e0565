"""Makes tools of the operations that an OpenAPI document (3.0, 3.1, 3.2) describes. Pure.

The document is hostile: nothing is fetched for it, and what is odd in one operation leaves that one out.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple, cast
from urllib.parse import urljoin

from pydantic import JsonValue, ValidationError

from stigmer_contract.json_schemas import check_arguments_schema
from stigmer_contract.manifest_openapi import OpenApi, check_server, matches
from stigmer_contract.openapi_operations import (
    KEPT_HEADERS,
    MAX_OPERATIONS,
    MAX_OPERATIONS_BYTES,
    Operation,
    Operations,
    Parameter,
    RequestBody,
)
from stigmer_contract.openapi_schemas import ArgumentSchemas, resolve

MAX_DESCRIPTION_CHARACTERS: Final = 2_000
MAX_SCHEMA_BYTES: Final = 64 * 1024
MAX_LEFT_OUT: Final = 100
_METHODS: Final = ("get", "head", "options", "post", "put", "patch", "delete")
_STYLES: Final = {
    "path": ("simple", "label", "matrix"),
    "query": ("form", "spaceDelimited", "pipeDelimited", "deepObject"),
    "header": ("simple",),
    "cookie": ("form",),
}
"""By location, the default first."""
_TEMPLATE: Final = re.compile(r"\{([^{}]*)\}")
_Object = dict[str, JsonValue]


class DocumentRefused(ValueError):
    """No tools can be made of the document; says why, in one line."""


class ReadApi(NamedTuple):
    """What a document comes to."""

    server: str
    operations: Operations


def read_api(document: JsonValue, api: OpenApi, url: str | None = None) -> ReadApi:
    """The operations that the manifest lets the agent have.

    Args:
        url: where the document was fetched, for addresses that are relative to it.

    Raises:
        DocumentRefused: it is no such document, has no usable address, or too many operations.
    """
    if not isinstance(document, dict):
        raise DocumentRefused("it is not an OpenAPI document: its top is no mapping")
    version = document.get("openapi")
    if not isinstance(version, str) or not re.match(r"3\.[012](\.|$)", version):
        told = "Swagger 2.0" if "swagger" in document else f"`openapi: {str(version)[:20]}`"
        raise DocumentRefused(f"it is not an OpenAPI document of version 3.0 or 3.1, but says {told}")
    server = api.server or _server_of(document, url)
    found, left_out = dict[str, Operation](), dict[str, str]()
    chosen = 0
    for name, method, path, written, shared in _operations_in(document):
        if not api.offers(name, method, path):
            continue
        chosen += 1
        if chosen > MAX_OPERATIONS:
            raise DocumentRefused(f"more than {MAX_OPERATIONS} operations are chosen; {_FEWER}")
        try:
            if name in found:
                raise ValueError("another one has the same name")
            fixed = frozenset(header.lower() for header in api.headers)
            found[name] = _Reader(document, fixed).operation(name, method, path, written, shared)
        except ValidationError as error:
            left_out[name] = str(error.errors()[0]["msg"])
        except ValueError as error:
            left_out[name] = str(error)
    _check_patterns(document, api)
    if not found:
        first = next(iter(left_out.items()), None)
        because = f"; {first[0]!r} is left out: {first[1]}" if first else ""
        raise DocumentRefused(f"no operation of it can be used{because}")
    operations = Operations(
        operations=list(found.values()), left_out=dict(list(left_out.items())[:MAX_LEFT_OUT])
    )
    if len(operations.model_dump_json().encode()) > MAX_OPERATIONS_BYTES:
        raise DocumentRefused(f"its operations are larger than {MAX_OPERATIONS_BYTES >> 20} MiB; {_FEWER}")
    return ReadApi(server, operations)


_FEWER: Final = "name those that the agent needs in `operations`"


def _check_patterns(document: _Object, api: OpenApi) -> None:
    """Refuse a pattern that means nothing: it is misspelt, or the document has changed."""
    fields = {"operations": api.operations or [], "exclude": api.exclude}
    fields |= {"readOnly": api.read_only, "idempotent": api.idempotent}
    idle = {(field, pattern) for field, patterns in fields.items() for pattern in patterns}
    for name, method, path, *_ in _operations_in(document):
        if not idle:
            return
        idle = {each for each in idle if not matches([each[1]], name, method, path)}
    for field, pattern in sorted(idle):
        raise DocumentRefused(f"`{field}` names {pattern!r}, and it has no such operation")


def _server_of(document: _Object, url: str | None) -> str:
    servers = document.get("servers")
    first = servers[0] if isinstance(servers, list) and servers else None
    written = first.get("url") if isinstance(first, dict) else None
    if not isinstance(written, str):
        raise DocumentRefused("it names no server; write its address as `server`")
    variables = cast("_Object", first).get("variables")
    for name in _TEMPLATE.findall(written[:2048]):
        variable = variables.get(name) if isinstance(variables, dict) else None
        default = variable.get("default") if isinstance(variable, dict) else None
        written = written.replace(f"{{{name}}}", str(default or ""))
    try:
        return check_server(urljoin(url or "", written))
    except ValueError as error:
        raise DocumentRefused(
            f"its server {written[:200]!r} is no whole address; write one as `server`"
        ) from error


def _operations_in(document: _Object) -> Iterator[tuple[str, str, str, _Object, JsonValue]]:
    """Each operation: its name, method, path, what is written of it, and the parameters of its path."""
    paths = document.get("paths")
    for path, written in paths.items() if isinstance(paths, dict) else ():
        try:
            item = resolve(document, written)
        except ValueError:
            continue
        if not isinstance(item, dict):
            continue
        for method in _METHODS:
            operation = item.get(method)
            if isinstance(operation, dict):
                yield (
                    _name_of(operation, method, path),
                    method.upper(),
                    path,
                    operation,
                    item.get("parameters"),
                )


def _name_of(operation: Mapping[str, JsonValue], method: str, path: str) -> str:
    written = operation.get("operationId")
    if isinstance(written, str) and 0 < len(written) <= 256:
        return written
    made = re.sub(r"[^A-Za-z0-9]+", "_", path).strip("_")
    return f"{method}_{made}"[:256]


class _Reader:
    """Reads one operation."""

    def __init__(self, document: _Object, fixed_headers: frozenset[str]) -> None:
        self._document = document
        self._fixed = fixed_headers
        self._schemas = ArgumentSchemas(document, is_old=str(document.get("openapi")).startswith("3.0"))
        self._properties: dict[str, JsonValue] = {}
        self._required: list[JsonValue] = []

    def operation(self, name: str, method: str, path: str, written: _Object, shared: JsonValue) -> Operation:
        """The operation as a tool.

        Raises:
            ValueError: it cannot be one.
        """
        parameters = [
            parameter
            for each in self._parameters(shared, written.get("parameters"))
            if (parameter := self._parameter(each)) is not None
        ]
        given = {each.name for each in parameters if each.location == "path"}
        missing = [each for each in _TEMPLATE.findall(path) if each not in given]
        if missing:
            raise ValueError(f"its path has {{{missing[0]}}}, which no parameter describes")
        body = self._body(written.get("requestBody"))
        schema: _Object = {"type": "object", "properties": self._properties, "additionalProperties": False}
        if self._required:
            schema["required"] = self._required
        if self._schemas.definitions:
            schema["$defs"] = self._schemas.definitions
        check_arguments_schema(schema)
        if len(json.dumps(schema)) > MAX_SCHEMA_BYTES:
            raise ValueError(f"its schema is larger than {MAX_SCHEMA_BYTES >> 10} KiB")
        texts = [str(written[key]) for key in ("summary", "description") if isinstance(written.get(key), str)]
        description = "\n".join(dict.fromkeys(texts)) or f"{method} {path}"
        return Operation.model_validate(
            {
                "name": name, "method": method, "path": path, "parameters": parameters, "body": body,
                "description": description[:MAX_DESCRIPTION_CHARACTERS], "input_schema": schema,
            }
        )  # fmt: skip

    def _parameters(self, *lists: JsonValue) -> list[_Object]:
        """Those of the path and of the operation, of which the latter count."""
        found = dict[tuple[str, str], _Object]()
        for written in lists:
            for each in written if isinstance(written, list) else []:
                parameter = resolve(self._document, each)
                if not isinstance(parameter, dict):
                    raise ValueError("one of its parameters is no mapping")
                name, location = parameter.get("name"), parameter.get("in")
                if not isinstance(name, str) or location not in _STYLES:
                    raise ValueError(f"its parameter {str(name)[:80]!r} is in {str(location)[:80]!r}")
                found[name, str(location)] = parameter
        return list(found.values())

    def _parameter(self, written: _Object) -> Parameter | None:
        """The parameter; None: the agent is not to give it."""
        name, location = str(written["name"]), str(written["in"])
        if location == "header" and (name.lower() in KEPT_HEADERS or name.lower() in self._fixed):
            return None
        if location == "header" and not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            raise ValueError(f"{name[:80]!r} is not the name of a header")
        if location == "cookie" and "cookie" in self._fixed:
            return None
        style = written.get("style", _STYLES[location][0])
        if style not in _STYLES[location]:
            raise ValueError(f"its parameter {name[:80]!r} has the style {str(style)[:80]!r}")
        is_required = written.get("required") is True or location == "path"
        content = written.get("content")
        schema, is_json = _schema_of(written), False
        if isinstance(content, dict):
            kind, media = next(iter(content.items()), ("", None))
            if not _is_json(kind):
                raise ValueError(f"its parameter {name[:80]!r} is written as {kind[:80]!r}")
            schema, is_json = _schema_of(media), True
        explode = written.get("explode", style == "form")
        argument = self._argument(name, location, schema, written.get("description"), is_required=is_required)
        return Parameter.model_validate(
            {
                "argument": argument, "name": name, "location": location, "style": style,
                "explode": explode is True, "is_json": is_json,
            }
        )  # fmt: skip

    def _body(self, written: JsonValue) -> RequestBody | None:
        body = resolve(self._document, written)
        content = body.get("content") if isinstance(body, dict) else None
        if not isinstance(body, dict) or not isinstance(content, dict) or not content:
            return None
        for is_usable in (_is_json, _is_form, _is_text):
            for kind, media in content.items():
                if is_usable(kind):
                    schema = _schema_of(media)
                    required = body.get("required") is True
                    name = self._argument(
                        "body", "body", schema, body.get("description"), is_required=required
                    )
                    media_type = _essence(kind)
                    return RequestBody(
                        argument=name, media_type="application/json" if "*" in media_type else media_type
                    )
        if body.get("required") is not True:
            return None
        raise ValueError(f"its body is {', '.join(content)[:200]}, which tools cannot send")

    def _argument(
        self, name: str, location: str, schema: JsonValue, description: JsonValue, *, is_required: bool
    ) -> str:
        """Add an argument; gives its name."""
        taken = self._schemas.take(schema)
        argument, count = name, 0
        while argument in self._properties:
            count += 1
            argument = f"{name}_{location}" if count == 1 else f"{name}_{location}_{count}"
        if isinstance(description, str) and isinstance(taken, dict) and "description" not in taken:
            taken = {**taken, "description": description[:MAX_DESCRIPTION_CHARACTERS]}
        self._properties[argument] = taken
        if is_required:
            self._required.append(argument)
        return argument


def _schema_of(media: JsonValue) -> JsonValue:
    """The schema that a parameter or a media type has; without one, anything will do."""
    return media.get("schema", _Object()) if isinstance(media, dict) else _Object()


def _essence(kind: str) -> str:
    """The media type without parameters."""
    return kind.partition(";")[0].strip().lower()


def _is_json(kind: str) -> bool:
    return _essence(kind) in ("application/json", "*/*", "application/*") or _essence(kind).endswith("+json")


def _is_form(kind: str) -> bool:
    return _essence(kind) == "application/x-www-form-urlencoded"


def _is_text(kind: str) -> bool:
    return _essence(kind).startswith("text/") and "*" not in _essence(kind)
