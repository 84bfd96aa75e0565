"""What an agent of many tools costs: its prompt with and without the search for them, and what is found.

The tools are those of fifty services in the manner of public APIs; the searches are worded as an agent would,
none with the name of what is meant.
"""

import time
from typing import Any, Final

from figures import Bound, Table
from pydantic_ai.tools import ToolDefinition

from agent_runner.toolsets.tool_index import IndexedTool, ToolIndex
from agent_runner.toolsets.tool_search import MAX_FOUND, catalogue_of
from agent_runner.toolsets.tool_sizes import tokens_of_tool

_NAMES: Final = """
accounts alerts assets audits backups branches budgets builds calendars campaigns carts categories
certificates channels clusters comments commits contacts contracts coupons customers dashboards
deployments devices documents domains employees events files forms invoices issues jobs labels licences
meetings messages milestones notes orders payments playlists pullRequests refunds releases reports
shipments tickets users webhooks
"""
SERVICES: Final = _NAMES.split()
VERBS: Final = {
    "list": "List {plural}, newest first, a page at a time.",
    "get": "Look one of the {plural} up by its id.",
    "create": "Add a new entry to the {plural}.",
    "update": "Change fields of one of the {plural}.",
    "delete": "Remove one of the {plural} for good.",
    "search": "Find {plural} by text.",
    "export": "Write {plural} into a file for download.",
    "archive": "Put one of the {plural} away without removing it.",
    "assign": "Say who is responsible for one of the {plural}.",
    "share": "Let others see one of the {plural}.",
}
ASKED: Final = {
    "list": "which {words} are there",
    "get": "look up {words} by id",
    "create": "add new {words}",
    "update": "changing fields of {words}",
    "delete": "remove {words}",
    "search": "find {words} text",
    "export": "download {words} file",
    "archive": "put away {words}",
    "assign": "who is responsible {words}",
    "share": "let others see {words}",
}


def bench_many_tools(table: Table) -> None:
    """500 tools of 50 services; times are of the processor."""
    tools = {service: [_tool(service, verb) for verb in VERBS] for service in SERVICES}
    every = [tool for several in tools.values() for tool in several]
    shown = sum(map(tokens_of_tool, every))
    search = ToolDefinition(name="search_tools", description=catalogue_of(tools))
    hidden = tokens_of_tool(search)
    table.add(f"prompt of {len(every)} tools, all shown", f"{shown:,} tokens", shown)
    table.add("the same, found by search", f"{hidden:,} tokens", hidden, Bound(2000, "<= 2,000 tokens"))
    started = time.process_time()
    index = ToolIndex([IndexedTool(t.name, t.name, t.description or "", _names(t)) for t in every])
    seconds = time.process_time() - started
    table.add("index of 500 tools", f"{seconds * 1000:.0f} ms", seconds, Bound(0.1, "<= 100 ms"))
    wanted = [(_query(service, verb), _name(service, verb)) for service in SERVICES for verb in VERBS]
    started = time.process_time()
    found = [index.find([query], MAX_FOUND) for query, _ in wanted]
    seconds = (time.process_time() - started) / len(wanted)
    table.add("one search in 500 tools", f"{seconds * 1000:.2f} ms", seconds, Bound(0.005, "<= 5 ms"))
    for most in (1, 3, MAX_FOUND):
        meant = [name in names[:most] for names, (_, name) in zip(found, wanted, strict=True)]
        share = sum(meant) / len(meant)
        bound = Bound(0.95, ">= 95 %", at_least=True) if most == MAX_FOUND else None
        table.add(f"meant tool among the first {most}", f"{share:.1%}", share, bound)


def _tool(service: str, verb: str) -> ToolDefinition:
    plural = _words(service)
    properties: dict[str, Any] = {
        "id": {"type": "string", "description": f"Id of one of the {plural}."},
        "fields": {"type": "object", "description": "What is to be set, by name."},
        "page": {"type": "integer", "minimum": 1, "description": "From 1."},
    }
    schema = {"type": "object", "properties": properties, "required": ["id"]}
    return ToolDefinition(
        name=_name(service, verb),
        description=VERBS[verb].format(plural=plural),
        parameters_json_schema=schema,
    )


def _name(service: str, verb: str) -> str:
    return f"{service}__{verb}{service[0].upper()}{service[1:]}"


def _query(service: str, verb: str) -> str:
    return ASKED[verb].format(words=_words(service).removesuffix("s"))


def _words(service: str) -> str:
    return "pull requests" if service == "pullRequests" else service


def _names(tool: ToolDefinition) -> tuple[str, ...]:
    return tuple(tool.parameters_json_schema["properties"])
