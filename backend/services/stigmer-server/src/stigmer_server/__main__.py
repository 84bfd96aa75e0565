"""The process: `python -m stigmer_server`. Reads the environment, listens, and ends in good order.

`--listen HOST:PORT` stands for STIGMER_HOST and STIGMER_PORT. Exit codes: 0 after SIGTERM or SIGINT, 2 for a
wrong environment or command line, 3 where it cannot start, 4 where its database is damaged or of a
newer version.
"""

import contextlib
import errno
import gc
import os
import resource
import socket
import sys
from typing import Final

from stigmer_contract.handed_environment import EnvironmentLost, receive_environment
from stigmer_contract.log_lines import print_failure
from stigmer_contract.process_protection import protect_process
from stigmer_server.errors import AddressTaken, ArgumentsWrong, StartFailed
from stigmer_server.logs import configure_logging
from stigmer_server.settings import load_settings

BACKLOG: Final = 2048
MAX_OPEN_FILES: Final = 65_536
OBJECTS_BETWEEN_COLLECTIONS: Final = 20_000
"""Python's default is 700, and each collection looks at all that the requests in hand hold."""


def main() -> None:
    """Run the server until it is told to stop."""
    protect_process()
    try:
        receive_environment(os.environ)
        settings = load_settings(os.environ | _read_arguments(sys.argv[1:]))
        configure_logging(settings.log_level, settings.log_format)
        _raise_open_files_limit()
        os.umask(0o077)  # logs of executions are nobody else's business
        with _listen(settings.host, settings.port) as listener:
            # What can go wrong above is known before this import, which takes most of the start's time; a
            # quarter of it would go into looking for garbage among what stays for good (2026-11).
            gc.disable()
            from stigmer_server.serving import serve

            gc.freeze()
            gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
            gc.enable()
            serve(settings, listener)
    except EnvironmentLost as error:
        sys.exit(f"error: {error}")
    except StartFailed as error:
        print_failure(str(error), os.environ, sys.stderr, "stigmer_server")
        sys.exit(error.exit_code)


def _raise_open_files_limit() -> None:
    """Let the process hold as many connections as the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # macOS names a hard limit that it does not grant.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _read_arguments(arguments: list[str]) -> dict[str, str]:
    """The variables that the command line stands for.

    Raises:
        ArgumentsWrong: it is not as it should be.
    """
    if not arguments:
        return {}
    flag, equals, text = arguments[0].partition("=")
    rest = arguments[1:] if equals else arguments[2:]
    if not equals:
        text = "".join(arguments[1:2])
    host, colon, port = text.rpartition(":")
    if flag != "--listen" or rest or not (host and colon and port):
        raise ArgumentsWrong(arguments)
    return {"STIGMER_HOST": host.strip("[]"), "STIGMER_PORT": port}


def _listen(host: str, port: int) -> socket.socket:
    """Bind before anything else, so that a taken port is known at once.

    Raises:
        AddressTaken: the address cannot be listened on.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        problem = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
        raise AddressTaken(host, port, problem) from error


if __name__ == "__main__":
    main()
