"""Hostile commands, as data: what one may try against the runner, the machine and other sessions.

Used by two suites: in the tests' own process, and inside the runner's container, where this file is the
program (`python command_attacks.py [unprotected|exhaust]`) and prints what got through. So it imports the
runner and the standard library only.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import secrets
import signal
import socket
import sys
import tempfile
import textwrap
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import agent_runner
from agent_runner.commands import open_commands
from agent_runner.settings import load_settings
from agent_runner.workspace import SessionWorkspace
from stigmer_isolation.command_environment import command_environment
from stigmer_isolation.launcher import CommandLauncher
from stigmer_isolation.running_command import StreamName, command_output_listener
from stigmer_isolation.self_test import probe_networks

KEY = "CANARY_API_KEY"
SECRET = "canary-4f1d0c"

_PRELUDE = """
import ctypes, errno, fcntl, os, resource, shutil, socket, subprocess, sys, time
E = os.environ
RUNNER, SIBLING, PORT = int(E["RUNNER"]), int(E["SIBLING"]), int(E["PORT"])
OTHER, ROOT, OUTSIDE, CODE = E["OTHER"], E["ROOT"], E["OUTSIDE"], E["CODE"]
libc = ctypes.CDLL(None, use_errno=True)
def attempt(name, action):
    try:
        result = action()
    except (OSError, subprocess.CalledProcessError) as error:
        print("closed", name, "|", error)
    else:
        print("closed" if result is False else "OPEN", name, "|", repr(result)[:80])
    sys.stdout.flush()
def call(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
def checked(function, *arguments):
    if function(*arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
def run(*argv):
    subprocess.run(argv, check=True, capture_output=True)
def read(path):
    return open(path, "rb").read(4096)
def write(path):
    with open(path, "a") as file:
        file.write("x")
x86 = os.uname().machine == "x86_64"
"""

ATTACKS: Mapping[str, str] = {
    "1 environments of others": """
        for name, pid in (("the runner", RUNNER), ("process 1", 1), ("a sibling", SIBLING)):
            attempt(f"environ of {name}", lambda: read(f"/proc/{pid}/environ"))
        """,
    "2 the key in any environment": """
        def search():
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    if b"CANARY_API_KEY" in open(f"/proc/{pid}/environ", "rb").read():
                        return pid
                except OSError:
                    pass
            return False
        attempt("the key in any environ", search)
        """,
    "4 memory of others": """
        for name, pid in (("the runner", RUNNER), ("process 1", 1), ("a sibling", SIBLING)):
            attempt(f"mem of {name}", lambda: open(f"/proc/{pid}/mem", "rb"))
        """,
    "5 tracing": """
        for name, pid in (("the runner", RUNNER), ("a sibling", SIBLING)):
            attempt(f"ptrace {name}", lambda: call(101 if x86 else 117, 0x4206, ctypes.c_long(pid), 0, 0))
        """,
    "6 memory and descriptors by number": """
        def peek(pid):
            buffer = ctypes.create_string_buffer(8)
            local = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 8)
            remote = (ctypes.c_void_p * 2)(id(None), 8)
            vector = ctypes.c_void_p * 2
            return call(310 if x86 else 270, ctypes.c_long(pid), local, 1, remote, 1, 0)
        attempt("process_vm_readv", lambda: peek(SIBLING))
        attempt("pidfd_getfd", lambda: call(438, os.pidfd_open(SIBLING), 1, 0))
        """,
    "7 through /proc": """
        attempt("root of the runner", lambda: read(f"/proc/{RUNNER}/root/etc/hostname"))
        attempt("fds of the runner", lambda: os.listdir(f"/proc/{RUNNER}/fd"))
        attempt("cwd of a sibling", lambda: os.listdir(f"/proc/{SIBLING}/cwd"))
        attempt("command line of the runner", lambda: read(f"/proc/{RUNNER}/cmdline"))
        """,
    "8 secrets as files": """
        attempt("secret file", lambda: read(f"{OUTSIDE}/secret"))
        attempt("netrc", lambda: read(f"{OUTSIDE}/.netrc"))
        attempt("shadow", lambda: read("/etc/shadow"))
        """,
    "9 signals": """
        for name, pid in (("the runner", RUNNER), ("process 1", 1), ("its supervisor", os.getppid()),
                          ("a sibling", SIBLING), ("the runner's group", -int(E["GROUP"]))):
            if pid == -1:
                continue  # in a container the runner may be in the group of process 1, and -1 means everyone
            attempt(f"signal {name}", lambda: os.kill(pid, 0))
        attempt("signal by pidfd", lambda: call(424, os.pidfd_open(SIBLING), 0, 0, 0))
        """,
    "11 signals by descriptor": """
        import signal
        ours, theirs = socket.socketpair()
        def aim():
            fcntl.fcntl(ours, 10, signal.SIGUSR1)
            fcntl.fcntl(ours, fcntl.F_SETOWN, RUNNER)
            fcntl.fcntl(ours, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
            theirs.send(b"x")
            return False  # whether it arrived, the runner knows
        attempt("aim", aim)
        """,
    "12 limits and priorities of the runner": """
        attempt("prlimit", lambda: resource.prlimit(RUNNER, resource.RLIMIT_CORE))
        def renice():
            os.setpriority(os.PRIO_PROCESS, RUNNER, os.getpriority(os.PRIO_PROCESS, RUNNER))
        attempt("renice", renice)
        attempt("affinity", lambda: os.sched_setaffinity(RUNNER, os.sched_getaffinity(RUNNER)))
        attempt("oom_score_adj", lambda: open(f"/proc/{SIBLING}/oom_score_adj", "w").write("1000"))
        """,
    "13 files of another session": """
        attempt("list sessions", lambda: os.listdir(ROOT))
        attempt("list", lambda: os.listdir(OTHER))
        attempt("read", lambda: read(f"{OTHER}/secret.txt"))
        attempt("append", lambda: write(f"{OTHER}/secret.txt"))
        attempt("create", lambda: open(f"{OTHER}/new", "x"))
        attempt("make directory", lambda: os.mkdir(f"{OTHER}/newdir"))
        attempt("delete", lambda: os.unlink(f"{OTHER}/doomed"))
        attempt("move away", lambda: os.rename(f"{OTHER}/movable", "moved"))
        attempt("move in", lambda: (open("mine", "w").close(), os.rename("mine", f"{OTHER}/mine")))
        attempt("hard link", lambda: os.link(f"{OTHER}/secret.txt", "hard"))
        attempt("new session", lambda: os.mkdir(f"{ROOT}/new-session"))
        """,
    "14 a link to another session": """
        os.symlink(f"{OTHER}/secret.txt", "link")
        attempt("read by link", lambda: read("link"))
        attempt("write by link", lambda: write("link"))
        """,
    "15 emptying": """
        attempt("truncate", lambda: os.truncate(f"{OTHER}/long", 0))
        attempt("open to empty", lambda: os.open(f"{OTHER}/long", os.O_RDONLY | os.O_TRUNC))
        """,
    "16 metadata by extended attribute": """
        attempt("setxattr", lambda: os.setxattr(f"{OTHER}/secret.txt", "user.x", b"1"))
        """,
    "13 holding up who opens a file": """
        for name, mode, kind in (("writing", os.O_RDWR, fcntl.F_WRLCK), ("reading", 0, fcntl.F_RDLCK)):
            open(name, "w").close()
            attempt(f"lease for {name}", lambda: fcntl.fcntl(os.open(name, mode), 1024, kind))
        attempt("notify", lambda: fcntl.fcntl(os.open(".", os.O_RDONLY), 1026, 2))
        """,
    "17 watching": """
        def watch():
            descriptor = libc.inotify_init1(0)
            if descriptor < 0 or libc.inotify_add_watch(descriptor, ROOT.encode(), 0x100) < 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        attempt("inotify", watch)
        """,
    "25 network": """
        attempt("connect", lambda: socket.create_connection(("127.0.0.1", PORT), 2))
        attempt("listen", lambda: socket.create_server(("127.0.0.1", 0)))
        attempt("udp", lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", PORT)))
        def local(name):
            client = socket.socket(socket.AF_UNIX)
            client.connect(name)
        attempt("local socket", lambda: local(f"{OUTSIDE}/socket"))
        attempt("abstract socket", lambda: local(E["ABSTRACT"].replace("@", chr(0))))
        attempt("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
        attempt("bash", lambda: run("bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{PORT}"))
        """,
    "25 local datagrams": """
        def of_a_pair(way):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            return way(ours)
        names = {"by name": f"{OUTSIDE}/datagrams", "abstract": E["ABSTRACT"].replace("@", chr(0)) + "d"}
        for kind, name in names.items():
            attempt(f"send, {kind}", lambda: of_a_pair(lambda one: one.sendto(b"x", name)))
            attempt(f"connect, {kind}", lambda: of_a_pair(lambda one: one.connect(name)))
            attempt(f"pass a descriptor, {kind}",
                    lambda: of_a_pair(lambda one: socket.send_fds(one, [b"x"], [0], 0, name)))
        attempt("be sent to", lambda: of_a_pair(lambda one: one.bind("datagrams")))
        """,
    "26 rarely needed system calls": """
        table = {"io_uring_setup": (425, 425, 1, ctypes.create_string_buffer(120)),
            "unshare": (272, 97, 0x10000000), "clone": (56, 220, 0x10000011, 0, 0, 0, 0),
            "bpf": (321, 280, 0, 0, 0), "userfaultfd": (323, 282, 1), "keyctl": (250, 219, 0, -3, 1),
            "shmget": (29, 194, 0, 4096, 0o1600), "msgget": (68, 186, 0, 0o1600),
            # Of no file system that there is: where it is allowed, the machine must not keep the mount.
            "mount": (165, 40, b"none", ROOT.encode(), b"none such", 0, 0),
            "chroot": (161, 51, ROOT.encode()),
            "open_by_handle_at": (304, 265, -1, 0, 0), "perf_event_open": (298, 241, 0, 0, -1, -1, 0)}
        def make(name):
            number = table[name][0 if x86 else 1]
            try:
                result = call(number, *table[name][2:])
            except OSError as error:
                if error.errno in (errno.EPERM, errno.ENOSYS, errno.EACCES):
                    raise
                return "allowed, but " + error.strerror  # its arguments were wrong
            if name == "clone" and result == 0:
                os._exit(0)
            return result
        for name in table:
            attempt(name, lambda: make(name))
        def mq():
            if libc.mq_open(b"/stigmer-test", 0o102, 0o600, 0) < 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            libc.mq_unlink(b"/stigmer-test")
        attempt("mq_open", mq)
        """,
    "27 planting": """
        attempt("next to the code", lambda: open(f"{os.path.dirname(CODE)}/planted", "x"))
        attempt("in the code", lambda: os.open(CODE, os.O_WRONLY))
        attempt("runner's home", lambda: write(f"{OUTSIDE}/.bashrc"))
        attempt("/tmp", lambda: open(f"/tmp/stigmer-planted-{os.getpid()}", "x"))
        """,
}
"""Title, which begins with the number of the list of bad inputs, and a Python program."""

GAPS: Mapping[str, str] = {
    "16 metadata of known paths": """
        attempt("chmod", lambda: os.chmod(f"{OTHER}/secret.txt", 0o640))
        attempt("utime", lambda: os.utime(f"{OTHER}/secret.txt", (1, 1)))
        attempt("stat", lambda: os.stat(f"{OTHER}/secret.txt"))
        """,
}
"""What is known to stay open; a test says so when that changes."""

MUST_WORK: Mapping[str, str] = {
    "git": "git init -q r && cd r && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x",
    "archives": "mkdir a && touch a/x && tar cf a.tar a && mkdir e && tar xf a.tar -C e",
    "metadata": "mkdir f && touch f/x && cp -a f b && touch -d 2001-01-01 b/x && chmod 700 b",
    "temporary files": "f=$(mktemp) && echo x >$f && test -s $f && rm $f",
    "process substitution": "bash -c 'cat <(echo yes)' | grep yes",
    "its own link in /proc": "readlink /proc/self/exe",
    "processors": "nproc && nice -n 5 true",
    "names of users": "id && getent passwd 0",
    "moves between directories": "mkdir c d && echo x >c/f && mv c/f d/g && cat d/g",
    "shared memory": """"$PYTHON" -c '
from multiprocessing import Pool, shared_memory
if __name__ == "__main__":
    memory = shared_memory.SharedMemory(create=True, size=64)
    with Pool(2) as pool:
        assert pool.map(abs, [-1]) == [1]
    memory.close(); memory.unlink()'""",
    "socket pairs, memory files, threads": """"$PYTHON" -c '
import asyncio, os, socket, threading
a, b = socket.socketpair(); a.send(b"x"); assert b.recv(1) == b"x"
os.write(os.memfd_create("m"), b"x")
thread = threading.Thread(target=int); thread.start(); thread.join()
async def main():
    child = await asyncio.create_subprocess_exec("true")
    assert await child.wait() == 0
asyncio.run(main())'""",
}
"""Title and shell script, for programs that every machine has."""
MUST_WORK_WHERE_INSTALLED: Mapping[str, tuple[str, str]] = {
    "a virtual environment": ("python3", "python3 -m venv --without-pip v && v/bin/python -c 'import ssl'"),
    "a compiler": ("gcc", "echo 'int main(){return 0;}' >t.c && gcc -o t t.c && ./t"),
    "make": ("make", "printf 'all:\\n\\techo made\\n' >Makefile && make"),
    "node": ("node", 'node -e \'require("child_process").execSync("true"); console.log(1)\''),
}


@dataclass(frozen=True)
class Scene:
    """A runner with a key, a session that attacks, and one that has something to lose."""

    launcher: CommandLauncher
    attacker: SessionWorkspace
    other: Path
    variables: Mapping[str, str]
    arrived_signals: list[int]
    """Signals that commands got through to the runner."""

    async def results(self, attack: str) -> dict[str, bool]:
        """Run one attack; whether each part of it succeeded, by name."""
        program = _PRELUDE + textwrap.dedent(attack)
        done = await self.attacker.run([sys.executable, "-c", program], env=self.variables, timeout=60)
        if done.exit_code != 0 or (self.launcher.policy.landlock_abi and SECRET in done.stdout):
            raise AssertionError(f"ended with {done.exit_code}: {done.stdout}{done.stderr}")
        lines = [line.partition(" ") for line in done.stdout.splitlines()]
        return {rest.partition(" |")[0]: state == "OPEN" for state, _, rest in lines}


@asynccontextmanager
async def scene(launcher: CommandLauncher, root: Path) -> AsyncGenerator[Scene]:
    """Set it up beneath `root`, which holds the sessions."""
    attacker, other = root / f"a-{secrets.token_hex(8)}", root / f"b-{secrets.token_hex(8)}"
    attacker.mkdir()
    other.mkdir()
    for name in ("secret.txt", "doomed", "movable", "long"):
        (other / name).write_text(f"{SECRET}\n", encoding="utf-8")
    with (
        tempfile.TemporaryDirectory() as outside,
        socket.socket(socket.AF_UNIX) as local,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as abstract_datagrams,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        for name in ("secret", ".netrc", ".bashrc"):
            _write(f"{outside}/{name}")
        local.bind(f"{outside}/socket")
        local.listen()
        abstract_name = f"@stigmer-{secrets.token_hex(8)}"
        abstract.bind(abstract_name.replace("@", "\0"))
        abstract.listen()
        datagrams.bind(f"{outside}/datagrams")
        abstract_datagrams.bind(abstract_name.replace("@", "\0") + "d")
        arrived: list[int] = []
        before = signal.signal(signal.SIGUSR1, lambda number, _: arrived.append(number))
        mark = f"1000.{secrets.randbelow(10**12)}"
        sibling = await _start(SessionWorkspace(other, launcher=launcher), f"echo on; exec sleep {mark}")
        variables = {
            "RUNNER": str(os.getpid()),
            "GROUP": str(os.getpgrp()),
            "SIBLING": str(await _pid_of(mark)),
            "PORT": str(listener.getsockname()[1]),
            "OTHER": str(other),
            "ROOT": str(root),
            "OUTSIDE": outside,
            "CODE": agent_runner.__file__,
            "ABSTRACT": abstract_name,
            "PYTHON": sys.executable,
        }
        try:
            workspace = SessionWorkspace(attacker, launcher=launcher)
            yield Scene(launcher, workspace, other, variables, arrived)
        finally:
            sibling.running.cancel()
            await asyncio.wait({sibling.running})
            signal.signal(signal.SIGUSR1, before)


def _write(path: str) -> None:
    Path(path).write_text(SECRET, encoding="utf-8")


@dataclass(frozen=True)
class _Started:
    running: "asyncio.Task[object]"


async def _start(workspace: SessionWorkspace, script: str) -> _Started:
    """Start a script and wait for its first line."""
    has_begun = asyncio.Event()

    def note(stream: StreamName, text: str) -> None:
        has_begun.set()

    token = command_output_listener.set(note)
    running: asyncio.Task[object] = asyncio.create_task(workspace.run(["sh", "-c", script]))
    command_output_listener.reset(token)
    async with asyncio.timeout(30):
        await has_begun.wait()
        return _Started(running)


async def _pid_of(mark: str) -> int:
    """The process whose last argument is the mark, by its number here; it may number itself otherwise."""
    async with asyncio.timeout(30):
        while True:
            for directory in Path("/proc").glob("[0-9]*"):  # noqa: ASYNC240 - not a disk's
                with contextlib.suppress(OSError):
                    if (directory / "cmdline").read_bytes().endswith(f"\0{mark}\0".encode()):
                        return int(directory.name)
            await asyncio.sleep(0.01)


async def run_all(launcher: CommandLauncher, root: Path) -> dict[str, list[str]]:
    """Every attack: the parts that succeeded, by title; and what should work and does not."""
    open_parts: dict[str, list[str]] = {}
    async with scene(launcher, root) as here:
        for title, attack in {**ATTACKS, **GAPS}.items():
            results = await here.results(attack)
            open_parts[title] = [name for name, is_open in results.items() if is_open]
        open_parts["11 signals by descriptor"] = [str(number) for number in here.arrived_signals]
        by_network = await probe_networks(launcher, ("none", "web", "all"))
        open_parts["25 networks"] = [
            f"{way}: {network}" for network, ways in by_network.items() for way in ways
        ]
        broken = list[str]()
        for title, script in MUST_WORK.items():
            done = await here.attacker.run(["bash", "-c", script], env=here.variables, timeout=60)
            if done.exit_code != 0:
                broken.append(f"{title}: {done.stderr[-300:]}")
        open_parts["28 must work"] = broken
    return open_parts


# In a redirection the counter would count in a process of its own.
_FILL = "i=0; while i=$((i + 1)); head -c 9000000 /dev/zero >fill-$$-$i; do :; done; sleep 1000"
EXHAUSTION: Mapping[str, str] = {
    "22 fork bomb": "bomb() { bomb | bomb & }; bomb; sleep 1000",
    "21 pid hopper": """"$PYTHON" -c '
import os
while True:
    if os.fork(): os._exit(0)
    os.setsid()'; sleep 1000""",
    "23 memory": """"$PYTHON" -c '
import os
for _ in range(7): os.fork() or os.setpriority(os.PRIO_PROCESS, 0, 19)
held = []
while True: held.append(bytearray(1 << 20))'; sleep 1000""",
    "23 memory files": """"$PYTHON" -c '
import os
files = [os.memfd_create("m") for _ in range(64)]
while True:
    for file in files: os.write(file, bytes(1 << 20))'; sleep 1000""",
    "23 /dev/shm": "cd /dev/shm; FILL",
    "23 /tmp": "cd $TMPDIR; FILL",
    "24 disk": "FILL",
}
"""Commands that use up the machine, for a container with limits only."""


EXHAUSTION_SECONDS = 10.0


async def exhaust_all(launcher: CommandLauncher, root: Path) -> dict[str, str]:
    """How each ended, while another session's command and the runner's own processes and threads go on."""
    ends: dict[str, str] = {}
    async with scene(launcher, root) as here:
        for title, script in EXHAUSTION.items():
            attacking = asyncio.create_task(
                here.attacker.run(
                    ["bash", "-c", script.replace("FILL", _FILL)],
                    env=here.variables,
                    timeout=EXHAUSTION_SECONDS,
                )
            )
            failures = 0
            while not attacking.done():
                failures += await _failures_of_the_runner()
                await asyncio.wait({attacking}, timeout=0.2)
            error = attacking.exception()
            ends[title] = "returned" if error is None else type(error).__name__
            if error is not None and "disk quota" in str(error):
                ends[title] = "disk quota"
            os.kill(int(here.variables["SIBLING"]), 0)
            then = await SessionWorkspace(here.other, launcher=launcher).run(["echo", "on"])
            if failures or then.stdout != "on\n":
                ends[title] += f", but the runner failed {failures} times: {then}"
            await here.attacker.run(["sh", "-c", "rm -f fill-*"])
    return ends


async def _failures_of_the_runner() -> int:
    """Whether it can start a thread and a process, as it must at any time."""
    try:
        await asyncio.to_thread(int)
        child = await asyncio.create_subprocess_exec("/bin/true")
        return int(await child.wait() != 0)
    except (OSError, RuntimeError):
        return 1


async def _main() -> None:
    """Inside the container: as the runner would, with its settings, in its workspace."""
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # as `protect_process`
    environ = {**os.environ, "STIGMER_TOKEN": "none"}
    if sys.argv[1:] == ["unprotected"]:
        environ["STIGMER_SANDBOX"] = "off"
    settings = load_settings(environ)
    async with open_commands(settings, command_environment(os.environ)) as commands:
        if sys.argv[1:] == ["exhaust"]:
            print(json.dumps(await exhaust_all(commands.launcher, settings.sandbox_root_dir)))
            return
        results = await run_all(commands.launcher, settings.sandbox_root_dir)
        print(json.dumps({"level": commands.isolation.level, "results": results}))


if __name__ == "__main__":
    asyncio.run(_main())
