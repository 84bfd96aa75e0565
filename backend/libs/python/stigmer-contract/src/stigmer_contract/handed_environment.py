"""Hands a program its environment by a socket, so that no secret ever stands in `/proc/PID/environ`.

Between its `exec` and its first call of `protect_process` a program can be looked into by everybody of its
user. Its environment must hold nothing worth reading by then: only what an interpreter needs to start, a list
of names. The rest comes by an inherited socket, which it reads when it is protected. A socket, since unlike a
pipe or a file it cannot be opened by others at `/proc/PID/fd`. Loads nothing to speak of.
"""

import contextlib
import os
import socket
from collections.abc import Generator, Mapping, MutableMapping
from typing import Final

SOCKET_VARIABLE: Final = "STIGMER_ENVIRONMENT_FD"
"""Names the descriptor that the rest is read from."""

SHOWN: Final = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "PWD", "TERM", "TZ", "TMPDIR", "STIGMER_HOME"),
        *("LANG", "LANGUAGE", "LC_ALL", "LC_COLLATE", "LC_CTYPE", "LC_MESSAGES", "LC_NUMERIC", "LC_TIME"),
        *("LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH", "DYLD_INSERT_LIBRARIES", "GLIBC_TUNABLES"),
        *("PYTHONHOME", "PYTHONPATH", "PYTHONSAFEPATH", "PYTHONNOUSERSITE", "PYTHONUSERBASE"),
        *("PYTHONUNBUFFERED", "PYTHONUTF8", "PYTHONIOENCODING", "PYTHONCOERCECLOCALE", "PYTHONHASHSEED"),
        *("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "PYTHONMALLOC", "PYTHONDEVMODE"),
        *("PYTHONWARNINGS", "PYTHONFAULTHANDLER", "PYTHONTRACEMALLOC", "PYTHONPROFILEIMPORTTIME"),
    }
)
"""What is looked at before a program of ours can read a socket: by the loader, by Python, by who looks for
processes. Names, not beginnings of them: `LD_API_KEY` is somebody's key."""

_END: Final = b"\0"
"""An entry without a name: all has come."""
_READ_BYTES: Final = 65_536


class EnvironmentLost(Exception):
    """Who started this process ended before it had handed over the environment."""

    def __init__(self) -> None:
        super().__init__("could not start: the process that started this one ended at once")


def shown_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What of it a process may have from its first moment on."""
    return {name: value for name, value in environment.items() if name in SHOWN}


class HandedEnvironment:
    """An environment on its way to a process that is not started yet."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Makes the two ends.

        Raises:
            OSError: no descriptors are to be had.
        """
        self.sender, self._receiver = socket.socketpair()
        """Where `content` is written, all of it, and which is closed then."""
        self.descriptor = self._receiver.fileno()
        """To be inherited."""
        self.shown = shown_environment(environment) | {SOCKET_VARIABLE: str(self.descriptor)}
        """The environment to start the process with."""
        rest = {name: value for name, value in environment.items() if name not in SHOWN}
        entries = (os.fsencode(f"{name}={value}") + _END for name, value in rest.items())
        self.content = b"".join(entries) + _END

    @contextlib.contextmanager
    def while_starting(self) -> Generator[None]:
        """Closes the end that the process has inherited, and both where it could not be started."""
        try:
            yield
        except BaseException:
            self.sender.close()
            raise
        finally:
            self._receiver.close()


def receive_environment(environ: MutableMapping[str, str]) -> None:
    """Adds what was handed over to the environment of this process; nothing where nothing was.

    Raises:
        EnvironmentLost: not all of it came.
    """
    text = environ.pop(SOCKET_VARIABLE, None)
    if text is None:
        return
    try:
        with socket.socket(fileno=int(text)) as receiver:
            content = b"".join(iter(lambda: receiver.recv(_READ_BYTES), b""))
    except (OSError, ValueError) as error:
        raise EnvironmentLost from error
    entries = content.split(_END)
    if entries[-2:] != [b"", b""]:
        raise EnvironmentLost
    for entry in entries[:-2]:
        name, _, value = entry.partition(b"=")
        environ[os.fsdecode(name)] = os.fsdecode(value)
