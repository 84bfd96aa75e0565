"""Which directories of this machine a person may give to an agent: the contract's rules, on what is here.

Whoever mounts a directory into a container asks again, for what stands at its path may have changed.
"""

import os
from pathlib import Path

from stigmer_cli.config import Configuration
from stigmer_cli.errors import UsageError
from stigmer_contract.workspace_directories import Identity, LinkOnTheWay, opened, surroundings_here
from stigmer_contract.workspace_rules import refuse


def identify_workspace(configuration: Configuration, directory: Path) -> Identity:
    """See that an agent may be given the directory, and tell it from others. Opens it through no link.

    Raises:
        UsageError: it may not, or cannot be opened; says what to do instead.
    """
    around = surroundings_here(
        state=[configuration.home], sessions=[configuration.data_directory / "workspace"]
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
        raise UsageError(f"{what}: {reason}", "make it, or name another one") from error
