"""Runs the process that becomes the supervisor, and gives it the environment, keys and all, by a socket."""

import contextlib
import subprocess
import sys
from pathlib import Path

from stigmer_cli.config import Configuration
from stigmer_contract.handed_environment import HandedEnvironment


def run_starter(configuration: Configuration, log_path: Path, timeout_seconds: float) -> int:
    """Starts the supervisor, and waits until it has left its starter behind; the starter's exit code.

    Raises:
        TimeoutError: that takes too long; the starter is killed.
    """
    handed = HandedEnvironment(configuration.environment)
    with log_path.open("ab") as log, handed.while_starting():
        starter = subprocess.Popen(
            [sys.executable, "-P", "-m", "stigmer_cli.stack.supervisor"],
            env=handed.shown,
            cwd=configuration.home,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[handed.descriptor],
            start_new_session=True,
        )
    with starter:
        try:
            with handed.sender as sender, contextlib.suppress(ConnectionError):  # its exit code says why
                sender.settimeout(timeout_seconds)
                sender.sendall(handed.content)
            return starter.wait(timeout_seconds)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError from error
        finally:
            starter.kill()  # does nothing where it has ended
