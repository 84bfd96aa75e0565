"""The process that starts commands: forks a supervisor for each, and kills what a command leaves behind.

Run as a script (`python -I -S -E main.py FD [PLACE]`) with an empty environment, before its launcher has
anything to hide; so it imports little of the standard library and this folder only, has one thread, and knows
no secrets. At its end it removes from PLACE what launchers left there that were killed.

For each command the launcher sends over FD how many processes its session may have (4 bytes, big-endian; 0:
any number), with four descriptors: a control socket, the command's stdout and stderr, and its directory; a
fifth is its stdin, where somebody talks with it. A single byte says that the launcher goes.

Over the control socket goes a length (4 bytes, big-endian) and a request
`{"argv": [...], "env": {...}, "input": "...", "has_input": bool, "directory": "...",
"temporary": "...", "policy": {...}}`, the policy as `Policy.to_request` gives it, the input null where there
is none, `has_input` true where it is the fifth descriptor, the directory's path null except where the zygote
is in bubblewrap. Back come lines of JSON: `{"supervisor": pid}` once, then one report: `{"exit_code": n,
"survivors": n}`, with `"over_share": n` where it was killed for that, or `{"stage":
"fork"|"directory"|"isolation"|"exec", "errno": n}`. A byte `t` from the launcher means: ask all of the
command's processes to end (SIGTERM); end of file, by intent or by its death: kill everything. Over FD goes
back `pid` and a line feed for each supervisor that died without a report, once its processes are gone too.
"""
# ruff: noqa: PTH100, PTH120 - pathlib would be a good part of what this process loads

import contextlib
import errno
import gc
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from typing import Any, Final, NoReturn

# Isolated from everything but the standard library, by `-I -S`: the program's own package is found like this,
# and nothing else beside it is, for the rest of this process's life.
sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
from stigmer_isolation.zygote.abandoned_roots import remove_abandoned_roots
from stigmer_isolation.zygote.kernel import IS_LINUX, MACHINE
from stigmer_isolation.zygote.landlock import SCOPE_ABI
from stigmer_isolation.zygote.layers import enter_supervisor_domain, isolate_command, separate_command
from stigmer_isolation.zygote.own_mounts import can_be_own
from stigmer_isolation.zygote.policy import Policy
from stigmer_isolation.zygote.process_shares import SHARE_BYTES, ProcessShares
from stigmer_isolation.zygote.process_tree import (
    KILL_SECONDS,
    ask_to_end,
    become_reaper,
    drain,
    kill_all,
    kill_tree,
    reap,
    send_signal,
    watch_children,
)
from stigmer_isolation.zygote.seccomp_rules import filter_for
from stigmer_isolation.zygote.tree_removal import remove_tree

sys.path.pop()

STRAGGLER_SECONDS: Final = 0.2
"""What a command's last children get to end by themselves, such as the `tee` of a process substitution."""
REMOVAL_SECONDS: Final = 2.0
"""Longest that a command's result waits for its temporary files to go."""
COMMAND_UMASK: Final = 0o022
"""The directory itself is closed to other users; files carried out of it keep the usual modes."""
POLL_MILLISECONDS: Final = 20.0
OVER_SHARE: Final = signal.SIGUSR1
"""Tells a supervisor that its command's session has more processes than it may."""

TOLD_TO_END: Final = -1
_DESCRIPTORS_PER_COMMAND: Final = 4
Streams = tuple[int | None, int, int]
"""A command's stdin, None where it has no input, its stdout and its stderr."""

_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE)


def main() -> None:
    """Serve the launcher until it is gone and every supervisor with it."""
    reset_signals()
    gc.disable()  # what is made here is little, and a collection would copy every page after a fork
    become_reaper(b"stigmer-zygote")
    prepare_filters()
    can_be_own()  # tried once, before any fork that remembers it
    control = socket.socket(fileno=int(sys.argv[1]))
    children_ended = watch_children()
    poller = select.poll()
    poller.register(control, select.POLLIN)
    poller.register(children_ended, select.POLLIN)
    supervisors, unreported, give_up_at = set[int](), list[int](), 0.0
    shares, launcher = ProcessShares(), os.getppid()
    while True:
        pause = POLL_MILLISECONDS if unreported else shares.poll_milliseconds
        ready = {descriptor for descriptor, _ in poller.poll(pause)}
        drain(children_ended)
        if control.fileno() in ready:
            started = serve(control, shares)
            if started is None or started == TOLD_TO_END:
                is_told = started is not None
                break
            if started:
                supervisors.add(started)
        ended, _ = reap()
        for pid in supervisors.intersection(ended):
            supervisors.remove(pid)
            shares.remove(pid)
            if ended[pid] != 0:
                unreported.append(pid)
                give_up_at = time.monotonic() + KILL_SECONDS
        if unreported and (not kill_tree(os.getpid(), supervisors) or time.monotonic() > give_up_at):
            with contextlib.suppress(OSError):
                control.sendall(b"".join(b"%d\n" % pid for pid in unreported))
            unreported.clear()
        for pid in shares.find_over():
            send_signal(pid, OVER_SHARE)
    end_supervisors(supervisors, children_ended)
    if not is_told and len(sys.argv) > 2:
        wait_for_end_of(launcher)
        remove_abandoned_roots(sys.argv[2])


def prepare_filters() -> None:
    """Build the filters that most commands will need once, not after each fork."""
    for network in ("none", "web", "all"):
        filter_for(MACHINE, network=network, landlock_abi=SCOPE_ABI, supervisor=0)


def end_supervisors(supervisors: set[int], children_ended: int) -> None:
    """The launcher is gone: each supervisor noticed, unless its command stopped it. Kill what is left."""
    poller = select.poll()
    poller.register(children_ended, select.POLLIN)
    give_up_at = time.monotonic() + 2 * KILL_SECONDS
    while supervisors and time.monotonic() < give_up_at:
        for pid in supervisors:
            send_signal(pid, signal.SIGCONT)
        poller.poll(POLL_MILLISECONDS)
        drain(children_ended)
        supervisors.difference_update(reap()[0])
    kill_all(children_ended)


def wait_for_end_of(launcher: int) -> None:
    """Its socket may close a moment before the locks that say that it lives."""
    give_up_at = time.monotonic() + KILL_SECONDS
    while os.getppid() == launcher and time.monotonic() < give_up_at:
        time.sleep(POLL_MILLISECONDS / 1000)


def serve(control: socket.socket, shares: ProcessShares) -> int | None:
    """Start the supervisor of one command; its pid, 0 where there is none, None once the launcher is gone.

    `TOLD_TO_END` where the launcher says that it goes, and removes by itself what is left.
    """
    try:
        request, descriptors, _, _ = socket.recv_fds(control, SHARE_BYTES, _DESCRIPTORS_PER_COMMAND + 1)
    except OSError:
        return None
    if len(request) < SHARE_BYTES:
        return TOLD_TO_END if request else None
    try:
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        if len(descriptors) < _DESCRIPTORS_PER_COMMAND:
            return 0  # out of descriptors; the launcher sees its end of the control socket close
        try:
            pid = os.fork()
        except OSError as error:
            os.write(descriptors[0], to_line({"stage": "fork", "errno": error.errno}))
            return 0
        if pid == 0:
            run_supervisor(*descriptors)
        shares.add(pid, descriptors[3], int.from_bytes(request, "big"))
        return pid
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def run_supervisor(
    control: int, stdout: int, stderr: int, directory: int, stdin: int | None = None
) -> NoReturn:
    """The body of the forked supervisor."""
    try:
        # The zygote's own descriptors must not stay open here: their closing is a signal.
        kept = sorted(each for each in (control, stdin, stdout, stderr, directory) if each is not None)
        for low, high in zip([2, *kept], [*kept, 4096], strict=True):
            os.closerange(low + 1, high)
        os.setsid()
        become_reaper(b"stigmer-command")
        children_ended = watch_children()
        with socket.socket(fileno=control) as launcher:
            report = supervise(launcher, (stdin, stdout, stderr), directory, children_ended)
            if report is not None:
                launcher.sendall(to_line(report))
        os._exit(0)
    except (BrokenPipeError, ConnectionResetError):
        os._exit(0)  # the launcher is gone; nothing was started yet, or everything is killed already
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)


def supervise(
    control: socket.socket, streams: Streams, directory: int, children_ended: int
) -> dict[str, int | str] | None:
    """Give the command a temporary directory and run it; the report, None if nobody waits for it."""
    control.sendall(to_line({"supervisor": os.getpid()}))
    request = receive_request(control)
    if request is None:
        return None
    policy = Policy.of_request(request["policy"])
    temporary: str | None = request["temporary"]
    if request["has_input"] and streams[0] is None:
        return {"stage": "fork", "errno": errno.EMFILE}  # it did not get through
    if temporary is not None:
        for name in ("TMPDIR", "HOME"):
            request["env"].setdefault(name, temporary)
        policy = policy._replace(writable=(*policy.writable, temporary))
    try:
        return run_command(request, policy, control, streams, directory, children_ended)
    finally:
        if temporary is not None:
            # Everything that could change it is dead. What takes longer, the launcher removes.
            remove_tree(temporary, seconds=REMOVAL_SECONDS)


def run_command(
    request: dict[str, Any],
    policy: Policy,
    control: socket.socket,
    streams: Streams,
    directory: int,
    children_ended: int,
) -> dict[str, int | str]:
    """Run the command to its end, or until told to kill it; the report."""
    told = list[int]()
    signal.signal(OVER_SHARE, lambda number, _: told.append(number))
    try:
        is_domain_closed = enter_supervisor_domain(policy)
    except OSError as error:
        return {"stage": "isolation", "errno": error.errno or 0}
    try:
        command, failure = start(request, policy, streams, directory)
    except OSError as error:
        return {"stage": "fork", "errno": error.errno or 0}
    for descriptor in (*streams, directory):
        if descriptor is not None:
            os.close(descriptor)
    if failure is not None:
        return failure
    poller = select.poll()
    poller.register(control, select.POLLIN)
    poller.register(children_ended, select.POLLIN)
    exit_code, give_up_at, is_told_to_kill = None, float("inf"), False
    while True:
        drain(children_ended)
        ended, has_children = reap()
        if command in ended:
            status = ended[command]
            exit_code = status if status >= 0 else 128 - status  # as shells tell of a signal
            give_up_at = time.monotonic() + STRAGGLER_SECONDS
        is_over = exit_code is not None and (not has_children or time.monotonic() >= give_up_at)
        is_over_share = bool(told) and exit_code is None
        if is_over or is_told_to_kill or is_over_share:
            if not IS_LINUX:
                # No process can adopt orphans (macOS): the command's process group is all that can be found.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(command, signal.SIGKILL)
            survivors = kill_all(children_ended, is_domain_closed=is_domain_closed)
            code = 137 if exit_code is None else exit_code
            report: dict[str, int | str] = {"exit_code": code, "survivors": survivors}
            if is_over_share and not is_told_to_kill:
                report["over_share"] = policy.session_processes or 0
            return report
        ready = poller.poll(None if exit_code is None else STRAGGLER_SECONDS * 1000)
        if any(descriptor == control.fileno() for descriptor, _ in ready):
            is_told_to_kill = not receive_wish(control)
            if not is_told_to_kill:
                ask_to_end(is_domain_closed=is_domain_closed)


def receive_wish(control: socket.socket) -> bool:
    """Whether the launcher wishes that the command's processes are asked to end; False: that they end."""
    try:
        return bool(control.recv(64))
    except OSError:
        return False


def receive_request(control: socket.socket) -> dict[str, Any] | None:
    """The request; None where the launcher is gone or has changed its mind."""
    data = bytearray()
    while len(data) < 4 or len(data) < 4 + struct.unpack(">I", data[:4])[0]:
        chunk = control.recv(1 << 16)
        if not chunk:
            return None
        data += chunk
    # A wish that came with it is lost: nothing runs yet, and who wished it kills after a while.
    return json.loads(bytes(data[4 : 4 + struct.unpack(">I", data[:4])[0]]))


def start(
    request: dict[str, Any], policy: Policy, streams: Streams, directory: int
) -> tuple[int, dict[str, int | str] | None]:
    """Fork and execute the command: its pid, and the report of the failure where it could not be executed."""
    failure_reader, failure_writer = os.pipe()
    supervisor, zygote = os.getpid(), os.getppid()
    pid = os.fork()
    if pid == 0:
        execute(request, policy, streams, directory, failure_writer, supervisor, zygote)
    os.close(failure_writer)
    failure = b""
    while chunk := os.read(failure_reader, 64):
        failure += chunk
    os.close(failure_reader)
    if not failure:
        return pid, None
    stage, number = failure.decode("ascii").split()
    return pid, {"stage": stage, "errno": int(number)}


def execute(
    request: dict[str, Any],
    policy: Policy,
    streams: Streams,
    directory: int,
    failure: int,
    supervisor: int,
    zygote: int,
) -> NoReturn:
    """The body of the forked command: nothing of the supervisor may remain but the three standard streams."""
    stage = "directory"
    try:
        os.setsid()
        if request["directory"] is not None:
            directory = open_again(request["directory"], directory)
        os.fchdir(directory)
        stage = "isolation"
        separate_command(policy)
        # Opened only now: through a file of the machine's own mounts that could still be changed.
        stdin, stdout, stderr = streams
        os.dup2(open_input(request) if stdin is None else stdin, 0)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        os.umask(COMMAND_UMASK)
        for number in (*_IGNORED, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        isolate_command(policy, directory, supervisor, zygote)
        stage = "exec"
        argv: list[str] = request["argv"]
        os.execvpe(argv[0], argv, request["env"])  # noqa: S606 - what this process is for
    except OSError as error:
        os.write(failure, b"%s %d" % (stage.encode("ascii"), error.errno or 0))
    finally:
        os._exit(127)


def open_input(request: dict[str, Any]) -> int:
    """What the command reads: the text of the request, in a file that has no name and nobody else has."""
    text: str | None = request["input"]
    if text is None:
        return os.open(os.devnull, os.O_RDONLY)
    if IS_LINUX:
        file = os.memfd_create("input")
    else:
        name = f"{request['temporary'] or '/tmp'}/.input-{os.getpid()}"  # noqa: S108 - exclusively
        file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.unlink(name)  # noqa: PTH108
    left = memoryview(text.encode("utf-8", errors="surrogateescape"))
    while left:
        left = left[os.write(file, left) :]
    os.lseek(file, 0, os.SEEK_SET)
    return file


def open_again(path: str, directory: int) -> int:
    """The same directory as bubblewrap shows it: from the one outside, `..` would lead outside.

    Raises:
        OSError: ESTALE: what is shown there is another one.
    """
    shown = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not os.path.samestat(os.fstat(shown), os.fstat(directory)):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
    return shown


def reset_signals() -> None:
    """Forget what the launcher's parents ignored or blocked; ignore what a command may send by mistake."""
    for number in signal.valid_signals():
        with contextlib.suppress(OSError, ValueError):  # SIGKILL, SIGSTOP, and what libc keeps for itself
            signal.signal(number, signal.SIG_IGN if number in _IGNORED else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def to_line(message: dict[str, Any]) -> bytes:
    """A message as a line of JSON."""
    return json.dumps(message).encode("ascii") + b"\n"


if __name__ == "__main__":
    main()
