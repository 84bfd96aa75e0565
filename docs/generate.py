"""Writes the reference pages from the code that they describe; `--check` only tells whether they are current.

Reads models, settings, commands and routes, and their docstrings. Holds no facts of its own.
"""

import ast
import inspect
import logging
import re
import runpy
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from agent_runner import settings as runner_settings
from stigmer_cli.cli import SECTIONS, root
from stigmer_cli.config import settings_by_field
from stigmer_contract import conversation, error_codes, events, manifest, phases
from stigmer_contract.manifest_parts import format_duration
from stigmer_server import settings as server_settings
from stigmer_server.app import StigmerServer

REFERENCE = Path(__file__).parent / "reference"
ATTACK_LIST = Path(__file__).parents[1] / "backend/libs/python/stigmer-isolation/tests/attacks/attack_list.py"
"""What the tests try; no package, and so run to be read."""
SERVER_VARIABLE = re.compile(r"(?P<names>`[A-Z_]+`( or `[A-Z_]+`)?)[:;,]? ?(?P<meaning>.*)", re.DOTALL)
"""How the server's settings document a field: the variable, then what it means."""
NOTE = "<!-- Written by docs/generate.py (`make schema`). Change the code it describes. -->"


def main() -> int:
    """Write every page, or compare with what is there."""
    logging.disable()
    stale: list[str] = []
    for name, (title, introduction, write) in PAGES.items():
        text = f"{NOTE}\n# {title}\n\n{introduction}\n\n" + "\n".join(write()).rstrip() + "\n"
        file = REFERENCE / name
        if "--check" in sys.argv[1:]:
            if not file.is_file() or file.read_text(encoding="utf-8") != text:
                stale.append(name)
        else:
            file.write_text(text, encoding="utf-8")
    if stale:
        print(f"error: not current: {', '.join(stale)}\n\nhint: run `make schema`", file=sys.stderr)
    return len(stale) and 1


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]] | list[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(_cell(text) for text in row)} |"
    yield ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# --- docstrings under fields and members, which Python itself does not keep -------------------


class _Source:
    """The classes of a module, as they are written."""

    def __init__(self, module: ModuleType) -> None:
        tree = ast.parse(inspect.getsource(module))
        self._classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}

    def members(self, class_name: str) -> Iterator[tuple[str, str, str]]:
        """Name, annotation and docstring of each field or enum member, in order."""
        body = self._classes[class_name].body
        for node, following in zip(body, [*body[1:], None], strict=True):
            match node:
                case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
                    kind = ast.unparse(annotation)
                case ast.Assign(targets=[ast.Name(id=name)]):
                    kind = ""
                case _:
                    continue
            match following:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    documentation = text
                case _:
                    documentation = ""
            yield name, kind, documentation


# --- pages ------------------------------------------------------------------------------------


def manifest_page() -> Iterator[str]:
    """Every field of the manifest, by the object that holds it."""
    every_field_set = {name: [True] for name in manifest.AgentSpec.model_fields}
    not_yet = manifest.unsupported_fields(manifest.AgentSpec.model_construct(None, **every_field_set))
    pending: list[tuple[str, type[BaseModel]]] = [("", manifest.AgentManifest)]
    for path, model in pending:  # grows while it is read
        yield f"## `{path}`\n" if path else "## The document\n"
        yield f"{inspect.cleandoc(model.__doc__ or '')}\n"
        properties: dict[str, Any] = model.model_json_schema(by_alias=True)["properties"]
        rows: list[tuple[str, ...]] = []
        for name, info in model.model_fields.items():
            key = info.alias or name
            field_path = f"{path}.{key}".lstrip(".")
            meaning = info.description or ""
            if field_path in not_yet:
                meaning += " **Not yet**: an agent that sets it is refused."
            rows.append((f"`{key}`", _json_type(properties[key]), _default(info), meaning))
            suffix = "[]" if properties[key].get("type") == "array" else ""
            known = {listed for _, listed in pending}
            nested = [listed for listed in _models_in(info.annotation) if listed not in known]
            pending += [(field_path + suffix, listed) for listed in nested]
        yield from _table(("field", "type", "default", "meaning"), rows)


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _json_type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_json_type(part) for part in schema["anyOf"] if part != {"type": "null"})
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_json_type(schema['items'])}"
    if schema.get("pattern") == r"^(\d+[smhd])+$":
        return "duration"
    return "object" if "$ref" in schema else str(schema.get("type", "any"))


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value: object = info.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, timedelta):
        return f"`{format_duration(value)}`"
    return f"`{value}`" if isinstance(value, int | float | str) and value != "" else ""


def command_page() -> Iterator[str]:
    """The help of every command."""
    for title, section in SECTIONS.items():
        yield f"## {title}\n"
        for name in section:
            command = root.get_command(click.Context(root), name)
            assert command is not None
            yield from _help(f"stigmer {name}", command)


def _help(path: str, command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=path, terminal_width=100, help_option_names=["-h", "--help"])
    yield f"### {path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            nested = command.get_command(context, name)
            assert nested is not None
            yield from _help(f"{path} {name}", nested)


def environment_page() -> Iterator[str]:
    """Every variable of the three programs."""
    head = ("variable", "default", "meaning")
    yield "## `stigmer` and the local stack\n"
    yield "Each can also stand in `config.yaml` in `STIGMER_HOME`, under the key given; the environment wins."
    yield "The stack passes on to the server and the runner what concerns them.\n"
    rows = [
        (f"`{s.variable}`", f"`{s.key}`", _code(s.default), s.description)
        for s in settings_by_field().values()
    ]
    yield from _table(("variable", "key", "default", "meaning"), rows)
    yield "## agent-runner\n"
    yield from _table(
        head,
        [
            (
                f"`{variable.name}`",
                "required" if variable.required else _code(variable.default),
                variable.description,
            )
            for variable in runner_settings.variables()
        ],
    )
    yield "## stigmer-server\n"
    source = _Source(server_settings)
    found: list[tuple[str, ...]] = []
    for class_name in ("Settings", "TlsFiles", "TemporalSettings"):
        for _, _, text in source.members(class_name):
            if match := SERVER_VARIABLE.fullmatch(text):
                found.append((match["names"], match["meaning"]))
    yield from _table(("variable", "meaning and default"), found)


def _code(text: str | None) -> str:
    return "" if text is None else f"`{text}`"


def event_page() -> Iterator[str]:
    """Every event, by type."""
    shapes: list[type[BaseModel]] = [
        events.RecordedEvent,
        events.InlinePayload,
        events.BlobPayload,
        events.Usage,
    ]
    answers = [conversation.ModelAnswer, *_models_in(conversation.AnswerPart)]
    results = [conversation.ToolResult, conversation.ArgumentProblem, *_models_in(conversation.Content)]
    stored = _models_in(get_args(events.Event)[0])
    live = _models_in(get_args(events.LiveEvent)[0])
    sections = (
        ("Stored", events, stored),
        ("Live", events, live),
        ("Shapes", events, iter(shapes)),
        ("Answers", conversation, iter(answers)),
        ("Results", conversation, iter([*results, conversation.Exact])),
    )
    for title, module, models in sections:
        source = _Source(module)
        yield f"## {title}\n"
        for model in models:
            kind = model.model_fields.get("type")
            yield f"### {f'`{kind.default}`' if kind is not None else model.__name__}\n"
            yield f"{inspect.cleandoc(model.__doc__ or '')}\n"
            fields = source.members(model.__name__)
            rows = [
                (f"`{name}`", f"`{_plain(annotation)}`", text)
                for name, annotation, text in fields
                if name != "type"
            ]
            if rows:
                yield from _table(("field", "type", "meaning"), rows)
    yield "### Outcomes of a call\n"
    outcomes = [
        (f"`{conversation.ToolOutcome[name]}`", text)
        for name, _, text in _Source(conversation).members("ToolOutcome")
    ]
    yield from _table(("outcome", "meaning"), outcomes)


def _plain(annotation: str) -> str:
    return annotation.removeprefix("Literal[").removesuffix("]") if "Literal[" in annotation else annotation


def error_page() -> Iterator[str]:
    """Every error code, and the phases."""
    rows = [
        (f"`{error_codes.ErrorCode[name]}`", text)
        for name, _, text in _Source(error_codes).members("ErrorCode")
    ]
    yield from _table(("code", "meaning"), rows)
    yield "## Phases of an execution\n"
    moves = [
        (
            f"`{phase}`",
            ", ".join(f"`{later}`" for later in phases.ExecutionPhase if later in phases.LEGAL_MOVES[phase]),
        )
        for phase in phases.ExecutionPhase
    ]
    yield from _table(("phase", "may be followed by"), moves)


def http_page() -> Iterator[str]:
    """Every route."""
    server = StigmerServer(
        server_settings.load_settings({"STIGMER_HOME": "/nonexistent", "STIGMER_TOKEN": "none"})
    )
    rows: list[tuple[str, ...]] = []
    paths: dict[str, dict[str, dict[str, Any]]] = server.openapi()["paths"]
    for path, methods in paths.items():
        for method, operation in methods.items():
            text: str = operation.get("description") or operation["summary"]
            allowed = [scope for entry in operation["security"] for scope in entry["token"]]
            scopes = ", ".join(f"`{scope}`" for scope in allowed) or "no token"
            rows.append((f"`{method.upper()}`", f"`{path}`", text.split("\n\n")[0], scopes))
    yield from _table(("method", "path", "what it does", "for"), rows)


def attack_page() -> Iterator[str]:
    """What gets through where, as the tests have it."""
    tried = runpy.run_path(str(ATTACK_LIST))
    environments: tuple[str, ...] = tried["ENVIRONMENTS"]
    stays_open: Mapping[str, frozenset[str]] = tried["STAYS_OPEN"]
    rows: list[tuple[str, ...]] = []
    for title, program in tried["ATTACKS"].items():
        cells = (_what_is_open(program, stays_open[environment]) for environment in environments)
        rows.append((title.partition(" ")[2], *cells))
    refused = ("refused",) * len(environments)
    rows += [(title.lstrip("0123456789, "), *refused) for title in tried["ATTACKS_BY_MORE_THAN_A_COMMAND"]]
    rows.append(("every known way past `network: none`, `web` and `all`", *refused))
    yield "## What is tried"
    yield ""
    yield from _table(("attack", *environments), rows)
    yield "## What goes on working"
    yield ""
    yield from (f"- {title}" for title in (*tried["MUST_WORK"], *tried["MUST_WORK_WHERE_INSTALLED"]))
    yield "- `pip download` and `git clone` over HTTPS, directly and through a proxy (`network: web`)"


def _what_is_open(program: str, stays_open: frozenset[str]) -> str:
    names = sorted(name for name in stays_open if f'attempt("{name}"' in program)
    return f"**open**: {', '.join(names)}" if names else "refused"


PAGES: dict[str, tuple[str, str, Callable[[], Iterator[str]]]] = {
    "manifest.md": (
        "The manifest",
        """One YAML document describes one agent; a file may hold several, with `---` between.
Unknown keys are errors. [agent.schema.json](agent.schema.json) says the same as JSON Schema, for
editors. A duration is a number and a unit, such as `90s`, `10m`, `2h` or `1d`, or a sum of such,
`1h30m`.""",
        manifest_page,
    ),
    "isolation.md": (
        "What isolation stops, as the tests try it",
        """Each attack is a command, or several, that the tests run in each of these environments; they fail
where something else gets through than stands here, and where something that stays open does not any more.
Native: as root and as an ordinary user. Linux 6.12 or newer; on older
kernels commands can signal those of other sessions, except in bubblewrap. What it means:
[isolation](../concepts/isolation.md).""",
        attack_page,
    ),
    "commands.md": (
        "The command line",
        """`stigmer COMMAND --help` shows the same. The answer goes to stdout, everything else to
stderr. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the environment is not ready (port, network,
a program that is missing), 4 waits for a person, 130 interrupted.""",
        command_page,
    ),
    "environment.md": (
        "Environment variables",
        """A secret may also come as a file: `NAME_FILE` names a file that holds it. An empty value
counts as unset. A wrong value ends the program at once, with exit code 2 and one line that names
the variable.""",
        environment_page,
    ),
    "events.md": (
        "Events",
        """JSON is snake_case; sizes are bytes, durations seconds, times UTC. A stored event comes
inside a `RecordedEvent`. A live event is stored nowhere: only whoever watches at that moment sees
it.

A reader passes over events and fields that it does not know: later versions say more. Events that older
versions wrote are given in the words of this page too; `usage.updated`, of 0.1.0, is written no more.""",
        event_page,
    ),
    "error-codes.md": (
        "Error codes and phases",
        """A code never changes its meaning; messages may. HTTP problem documents carry one in
`code`, and so does the event `execution.failed`.""",
        error_page,
    ),
    "http.md": (
        "HTTP",
        """REST with JSON under `/v1`; the whole description is at `/openapi.json`. Calls need
`Authorization: Bearer TOKEN`; the local stack's token is in `STIGMER_HOME/run/token`. Errors are
problem documents (RFC 9457) with a stable `code`. Lists page by cursor: pass `next_cursor` of one
page as `cursor` to get the next. Creating calls take `Idempotency-Key`.

The last column says which scopes a token may have. A `runner` token also shows its leg's lease, in
`Stigmer-Lease`. Every route may answer 401, 403 (scope or lease) and 429 (too many calls; `Retry-After` says
how many seconds to wait).

`GET /v1/executions/{execution_id}/events` with `Accept: text/event-stream` is a stream: `id:` is an
event's sequence, and a reader that comes back with `Last-Event-ID` gets exactly the events it missed,
then live ones.""",
        http_page,
    ),
}

if __name__ == "__main__":
    sys.exit(main())
