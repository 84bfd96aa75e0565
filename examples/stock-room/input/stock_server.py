"""An MCP server of a stock room, over stdio: what is on the shelves, and what is reserved of it.

The standard library alone, to show how little a server is; one of your own would stand on an SDK.
"""

import json
import sys
from typing import Any

SHELVES: dict[str, dict[str, Any]] = {
    "Bread knife": {"shelf": "A3", "quantity": 14},
    "Digital scale": {"shelf": "B1", "quantity": 2},
    "Whisk": {"shelf": "A7", "quantity": 3},
}
ITEM = {"type": "string", "description": "As the order names it, such as Bread knife."}
TOOLS = [
    {
        "name": "look_up",
        "description": "How many of an item are there, and on which shelf.",
        "inputSchema": {"type": "object", "properties": {"item": ITEM}, "required": ["item"]},
    },
    {
        "name": "reserve",
        "description": "Reserve some of an item for an order.",
        "inputSchema": {
            "type": "object",
            "properties": {"item": ITEM, "quantity": {"type": "integer", "minimum": 1}},
            "required": ["item", "quantity"],
        },
    },
    {
        "name": "recount",
        "description": "Set how many of an item there are.",
        "inputSchema": {
            "type": "object",
            "properties": {"item": ITEM, "quantity": {"type": "integer", "minimum": 0}},
            "required": ["item", "quantity"],
        },
    },
]


def call(tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The result of one call."""
    entry = SHELVES.get(arguments["item"])
    if entry is None:
        return told(f"there is no {arguments['item']}", failed=True)
    if tool == "look_up":
        return told(f"{entry['quantity']} on shelf {entry['shelf']}")
    if tool == "reserve" and arguments["quantity"] > entry["quantity"]:
        return told(f"only {entry['quantity']} are there", failed=True)
    entry["quantity"] = entry["quantity"] - arguments["quantity"] if tool == "reserve" else arguments["quantity"]
    return told(f"{entry['quantity']} are left on shelf {entry['shelf']}")


def told(text: str, *, failed: bool = False) -> dict[str, Any]:
    """A result that is a text."""
    return {"content": [{"type": "text", "text": text}], "isError": failed}


def answer(method: str, params: dict[str, Any]) -> dict[str, Any]:
    """What a request is answered with."""
    match method:
        case "initialize":
            return {
                "protocolVersion": params["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "stock", "version": "1"},
            }
        case "tools/list":
            return {"tools": TOOLS}
        case "tools/call":
            return call(params["name"], params.get("arguments") or {})
        case "ping":
            return {}
        case _:
            raise ValueError(f"no method {method}")


def main() -> None:
    """Answer the requests on standard input, one a line, until it is closed."""
    for line in sys.stdin:
        request = json.loads(line)
        if "id" not in request:
            continue  # a notification
        try:
            reply = {"result": answer(request["method"], request.get("params") or {})}
        except ValueError as error:
            reply = {"error": {"code": -32601, "message": str(error)}}
        print(json.dumps({"jsonrpc": "2.0", "id": request["id"], **reply}), flush=True)


if __name__ == "__main__":
    main()
