"""Writes the server's description of its API, of which the console's types are made: describe_api.py FILE."""

import json
import sys
from pathlib import Path

from stigmer_server.app import StigmerServer
from stigmer_server.settings import load_settings


def main() -> None:
    """Write the file. Nothing is started."""
    server = StigmerServer(load_settings({"STIGMER_HOME": "/nonexistent", "STIGMER_TOKEN": "none"}))
    Path(sys.argv[1]).write_text(json.dumps(server.openapi()), encoding="utf-8")


if __name__ == "__main__":
    main()
