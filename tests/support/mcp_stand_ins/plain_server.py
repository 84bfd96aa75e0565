"""A small MCP server over stdio that knows nothing of any SDK: what it does is what a test asks of it.

`python plain_server.py [JOURNAL]`: the calls that it carries out are written into that file, one a line.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

JOURNAL = Path(sys.argv[1]) if len(sys.argv) > 1 else None
ANSWERS: dict[str, Callable[[dict[str, Any]], Any]] = {}
SCHEMAS: dict[str, dict[str, Any]] = {}


def tool(name: str, /, **properties: Any) -> Callable[[Callable[[dict[str, Any]], Any]], None]:
    def add(function: Callable[[dict[str, Any]], Any]) -> None:
        ANSWERS[name] = function
        SCHEMAS[name] = {"type": "object", "properties": properties, "required": list(properties)}

    return add


def note(line: str) -> None:
    if JOURNAL is not None:
        with JOURNAL.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def text(said: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": said}]}


@tool("add", a={"type": "integer"}, b={"type": "integer"})
def add(arguments: dict[str, Any]) -> Any:
    note("add")
    return text(str(arguments["a"] + arguments["b"]))


@tool("environment", name={"type": "string"})
def environment(arguments: dict[str, Any]) -> Any:
    return text(os.environ.get(arguments["name"], "(not set)"))


@tool("read", path={"type": "string"})
def read(arguments: dict[str, Any]) -> Any:
    note("read")
    try:
        return text(Path(arguments["path"]).read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        return {**text(f"{type(error).__name__}"), "isError": True}


@tool("run", script={"type": "string"})
def run(arguments: dict[str, Any]) -> Any:
    """Python code; what it assigns to `said` is the answer."""
    names: dict[str, Any] = {}
    exec(arguments["script"], names)  # noqa: S102 - a test's own
    return text(str(names.get("said")))


@tool("die")
def die(arguments: dict[str, Any]) -> Any:
    note("die")
    os._exit(3)


@tool("die_once")
def die_once(arguments: dict[str, Any]) -> Any:
    """Dies at its first call, and not at the second, which finds the first in the journal."""
    assert JOURNAL is not None
    is_first = not JOURNAL.exists() or "die_once" not in JOURNAL.read_text(encoding="utf-8")
    note("die_once")
    if is_first:
        os._exit(3)
    return text("alive")


@tool("hang")
def hang(arguments: dict[str, Any]) -> Any:
    note("hang")
    while True:
        time.sleep(60)


@tool("pid")
def pid(arguments: dict[str, Any]) -> Any:
    return text(str(os.getpid()))


@tool("parts")
def parts(arguments: dict[str, Any]) -> Any:
    picture = (
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )
    return {
        "content": [
            {"type": "text", "text": "see:"},
            {"type": "image", "data": picture, "mimeType": "image/png"},
            {"type": "resource_link", "uri": "file:///a.txt", "name": "a.txt"},
            {"type": "hologram", "beam": 7},
        ],
        "structuredContent": {"answer": 42},
    }


def send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def answer(message: dict[str, Any]) -> None:
    method = message.get("method")
    params: dict[str, Any] = message.get("params") or {}
    if "id" not in message:
        return
    if method == "initialize":
        result: Any = {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "plain", "version": "1"},
        }
    elif method == "tools/list":
        result = {"tools": [{"name": name, "inputSchema": schema} for name, schema in SCHEMAS.items()]}
    elif method == "tools/call" and params.get("name") in ANSWERS:
        result = ANSWERS[params["name"]](params.get("arguments") or {})
    elif method == "ping":
        result = {}
    else:
        send({"id": message["id"], "error": {"code": -32601, "message": f"no {method}"}})
        return
    send({"id": message["id"], "result": result})


def main() -> None:
    note("started")
    for line in sys.stdin:
        answer(json.loads(line))


if __name__ == "__main__":
    main()
