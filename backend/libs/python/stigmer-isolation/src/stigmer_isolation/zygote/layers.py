"""Applies a policy, layer by layer in the only order that works: each takes away what an earlier one needs.

The supervisor of a command enters one Landlock domain, the command another inside it. So the supervisor can
signal the command and all it started, and nothing else; the command can not signal its supervisor.
"""

import errno
import os

from stigmer_isolation.zygote.capabilities import drop_capabilities
from stigmer_isolation.zygote.kernel import IS_LINUX, MACHINE, forbid_new_privileges
from stigmer_isolation.zygote.landlock import (
    EVERYTHING_BUT_DEVICES,
    MAKE_AND_USE_FILES,
    PORTS_ABI,
    READ,
    READ_AND_EXECUTE,
    SCOPE_ABI,
    USE_FILE,
    Ruleset,
)
from stigmer_isolation.zygote.limits import (
    COMMAND_OOM_SCORE,
    SUPERVISOR_OOM_SCORE,
    give_way,
    limit_process,
    set_oom_score,
)
from stigmer_isolation.zygote.own_mounts import (
    SHARED_MEMORY,
    can_be_own,
    enter_own_mounts,
    mount_own_shared_memory,
)
from stigmer_isolation.zygote.policy import Policy
from stigmer_isolation.zygote.seccomp import install
from stigmer_isolation.zygote.seccomp_rules import filter_for


def enter_supervisor_domain(policy: Policy) -> bool:
    """Close this process off from signalling and tracing anything but what it will start.

    Returns:
        Whether kill(-1) from here now reaches exactly what it started. Where signals cannot be held to it
        (Landlock before 6), nothing is entered.
    """
    if not IS_LINUX:
        return False
    set_oom_score(SUPERVISOR_OOM_SCORE)
    forbid_new_privileges()
    if policy.landlock_abi < SCOPE_ABI:
        return False
    outside = os.getppid()
    with Ruleset(policy.landlock_abi, files=False, ports=False) as ruleset:
        ruleset.enter()
    return _is_out_of_reach(outside)


def _is_out_of_reach(pid: int) -> bool:
    """Whether this process may not signal `pid`: without that, kill(-1) would kill the runner."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except ProcessLookupError:
        pass
    return False


def separate_command(policy: Policy) -> None:
    """Leave the machine's mounts behind, where that can be had.

    Called before any file is opened for a command: through that, the machine's own could still be changed.

    Raises:
        OSError: the kernel refused; the command must not be executed.
    """
    if not IS_LINUX:
        return
    set_oom_score(COMMAND_OOM_SCORE)  # in /proc, which is read-only from then on
    if not _is_isolated(policy) or not can_be_own():
        return
    is_given = policy.shared_memory == "given"
    writable = (*policy.writable, SHARED_MEMORY) if is_given else policy.writable
    enter_own_mounts(writable, pinned=policy.pinned, sealed=policy.sealed)
    if not is_given:
        mount_own_shared_memory(policy.memory_bytes)


def isolate_command(policy: Policy, directory: int, supervisor: int, zygote: int) -> None:
    """Hold this process to the policy; called before exec, in the open `directory` it works in.

    Raises:
        OSError: the kernel refused a layer that the policy asks for; the command must not be executed.
    """
    give_way()
    limit_process(processes=policy.processes, memory_bytes=policy.memory_bytes, file_bytes=policy.file_bytes)
    if _is_isolated(policy):
        drop_capabilities()
        forbid_new_privileges()
    if policy.landlock_abi:
        _enter_command_domain(policy, directory)
    if policy.has_seccomp:
        is_scoped = policy.landlock_abi >= SCOPE_ABI
        install(
            filter_for(
                MACHINE,
                network=policy.network,
                landlock_abi=min(policy.landlock_abi, SCOPE_ABI),
                supervisor=0 if is_scoped else supervisor,
                protected=() if is_scoped else (*policy.protected, zygote),
            )
        )


def _is_isolated(policy: Policy) -> bool:
    return bool(policy.landlock_abi or policy.has_seccomp)


def _enter_command_domain(policy: Policy, directory: int) -> None:
    has_shared_memory = policy.shared_memory != "own" or can_be_own()
    with Ruleset(policy.landlock_abi, files=True, ports=policy.network != "all") as ruleset:
        for paths, access in (
            (policy.readable, READ),
            (policy.executable, READ_AND_EXECUTE),
            (policy.devices, USE_FILE),
            ((SHARED_MEMORY,) if has_shared_memory else (), MAKE_AND_USE_FILES),
            (policy.writable, EVERYTHING_BUT_DEVICES),
        ):
            for path in paths:
                ruleset.allow_path(path, access)
        ruleset.allow_descriptor(directory, EVERYTHING_BUT_DEVICES)
        if policy.network == "web":
            if policy.landlock_abi < PORTS_ABI:
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
            ruleset.allow_connecting(policy.ports)
        ruleset.enter()
