"""An MCP server over stdio that has resources and no tool, of either form of the protocol; knows no SDK.

`python resource_server.py JOURNAL [modern]`
"""

import json
import sys
from pathlib import Path
from typing import Any

JOURNAL = Path(sys.argv[1])
IS_MODERN = sys.argv[2:] == ["modern"]
TEXTS = {"notes://one": "first", "notes://two": "second"}
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
LISTED: list[list[Any]] = [
    [{"uri": "notes://one", "name": "one", "description": "The first.", "annotations": "odd"}, "odd"],
    [{"uri": "notes://two"}, {"uri": "notes://picture", "name": "p", "mimeType": "image/png", "size": "?"}],
]


def read(uri: str) -> Any:
    if uri == "notes://picture":
        return {"contents": [{"uri": uri, "mimeType": "image/png", "blob": PICTURE}]}
    return {"contents": [{"uri": uri, "text": TEXTS[uri]}]} if uri in TEXTS else None


def answer(message: dict[str, Any]) -> Any:
    params: dict[str, Any] = message.get("params") or {}
    match message["method"]:
        case "initialize" if not IS_MODERN:
            info = {"name": "notes", "version": "1"}
            version = params["protocolVersion"]
            return {"protocolVersion": version, "capabilities": {"resources": {}}, "serverInfo": info}
        case "server/discover" if IS_MODERN:
            return {"supportedVersions": ["2026-07-28"], "capabilities": {"resources": {}}}
        case "resources/list":
            page = int(params.get("cursor", "0"))
            more = {"nextCursor": "1"} if page == 0 else {}
            return {"resources": LISTED[page], **more}
        case "resources/templates/list" if not IS_MODERN:
            return {"resourceTemplates": [{"uriTemplate": "notes://{name}", "name": "by name"}]}
        case "resources/read":
            with JOURNAL.open("a", encoding="utf-8") as file:
                file.write(params["uri"] + "\n")
            return read(params["uri"])
        case _:
            return None


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message:
            continue
        result = answer(message)
        said = (
            {"result": result}
            if result is not None
            else {"error": {"code": -32601, "message": "no such thing"}}
        )
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": message["id"], **said}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
