"""Stands in for a program of ours: answers `/readyz` on its port, and misbehaves when a file orders it.

Orders are files in STIGMER_HOME/orders: `NAME-crash` and `NAME-refuse` at the start, `NAME-unready` and
`NAME-weak` (isolation) and `NAME-other-version` at any time, `NAME-hang` when it should end, and `NAME-busy`
while it is to finish what it is at. What it was
given is written to STIGMER_HOME/seen/NAME.json.
"""

import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from stigmer_cli.program_version import program_version
from stigmer_contract.handed_environment import receive_environment


def run(name: str, port_variable: str) -> None:
    """Runs until SIGTERM; with the argument `spare` not before it is told to, by a line on standard input."""
    receive_environment(os.environ)
    if sys.argv[1:] == ["spare"] and not sys.stdin.readline():
        return
    home = Path(os.environ["STIGMER_HOME"])
    orders = home / "orders"
    if (orders / f"{name}-refuse").exists():
        print("STIGMER_EXAMPLE: 'x' is none of a, b", flush=True)
        sys.exit(2)
    if (orders / f"{name}-crash").exists():
        print("about to crash", flush=True)
        sys.exit(1)
    (home / "seen").mkdir(exist_ok=True)
    seen = {"arguments": sys.orig_argv, "environment": dict(os.environ)}
    (home / "seen" / f"{name}.json").write_text(json.dumps(seen), encoding="utf-8")

    def isolation() -> object:
        if name != "runner":
            return None
        is_weak = (orders / f"{name}-weak").exists()
        findings = ["a command could read another session's file"] if is_weak else []
        in_bubblewrap = {
            "bubblewrap": not is_weak,
            "no_bubblewrap_because": "it is not installed" if is_weak else None,
        }
        level = "weak" if is_weak else "full"
        return {"level": level, "setting": "warn", "findings": findings, **in_bubblewrap}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            ready = not (orders / f"{name}-unready").exists()
            checks = [{"name": "orders", "ok": ready, "detail": None if ready else "told to be unready"}]
            version = "9.0.0" if (orders / f"{name}-other-version").exists() else program_version()
            document = {"ready": ready, "version": version, "checks": checks, "isolation": isolation()}
            if (orders / f"{name}-other-build").exists():
                document["other_build"] = "the server is another build"
            body = json.dumps(document).encode()
            self.send_response(200 if ready else 503)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
            return

    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ[port_variable])), Handler)
    print(f"{name} listens", flush=True)

    def end(signal_number: int, frame: object) -> None:
        if not (orders / f"{name}-hang").exists():
            threading.Thread(target=server.shutdown).start()

    def finish(signal_number: int, frame: object) -> None:
        threading.Thread(target=drain).start()

    def drain() -> None:
        server.server_close()
        while (orders / f"{name}-busy").exists():
            time.sleep(0.05)
        server.shutdown()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGUSR1, finish)
    server.serve_forever()
    print(f"{name} ends", flush=True)
