"""Which directories of this machine a person may give to an agent: the contract's rules, on what is here.

Whoever mounts a directory into a container asks again, for what stands at its path may have changed.
"""

import os
from pathlib import Path
from typing import Final

from stigmer_cli.config import Configuration
from stigmer_cli.errors import UsageError
from stigmer_contract.workspace_directories import Identity, LinkOnTheWay, opened, surroundings_here
from stigmer_contract.workspace_rules import refuse

MAX_SHOWN: Final = 200
"""Characters of a path that is none."""
_ANOTHER: Final = "make it, or name another one"


def find_workspace(named: str) -> Path:
    """The directory that a person named, where it really is.

    Raises:
        UsageError: there is none, or it cannot be told which it is.
    """
    shown = named if len(named) <= MAX_SHOWN else f"{named[:MAX_SHOWN]}…"
    what = f"could not use the workspace {shown!r}"
    try:
        directory = Path(named).expanduser().absolute()
        real = directory.resolve(strict=True)
        if not real.is_dir():
            raise UsageError(f"{what}: it is not a directory", _ANOTHER)
        if not os.path.samestat(directory.stat(), real.stat()):
            # As /proc/PID/root does, whose text is of the process's own view.
            raise UsageError(
                f"{what}: its path leads elsewhere than {str(real)!r}, which it says",
                "name the directory itself",
            )
        str(real).encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(f"{what}: its name is not valid UTF-8", "rename it, or name another one") from error
    except FileNotFoundError as error:
        raise UsageError(f"{what}: there is no such directory", _ANOTHER) from error
    except RuntimeError as error:  # of pathlib: a loop of links before Python 3.13, a home that is not known
        is_home = named.startswith("~")
        reason = "whose home it lies in is not known" if is_home else "its links lead in a circle"
        raise UsageError(f"{what}: {reason}", _ANOTHER) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"{what}: {reason}", _ANOTHER) from error
    return real


def identify_workspace(configuration: Configuration, directory: Path) -> Identity:
    """See that an agent may be given the directory, and tell it from others. Opens it through no link.

    Raises:
        UsageError: it may not, or cannot be opened; says what to do instead.
    """
    around = surroundings_here(
        state=[configuration.home],
        sessions=[configuration.data_directory / "workspace"],
        may_be_contained=True,
    )
    what = f"could not use the workspace {str(directory)!r}"
    try:
        with opened(str(directory)) as found:
            refusal = refuse(found.place, around)
            if refusal is not None:
                raise UsageError(f"{what}: {refusal.reason}", refusal.remedy)
            return found.identity
    except LinkOnTheWay as error:
        real = os.path.realpath(directory)
        raise UsageError(f"{what}: {error.link!r} is a symbolic link", f"name {real!r} instead") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"{what}: {reason}", _ANOTHER) from error
