"""The launcher of agents' commands as the settings ask for it, and how well it isolates them here."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent_runner.errors import SettingsError
from agent_runner.settings import RunnerSettings
from agent_runner.user_name import name_own_user
from agent_runner.workspace import Isolation, list_named_directories
from stigmer_isolation.bubblewrap import Bubblewrap
from stigmer_isolation.canaries import find_open_places
from stigmer_isolation.command_policy import command_policy, is_beneath
from stigmer_isolation.disk_quota import DiskQuotas
from stigmer_isolation.errors import IsolationError
from stigmer_isolation.launcher import CommandLauncher
from stigmer_isolation.process_limit import calibrate_process_limit
from stigmer_isolation.self_test import IsolationLevel, SelfTest, measure_isolation
from stigmer_isolation.temporary_root import find_temporary_place
from stigmer_isolation.web_access import WebAccess
from stigmer_isolation.zygote.abandoned_roots import remove_abandoned_roots
from stigmer_isolation.zygote.policy import Policy

logger = logging.getLogger(__name__)

RECALIBRATION_SECONDS: Final = 60.0
"""How often the user's processes are counted anew, while commands are run."""
RUNNER_PROCESSES: Final = 128
"""What a container's limit must leave to the runner: its threads, and those that watch over commands."""
MIN_PROCESSES: Final = 32
PROCESSES_PER_EXECUTION: Final = 16
"""What an execution's commands have on an average, with those that watch over them."""
_MEMORY_LIMITS: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_PROCESS_LIMITS: Final = ("/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max")


@dataclass(frozen=True)
class Commands:
    """What starts commands, and what is known of it."""

    launcher: CommandLauncher
    isolation: Isolation
    temporary_place: str
    """Where commands have their temporary files."""


@asynccontextmanager
async def open_commands(
    settings: RunnerSettings,
    command_variables: Mapping[str, str],
    *,
    held: Sequence[int] = (),
    tell_in_hand: Callable[[int], None] | None = None,
) -> AsyncGenerator[Commands]:
    """Start the launcher and try how well it isolates; at the end everything it runs is killed.

    Enter it first, while there is the least to inherit. What watches over commands holds the descriptors of
    `held`, until they have ended; `tell_in_hand` is told how many commands there are.
    """
    place = find_temporary_place(settings.sandbox_root_dir, settings.isolation_disk_mb << 20)
    async with CommandLauncher(
        command_variables,
        temporary_root=Path(place),
        policy=_policy(settings, command_variables.get("PATH", "")),
        quotas=DiskQuotas(settings.isolation_disk_mb << 20 or None),
        web=WebAccess(settings.isolation_web_ports, settings.isolation_proxy),
        held=held,
        tell_in_hand=tell_in_hand,
    ) as launcher:
        granted = _granted_processes(settings)
        await calibrate_process_limit(launcher, granted)
        found = SelfTest(IsolationLevel.NONE, ("it was turned off",))
        if settings.isolation != "off":
            found = await measure_isolation(launcher, Bubblewrap.find())
        if found.is_enough:
            await _check_own_state(launcher, settings)
        isolation = Isolation(found, settings.isolation)
        isolation.log()
        await asyncio.to_thread(remove_abandoned_roots, place)
        launcher.refusal, launcher.warning = isolation.refusal, isolation.warning
        recalibrating = asyncio.create_task(_recalibrate(launcher, granted))
        try:
            yield Commands(launcher, isolation, place)
        finally:
            recalibrating.cancel()
            await asyncio.wait({recalibrating})


async def _check_own_state(launcher: CommandLauncher, settings: RunnerSettings) -> None:
    """See that commands get at nothing of Stigmer's own, nor of other sessions, where these really are.

    Raises:
        SettingsError: they do; the runner must not start.
    """
    root, home = settings.sandbox_root_dir, settings.stigmer_home
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = await find_open_places(launcher, root, [home] if home and home.is_dir() else [])
    except (OSError, IsolationError, ValueError) as error:
        logger.warning("could not try whether commands get at Stigmer's own state: %s", error)
        return
    if found:
        variable = "SANDBOX_ROOT_DIR" if found[0] == root else "STIGMER_HOME"
        raise SettingsError(
            variable, f"{str(found[0])!r} is open to commands of agents; name a directory elsewhere"
        )


async def _recalibrate(launcher: CommandLauncher, granted: int | None) -> None:
    """Follow the number of the user's processes, which on a bare host is not ours alone."""
    while launcher.policy.processes is not None:
        started = launcher.started_commands
        await asyncio.sleep(RECALIBRATION_SECONDS)
        if launcher.started_commands != started:
            await calibrate_process_limit(launcher, granted)


def _granted_processes(settings: RunnerSettings) -> int | None:
    """Of all sessions together, on top of what the user has; never so many that the runner has none left.

    The kernel holds commands to it. What a single session may have is counted by ourselves, a moment later.
    """
    granted = _container_processes()
    if settings.isolation_processes:
        granted.append(
            settings.isolation_processes + PROCESSES_PER_EXECUTION * settings.temporal_max_concurrency
        )
    return min(granted, default=None)


def _processes_of_a_session(settings: RunnerSettings) -> int | None:
    """So many that another session finds as many, also in a small container."""
    if not settings.isolation_processes:
        return None
    return min([settings.isolation_processes, *(limit // 2 for limit in _container_processes())])


def _container_processes() -> list[int]:
    """What a container's limits leave to commands; empty where there is none."""
    return [max(MIN_PROCESSES, limit - RUNNER_PROCESSES) for limit in _read_limits(_PROCESS_LIMITS)]


def _policy(settings: RunnerSettings, path: str) -> Policy:
    if settings.isolation == "off":
        policy = Policy()
    else:
        withheld, readable = _withheld(settings), settings.isolation_read_paths or ()
        policy = command_policy(path, readable=(*readable, *name_own_user()), withheld=withheld)
        for wanted in readable:
            if is_beneath(os.path.realpath(wanted), [os.path.realpath(closed) for closed in withheld]):
                logger.warning(
                    "commands cannot read %s of STIGMER_ISOLATION_READ_PATHS: it is Stigmer's own, or "
                    "sessions can write to it",
                    wanted,
                )
    memory = (
        _half_of_the_memory() if settings.isolation_memory_mb is None else settings.isolation_memory_mb << 20
    )
    return policy._replace(
        session_processes=_processes_of_a_session(settings),
        memory_bytes=memory or None,
        file_bytes=settings.isolation_disk_mb << 20 or None,
    )


def _withheld(settings: RunnerSettings) -> list[Path]:
    """What no grant may reach: Stigmer's own state, and what some session's commands could write to."""
    root, home = settings.sandbox_root_dir, settings.stigmer_home
    return [root, *([home] if home else []), *settings.secret_files, *list_named_directories(root)]


def _half_of_the_memory() -> int:
    """Of the machine, or of the container where that has less; 0 where it is not known."""
    sizes = list[int]()
    with contextlib.suppress(ValueError, OSError):
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min([*sizes, *_read_limits(_MEMORY_LIMITS)], default=0) // 2


def _read_limits(names: Iterable[str]) -> list[int]:
    """What a container's control groups say, of either version; empty where they set no limit."""
    limits = list[int]()
    for name in names:
        with contextlib.suppress(OSError, ValueError):  # ValueError: "max"
            limits.append(int(Path(name).read_text(encoding="ascii")))
    return limits
