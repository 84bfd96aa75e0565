"""Decides in which directories of its `PATH` a command looks for programs: where it may execute them."""

# ruff: noqa: PTH117 - paths here are text, as the kernel takes them

import os
from collections.abc import Iterable
from pathlib import Path

from stigmer_isolation.command_environment import command_environment
from stigmer_isolation.command_policy import is_beneath
from stigmer_isolation.zygote.policy import Policy


def searched(path: str, policy: Policy, directory: int, writable: Iterable[Path] = ()) -> str:
    """A command's `PATH`, without what it may not execute: a session that writes there could plant a name.

    What is found there cannot be executed, and is found all the same: it would stand before what can be.

    Args:
        path: as it was given. Relative ones lead into the command's own directory, and stay.
        policy: the command's.
        directory: descriptor of the one that it starts in.
        writable: further ones that it may write to.
    """
    wanted = path.split(os.pathsep)
    if policy.landlock_abi == 0:
        return path
    refused = [
        each
        for each in wanted
        if os.path.isabs(each)
        and not is_beneath(each, policy.executable)
        and not is_beneath(os.path.normpath(each), policy.executable)
    ]
    if refused:
        own = [os.path.realpath(f"/proc/self/fd/{directory}"), *map(os.path.realpath, writable)]
        wanted = [each for each in wanted if each not in refused or is_beneath(os.path.realpath(each), own)]
    return os.pathsep.join(wanted) or command_environment({})["PATH"]
