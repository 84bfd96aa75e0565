"""Asks the runner on this machine whether it is ready: the health check of its container.

Starts every few seconds, so it imports next to nothing: no asyncio, no http.client (together 40 ms).
"""

import json
import socket
import sys
from typing import Final

PROBE_TIMEOUT_SECONDS: Final = 4.0
MAX_ANSWER_BYTES: Final = 64 * 1024


def probe_health(host: str, port: int) -> int:
    """Ask for `/readyz`; says on stderr why a runner is not ready.

    Returns:
        The exit code: 0 ready, 1 not.
    """
    try:
        answer = _get(host, port, "/readyz")
    except OSError as error:
        print(f"error: no runner answers on {host}:{port}: {error}", file=sys.stderr)
        return 1
    head, _, body = answer.partition(b"\r\n\r\n")
    if head.split(b" ", 2)[1:2] == [b"200"]:
        return 0
    print(f"error: the runner on {host}:{port} is not ready: {_reasons(body)}", file=sys.stderr)
    return 1


def _get(host: str, port: int, path: str) -> bytes:
    """The whole answer; HTTP/1.0, so the server closes the connection after it (RFC 9112, section 9.3)."""
    with socket.create_connection((host, port), PROBE_TIMEOUT_SECONDS) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n".encode())
        answer = b""
        while len(answer) < MAX_ANSWER_BYTES and (piece := connection.recv(MAX_ANSWER_BYTES)):
            answer += piece
    return answer


def _reasons(body: bytes) -> str:
    try:
        checks = json.loads(body)["checks"]
        return "; ".join(f"{check['name']}: {check['detail']}" for check in checks if not check["ok"])
    except (ValueError, KeyError, TypeError):
        return "it does not answer as a runner does"
