"""An MCP server over stdio that does much that servers should not do, and that servers do."""

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

TOOLS: list[Any] = [
    {"name": "good", "description": "Works.", "inputSchema": {"type": "object", "properties": {}}},
    {"name": "untyped", "inputSchema": {}},
    {"name": "without_schema"},
    {"name": "a name/with: everything ü", "inputSchema": {"type": "object"}},
    {"name": "x" * 120, "inputSchema": {"type": "object"}},
    {
        "name": "references",
        "inputSchema": {
            "type": "object",
            "properties": {
                "node": {"$ref": "#/$defs/node"},
                "far": {"$ref": "https://example.invalid/schema.json"},
                "nowhere": {"$ref": "#/$defs/missing"},
                "odd name!": {"type": "string"},
            },
            "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}},
        },
    },
    {
        "name": "slow_pattern",
        "inputSchema": {"type": "object", "properties": {"text": {"type": "string", "pattern": "^(a+)+$"}}},
    },
    {
        "name": "alternatives",
        "inputSchema": {"oneOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]},
    },
    {"name": "huge", "inputSchema": {"type": "object"}, "annotations": "none", "description": 7},
    {"name": "good", "description": "Twice.", "inputSchema": {"type": "object"}},
    {"description": "nameless"},
    "no tool",
]


def write(message: object) -> None:
    sys.stdout.write((message if isinstance(message, str) else json.dumps(message)) + "\n")
    sys.stdout.flush()


def result_of(method: str, params: dict[str, Any]) -> Any:
    if method == "initialize":
        return {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {"listChanged": True}},
            "serverInfo": {"name": "odd", "version": "1"},
        }
    if method == "tools/list":
        page = int(params.get("cursor", "0"))
        return {"tools": TOOLS if page == 0 else [], "nextCursor": str(page + 1)}
    if params.get("name") == "huge":
        return {"content": [{"type": "text", "text": "y" * 2_000_000}]}
    return {"content": [{"type": "text", "text": json.dumps(params.get("arguments"))}]}


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    subprocess.Popen([sys.executable, "-c", "import time\nwhile True: time.sleep(60)", "odd-child"])
    write("Welcome to the odd server!\n\n{not json}\n[1, 2]\nnull\n\x00\x1b[31mred\x1b[0m")
    os.write(2, b"noise on stderr\n" * 20_000)
    for line in sys.stdin:
        message = json.loads(line)
        if "method" not in message or "id" not in message:
            continue
        answer = {
            "jsonrpc": "2.0",
            "id": message["id"],
            "result": result_of(message["method"], message.get("params") or {}),
        }
        write({"jsonrpc": "2.0", "id": "mine-1", "method": "odd/question", "params": {}})
        write({"jsonrpc": "2.0", "id": "mine-2", "method": "sampling/createMessage", "params": {}})
        write({"jsonrpc": "2.0", "method": "notifications/nobody_knows"})
        write("DEBUG: about to answer")
        write(answer)
        write(answer)
    while True:  # the end of its input does not end it
        time.sleep(60)


if __name__ == "__main__":
    main()
