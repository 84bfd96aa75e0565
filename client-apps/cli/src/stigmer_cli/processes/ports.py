"""Tells whether a port is free, and where the kernel allows it, who holds it."""

import socket

import psutil


def free_port() -> int:
    """A TCP port of loopback that nobody has for the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT is free
        try:
            candidate.bind((host, port))
            candidate.listen()
        except OSError:
            return False
    return True


def find_free_port(host: str) -> int:
    """A port that is free now."""
    with socket.create_server((host, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def find_holder(port: int) -> str | None:
    """The program that listens on the port, as `NAME (pid PID)`; None where this user may not know."""
    try:
        connections = psutil.net_connections("tcp")
    except (psutil.AccessDenied, OSError):
        return None
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
            return None if connection.pid is None else _name(connection.pid)
    return None


def _name(pid: int) -> str:
    try:
        return f"{psutil.Process(pid).name()} (pid {pid})"
    except psutil.Error:
        return f"pid {pid}"
