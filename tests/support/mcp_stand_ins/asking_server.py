"""An MCP server over stdio that asks in the middle of its calls, in the older and the newer form, by no SDK.

`python asking_server.py JOURNAL [modern]`: what it does is written into that file, one a line.
"""

import json
import sys
from pathlib import Path
from typing import Any

JOURNAL = Path(sys.argv[1])
IS_MODERN = "modern" in sys.argv
NAME_FORM = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
PAGE = {"mode": "url", "message": "Sign in", "url": "https://example.com/sign-in", "elicitationId": "e1"}
ASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "greet": ("elicitation/create", {"mode": "form", "message": "Who is it?", "requestedSchema": NAME_FORM}),
    "page": ("elicitation/create", PAGE),
    "think": (
        "sampling/createMessage",
        {"messages": [{"role": "user", "content": {"type": "text", "text": "2+2?"}}], "maxTokens": 50},
    ),
    "odd": ("elicitation/create", {"mode": "url", "message": "Look", "url": "javascript:alert(1)"}),
    "roots": ("roots/list", {}),
}
TOOLS = [*ASKS, "needs_page"]
waiting: dict[str, Any] = {}
"""Ids of calls, by the id of what was asked for them."""
seen_page = False


def note(line: str) -> None:
    with JOURNAL.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def send(**message: Any) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def result(call_id: Any, said: str) -> None:
    send(id=call_id, result={"content": [{"type": "text", "text": said}]})


def told(answer: Any) -> str:
    if "roots" in answer:
        return "roots " + " ".join(root["name"] for root in answer["roots"])
    return json.dumps({key: answer[key] for key in ("action", "content", "role") if key in answer})


def call(message: dict[str, Any]) -> None:
    global seen_page
    params = message["params"]
    name = params["name"]
    note(f"call {name}")
    if name == "needs_page":
        if seen_page or JOURNAL.read_text(encoding="utf-8").count("call needs_page") > 1:
            result(message["id"], "welcome")
        else:
            data = {"elicitations": [PAGE]}
            send(id=message["id"], error={"code": -32042, "message": "sign in first", "data": data})
        return
    method, asked = ASKS[name]
    if not IS_MODERN:
        waiting[f"q{len(waiting)}"] = message["id"]
        send(id=f"q{len(waiting) - 1}", method=method, params=asked)
    elif "inputResponses" in params:
        note(f"state {params.get('requestState')}")
        result(message["id"], told(params["inputResponses"]["it"]))
    else:
        asked = {key: value for key, value in asked.items() if key != "elicitationId"}
        requests = {"it": {"method": method, "params": asked}}
        again = {"resultType": "input_required", "inputRequests": requests, "requestState": "s-1"}
        send(id=message["id"], result=again)


def answer(message: dict[str, Any]) -> None:
    method = message.get("method")
    if method is None:
        if (call_id := waiting.get(message["id"])) is not None:
            said = message.get("result")
            note("answered")
            result(call_id, told(said) if said is not None else message["error"]["message"])
    elif method == "notifications/cancelled":
        note("cancelled")
    elif "id" not in message:
        return
    elif method == "initialize" and not IS_MODERN:
        note("capabilities " + " ".join(sorted(message["params"]["capabilities"])))
        info = {"name": "asking", "version": "1"}
        version = message["params"]["protocolVersion"]
        found: dict[str, Any] = {
            "protocolVersion": version,
            "capabilities": {"tools": {}},
            "serverInfo": info,
        }
        send(id=message["id"], result=found)
    elif method == "server/discover":
        # And not what a client has to take as said.
        found: dict[str, Any] = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}
        send(id=message["id"], result=found)
    elif method == "tools/list":
        listed = [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]
        send(id=message["id"], result={"tools": listed})
    elif method == "tools/call":
        call(message)
    else:
        send(id=message["id"], error={"code": -32601, "message": f"no {method}"})


def main() -> None:
    note("started")
    for line in sys.stdin:
        answer(json.loads(line))


if __name__ == "__main__":
    main()
