"""Which system calls a command may not make, and why. The form of the filter is `seccomp`'s matter.

A list of what is refused, not of what is allowed: container engines bring the other kind, and on a bare host
ordinary programs must work. What was added to the kernel after this list was written does not exist for
commands, which programs are prepared for.
"""

import errno
import functools
from typing import Final

from stigmer_isolation.zygote.landlock import SCOPE_ABI, TRUNCATE_ABI
from stigmer_isolation.zygote.seccomp import (
    Check,
    assemble,
    only_where_any_bit,
    only_where_equal,
    refuse,
    refuse_if_any_bit,
    refuse_if_between,
    refuse_if_equal,
    refuse_unless_equal,
)
from stigmer_isolation.zygote.system_calls import LAST_KNOWN, numbers_for

_FORBIDDEN: Final = {
    "looking into other processes": "ptrace process_vm_readv process_vm_writev pidfd_getfd kcmp "
    "process_madvise process_mrelease move_pages migrate_pages perf_event_open",
    "ways around filters, and large parts of the kernel that commands do not need": "bpf userfaultfd "
    "io_uring_setup io_uring_enter io_uring_register add_key request_key keyctl",
    "changing what the file system is": "mount umount2 mount_setattr move_mount open_tree fsopen fsconfig "
    "fsmount fspick pivot_root chroot open_by_handle_at fanotify_init swapon swapoff quotactl quotactl_fd "
    "acct",
    "namespaces, in which a command would be root": "setns unshare",
    "memory and queues that outlive their processes and are shared by all of a user's": "shmget shmat shmctl "
    "semget semop semctl semtimedop msgget msgsnd msgrcv msgctl mq_open mq_unlink",
    "the machine": "init_module finit_module delete_module kexec_load kexec_file_load reboot settimeofday "
    "clock_settime clock_adjtime adjtimex sethostname setdomainname syslog vhangup iopl ioperm",
    # A watch on a directory tells the names that others make in it, which Landlock does not prevent.
    "watching files": "inotify_add_watch",
}
_NOT_THERE: Final = "clone3 openat2 inotify_init inotify_init1"
"""Reported as missing: libc then uses clone and openat, whose flags can be seen, and programs look by
themselves."""
_NOT_SUPPORTED: Final = "setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr"
"""Reported as on a file system without extended attributes: Landlock does not hold for them."""

_NEW_NAMESPACES: Final = 0x7E020000  # CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET
_IOCTLS: Final = (
    0x5412,  # TIOCSTI: types into a terminal
    0x541C,  # TIOCLINUX
    0x8901,  # FIOSETOWN and SIOCSPGRP: choose who gets a signal
    0x8902,
)
_BY_READING: Final = (1024, 1026, 1036, 1038)
"""What a descriptor for reading is enough for: F_SETLEASE lets who opens the file wait until the holder gives
way, F_NOTIFY watches a directory, F_SET_RW_HINT and F_SET_FILE_RW_HINT say how long the file's data lives."""
_OWNING_SIGNALS: Final = (8, 10, 15)  # F_SETOWN, F_SETSIG, F_SETOWN_EX
_O_ACCMODE, _O_TRUNC = 0o3, 0o1000
_O_MAKING: Final = 0o100 | 0o20000000
"""O_CREAT and the bit of O_TMPFILE that is its own: without them the mode is whatever the register held."""
_OF_ITS_OWNER: Final = 0o4000
"""S_ISUID: who starts the file has the rights of its owner."""
_OF_ITS_GROUP_FOR_OTHERS: Final = 0o2001
"""S_ISGID and S_IXOTH: others than its owner and the group start the file with the rights of the group."""

_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
_SOCK_STREAM, _SOCK_DGRAM, _SOCK_TYPE_MASK = 1, 2, 0xF
_TCP, _UDP = 6, 17
_OF_THE_TYPE: Final = 0
"""The protocol 0: TCP for streams, UDP for datagrams (ip(7))."""
_MSG_FASTOPEN: Final = 0x20000000
_SOL_IP, _SOL_SOCKET, _SOL_TCP, _SOL_IPV6 = 0, 1, 6, 41
_TCP_OPTIONS: Final = {
    "NODELAY": 1, "MAXSEG": 2, "CORK": 3, "KEEPIDLE": 4, "KEEPINTVL": 5, "KEEPCNT": 6, "SYNCNT": 7,
    "LINGER2": 8, "WINDOW_CLAMP": 10, "QUICKACK": 12, "CONGESTION": 13, "THIN_LINEAR_TIMEOUTS": 16,
    "THIN_DUPACK": 17, "USER_TIMEOUT": 18, "TIMESTAMP": 24, "NOTSENT_LOWAT": 25, "ZEROCOPY_RECEIVE": 35,
    "INQ": 36, "TX_DELAY": 37,
}  # fmt: skip
"""What may be set: nothing that connects, listens or changes the protocol (linux/tcp.h)."""


@functools.cache
def filter_for(
    machine: str, *, network: str, landlock_abi: int, supervisor: int, protected: tuple[int, ...] = ()
) -> bytes:
    """The program for a command; empty for an architecture without a table of system calls.

    Args:
        machine: as `kernel.MACHINE`.
        network: `none`, `web` or `all`.
        landlock_abi: what Landlock already sees to; 0: nothing.
        supervisor: pid of the command's supervisor; counts where Landlock does not hold for signals.
        protected: pids and process groups that must not be signalled either; counts there, too.
    """
    numbers = numbers_for(machine)
    if not numbers:
        return b""
    checks: dict[str, list[Check]] = {}
    for names in _FORBIDDEN.values():
        checks.update({name: [refuse(errno.EPERM)] for name in names.split()})
    checks.update({name: [refuse(errno.ENOSYS)] for name in _NOT_THERE.split()})
    checks.update({name: [refuse(errno.EOPNOTSUPP)] for name in _NOT_SUPPORTED.split()})
    checks.update(_aimed_at_others())
    checks["clone"] = [refuse_if_any_bit(0, _NEW_NAMESPACES, errno.EPERM)]
    checks.update(_sockets(network))
    checks["fcntl"] = [refuse_if_equal(1, command, errno.EINVAL) for command in _BY_READING]
    checks["ioctl"] = [refuse_if_equal(1, request, errno.EPERM) for request in _IOCTLS]
    if landlock_abi < SCOPE_ABI:
        checks.update(_signals(supervisor, protected))
        checks["fcntl"] += [refuse_if_equal(1, command, errno.EPERM) for command in _OWNING_SIGNALS]
    checks.update(_modes())
    if 0 < landlock_abi < TRUNCATE_ABI:
        for name, check in _truncation().items():
            checks[name] = [*checks.get(name, []), *check]
    by_number = {numbers[name]: value for name, value in checks.items() if name in numbers}
    return assemble(machine, by_number, LAST_KNOWN, errno.ENOSYS)


def _aimed_at_others() -> dict[str, list[Check]]:
    """Limits and priorities may be changed for the caller itself (pid 0) only; Landlock leaves them open."""
    itself = (0,)
    by_pid = ("prlimit64", "sched_setscheduler", "sched_setparam", "sched_setattr", "sched_setaffinity")
    checks = {name: [refuse_unless_equal(0, itself, errno.EPERM)] for name in by_pid}
    for name, one_process in (("setpriority", 0), ("ioprio_set", 1)):
        checks[name] = [
            refuse_unless_equal(0, (one_process,), errno.EPERM),
            refuse_unless_equal(1, itself, errno.EPERM),
        ]
    return checks


def _sockets(network: str) -> dict[str, list[Check]]:
    """Sockets of what the network grants, and none of another kind.

    Local ones are never made, since through them a command would reach the host's agents and daemons. Of
    pairs only streams: those stay connected to each other for good, where a datagram goes to any address.

    By protocol, not by type alone: what the kernel makes of `SOCK_STREAM` besides TCP (MPTCP, SMC, SCTP)
    passes by Landlock's ports. The errors are those of kernels without these, which programs expect.
    """
    pairs = [
        refuse_unless_equal(0, (_AF_UNIX,), errno.EACCES),
        refuse_unless_equal(1, (_SOCK_STREAM,), errno.EACCES, mask=_SOCK_TYPE_MASK),
    ]
    if network == "none":
        nothing = [refuse(errno.EACCES)]
        return {"socketpair": pairs, "socket": nothing, "bind": nothing, "listen": nothing}
    types, protocols = (_SOCK_STREAM,), (_OF_THE_TYPE, _TCP)
    if network == "all":
        types, protocols = (_SOCK_STREAM, _SOCK_DGRAM), (_OF_THE_TYPE, _TCP, _UDP)
    sockets = [
        refuse_unless_equal(0, (_AF_INET, _AF_INET6), errno.EACCES),
        refuse_unless_equal(1, types, errno.EACCES, mask=_SOCK_TYPE_MASK),
        refuse_unless_equal(2, protocols, errno.EPROTONOSUPPORT),
    ]
    checks = {"socketpair": pairs, "socket": sockets}
    return checks if network == "all" else checks | _connecting_otherwise()


def _connecting_otherwise() -> dict[str, list[Check]]:
    """Ways to use a TCP socket that Landlock's ports do not see: all but connect(2), after which it is there.

    Fast open sends its first data to an address without connect(2); listen(2) takes a free port without
    bind(2). Of the options of TCP what is known to be harmless may be set: some bring in a connection, or
    another protocol.
    """
    fast_open = {
        name: [refuse_if_any_bit(argument, _MSG_FASTOPEN, errno.EOPNOTSUPP)]
        for name, argument in (("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3))
    }
    return fast_open | {
        "bind": [refuse(errno.EACCES)],
        "listen": [refuse(errno.EACCES)],
        "setsockopt": [
            refuse_unless_equal(1, (_SOL_IP, _SOL_SOCKET, _SOL_TCP, _SOL_IPV6), errno.ENOPROTOOPT),
            only_where_equal(1, _SOL_TCP, refuse_unless_equal(2, _TCP_OPTIONS.values(), errno.ENOPROTOOPT)),
        ],
    }


def _signals(supervisor: int, protected: tuple[int, ...]) -> dict[str, list[Check]]:
    """For kernels whose Landlock does not hold for signals: what is as old as the supervisor gets none.

    Pids are given out in ascending order, so what is older has a lower one, threads of the runner too, and
    what the command starts has a higher one. Since the numbers begin anew at some point, the runner and the
    zygote are named as well. Also refused: -1, which is everyone, and the same numbers as process groups.
    """
    older = [
        refuse_if_between(0, 1, supervisor, errno.EPERM),
        refuse_if_between(0, 2**32 - supervisor, 2**32 - 1, errno.EPERM),
        *(refuse_if_equal(0, sign * number % 2**32, errno.EPERM) for number in protected for sign in (1, -1)),
    ]
    return {
        "kill": older,
        "tgkill": older,
        "rt_sigqueueinfo": older,
        "rt_tgsigqueueinfo": older,
        "tkill": older,
        "pidfd_send_signal": [refuse(errno.ENOSYS)],
    }


def _truncation() -> dict[str, list[Check]]:
    """For kernels whose Landlock does not hold for truncation: both ways that need no right to write."""
    read_and_empty = {"value": _O_TRUNC, "error": errno.EPERM, "mask": _O_TRUNC | _O_ACCMODE}
    return {
        "truncate": [refuse(errno.EPERM)],
        "open": [refuse_if_equal(1, **read_and_empty)],
        "openat": [refuse_if_equal(2, **read_and_empty)],
    }


def _modes() -> dict[str, list[Check]]:
    """No file gets set-user-id, or set-group-id where others than its group may execute it.

    Who may enter the directory would start it with rights that are not theirs. Where others may not execute
    it, set-group-id gives nobody what they have not: only who is in the group, and the owner, who must be in
    it too, could start it; directories that groups share (2770) have such modes. A directory goes on getting
    its parent's set-group-id, which no call carries. Not of mkdir(2), which leaves both bits out by itself.
    """
    modes = {"chmod": 1, "fchmod": 1, "fchmodat": 2, "fchmodat2": 2, "creat": 1, "mknod": 1, "mknodat": 2}
    checks = {name: [_mode(at)] for name, at in modes.items()}
    for name, flags in (("open", 1), ("openat", 2)):
        checks[name] = [only_where_any_bit(flags, _O_MAKING, _mode(flags + 1))]
    return checks


def _mode(argument: int) -> Check:
    bits = _OF_ITS_GROUP_FOR_OTHERS
    return [
        *refuse_if_any_bit(argument, _OF_ITS_OWNER, errno.EPERM),
        *refuse_if_equal(argument, bits, errno.EPERM, mask=bits),
    ]
