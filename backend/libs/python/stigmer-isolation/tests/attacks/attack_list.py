"""Hostile commands, as data: what one may try against who starts it, the machine and others' commands.

The tests try each in every environment and hold the outcome to `STAYS_OPEN`; the table of docs/reference is
written from the same. Imports nothing, so that a container can run it.
"""

from collections.abc import Mapping
from typing import Final

ENVIRONMENTS: Final = ("native", "native, in bubblewrap", "Docker", "Podman")
"""Native: as root and as an ordinary user."""

_METADATA: Final = frozenset({"chmod", "utime", "stat"})
_WITH_MOUNTS_OF_ITS_OWN: Final = frozenset({"stat"})
_SHARED_MEMORY: Final = frozenset({"read shared memory", "change shared memory", "delete shared memory"})
STAYS_OPEN: Final[Mapping[str, frozenset[str]]] = {
    "native": _WITH_MOUNTS_OF_ITS_OWN,
    "native, in bubblewrap": frozenset(),
    # Its profile forbids namespaces: the container's mounts, /dev/shm too, are all that there is.
    "Docker": _METADATA | _SHARED_MEMORY,
    "Podman": _WITH_MOUNTS_OF_ITS_OWN,
}
"""What is known to get through, by environment; a test says so when that changes."""
OPEN_BEFORE_SCOPES: Final = frozenset({"signal a sibling"})
"""What gets through besides on kernels before 6.12, outside of bubblewrap."""

PRELUDE = """
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
        def handle():  # which tells that it is there, and no more
            return os.open(f"{OTHER}/secret.txt", os.O_PATH)
        attempt("read by a handle", lambda: read(f"/proc/self/fd/{handle()}"))
        attempt("append by a handle", lambda: write(f"/proc/self/fd/{handle()}"))
        linkat = 265 if x86 else 37
        attempt("hard link by a handle", lambda: call(linkat, handle(), b"", -100, b"hard2", 0x1000))
        attempt("exchange", lambda: (open("my", "w"), checked(libc.renameat2, -100, b"my", -100,
                f"{OTHER}/secret.txt".encode(), 2)))
        attempt("make a link", lambda: os.symlink("x", f"{OTHER}/link"))
        attempt("make a pipe", lambda: os.mkfifo(f"{OTHER}/pipe"))
        attempt("remove", lambda: os.rmdir(OTHER))
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
        for hint in (1036, 1038):
            attempt(f"hint {hint}", lambda: fcntl.fcntl(os.open("/usr/bin/env", os.O_RDONLY), hint, bytes(8)))
        """,
    "7 what machines tell and let be set in /proc, /sys and /dev": """
        for path in (
            "/proc/self/mountinfo", "/proc/self/environ", "/proc/net/tcp", "/proc/net/unix", "/proc/locks",
            "/proc/kallsyms", "/proc/modules", "/proc/cmdline", "/proc/kcore", "/proc/diskstats",
            "/sys/kernel/notes", "/sys/class/dmi/id/product_uuid", "/etc/gshadow", "/dev/kmsg",
            "/dev/mem", "/dev/vda", "/dev/sda", "/dev/loop-control", "/dev/kvm", "/dev/fuse", "/dev/net/tun",
            "/dev/ptmx", "/dev/vsock", "/dev/userfaultfd", "/dev/cpu_dma_latency", "/run/docker.sock",
            "/var/run/docker.sock", "/var/lib/dpkg/status",
        ):
            attempt(f"open {path}", lambda: os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK)))
        for path in (
            "/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches", "/proc/sysrq-trigger",
            "/proc/self/oom_score_adj", "/proc/self/uid_map", "/proc/self/mem", "/proc/self/clear_refs",
            "/proc/self/timerslack_ns", "/proc/self/loginuid", "/proc/self/attr/exec", "/sys/power/state",
            "/sys/fs/cgroup/cgroup.procs", "/dev/urandom", "/dev/random",
        ):
            attempt(f"open {path} to write", lambda: os.close(os.open(path, os.O_WRONLY)))
        for path in ("/", "/proc", "/sys", "/dev", "/dev/shm", "/tmp", "/run", "/home", ".."):
            attempt(f"list {path}", lambda: os.listdir(path))
        """,
    "12 its supervisor": """
        parent, high, one = os.getppid(), 1 << 32, ctypes.c_ulong
        attempt("prlimit of it", lambda: resource.prlimit(parent, resource.RLIMIT_NOFILE))
        attempt("affinity of it", lambda: os.sched_setaffinity(parent, os.sched_getaffinity(parent)))
        attempt("scheduler of it", lambda: os.sched_setscheduler(parent, os.SCHED_IDLE, os.sched_param(0)))
        attempt("renice it", lambda: os.setpriority(os.PRIO_PROCESS, parent, 19))
        attempt("renice its group", lambda: os.setpriority(os.PRIO_PGRP, os.getpgid(parent), 19))
        # A user that there is not: where it is let through, nobody is reniced.
        attempt("renice a user", lambda: os.setpriority(os.PRIO_USER, 54321, 19))
        # The kernel reads 32 bits of these, a filter sees 64.
        renice = 141 if x86 else 140
        attempt("renice it, by more bits", lambda: call(renice, one(high), one(high | parent), 19))
        for what in ("environ", "mem", "maps", "exe", "status", "cmdline", "fdinfo/0", "stack", "syscall"):
            attempt(f"{what} of it", lambda: read(f"/proc/{parent}/{what}"))
        """,
    "16 metadata of known paths": """
        attempt("chmod", lambda: os.chmod(f"{OTHER}/secret.txt", 0o640))
        attempt("utime", lambda: os.utime(f"{OTHER}/secret.txt", (1, 1)))
        attempt("stat", lambda: os.stat(f"{OTHER}/secret.txt"))
        """,
    "16 modes of the machine's own": """
        def keep_mode(path):
            os.chmod(path, os.stat(path).st_mode & 0o7777)
        def keep_times(path):
            status = os.stat(path)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        def keep_owner(path):
            os.chown(path, os.getuid(), -1)
        places = {
            "a device": "/dev/full", "a device, by descriptor": 0, "a device, by link": "/proc/self/fd/0",
            "the terminal": "/dev/tty", "in /proc": "/proc/version", "devices": "/dev", "processes": "/proc",
            "in /sys": "/sys/devices/system/cpu/online", "a program": "/usr/bin/env", "the root": "/"}
        for name, path in places.items():
            for way in (keep_mode, keep_times, keep_owner):
                attempt(f"{way.__name__} of {name}", lambda: way(path))
        def by_opening(path):
            os.fchmod(os.open(path, os.O_RDONLY), os.stat(path).st_mode & 0o7777)
        for path in ("/dev/null", "/dev/urandom", "/proc/meminfo", "/proc/sys/kernel/random/boot_id"):
            attempt(f"keep_mode of {path} when opened", lambda: by_opening(path))
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
    "25 sockets by more bits than the kernel reads": """
        high, one = 1 << 32, ctypes.c_ulong
        def made(*arguments):
            os.close(call(41 if x86 else 198, *map(one, arguments)))
        kinds = {"family": (high | 2, 1, 0), "type": (2, high | 1, 0), "protocol": (2, 1, high),
                 "MPTCP": (2, 1, high | 262), "local": (high | 1, 1, 0)}
        for name, arguments in kinds.items():
            attempt(f"socket, {name}", lambda: made(*arguments))
        ends = (ctypes.c_int * 2)()
        for name, kind in {"datagrams": high | 2, "raw": 3, "packets": 5, "flags": 2 | 0o2004000}.items():
            attempt(f"pair, {name}", lambda: call(53 if x86 else 199, one(1), one(kind), one(0), ends))
        """,
    "25 a pair's socket, used for others": """
        ours, theirs = socket.socketpair()
        abstract = E["ABSTRACT"].replace("@", chr(0))
        def ways(when):
            for name, address in {"abstract": abstract, "by name": f"{OUTSIDE}/socket"}.items():
                attempt(f"connect it, {name}, {when}", lambda: ours.connect(address))
                attempt(f"send by it, {name}, {when}", lambda: ours.sendto(b"x", address))
            attempt(f"bind it, {when}", lambda: ours.bind(abstract + "p"))
            attempt(f"listen on it, {when}", lambda: ours.listen())
        ways("connected")
        theirs.close()
        ways("left alone")
        for number in (0, 1, 2):  # its input and output: through a socket it could pass descriptors
            attempt(f"{number} as a socket", lambda: socket.socket(fileno=os.dup(number)).getsockname())
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
    "29 shared memory by name": """
        attempt("read shared memory", lambda: len(read(E["MEMORY"])))
        attempt("change shared memory", lambda: open(E["MEMORY"], "r+").write("x"))
        attempt("delete shared memory", lambda: os.unlink(E["MEMORY"]))
        """,
    "30 files that run as their owner": """
        open("file", "w").close()
        how = (ctypes.c_uint64 * 3)(os.O_CREAT | os.O_WRONLY, 0o4755, 0)
        attempt("chmod u+s", lambda: os.chmod("file", 0o4755))
        for mode in (0o2755, 0o2771, 0o2001, 0o2775, 0o3777, 0o6770, 0o4770, 0o4000):
            attempt(f"chmod {mode:o}", lambda: os.chmod("file", mode))
        os.chmod("file", 0o2770)
        def add_others(mode):
            os.chmod("file", mode)
            return os.stat("file").st_mode & 0o2001 == 0o2001
        attempt("chmod o+x after g+s", lambda: add_others(0o2771))
        attempt("chmod o+x after g+s, without it", lambda: add_others(0o0771))
        attempt("open g+s", lambda: os.open("opened3", os.O_CREAT | os.O_WRONLY, 0o2755))
        attempt("fchmod u+s", lambda: os.chmod(os.open("file", os.O_RDONLY), 0o4755))
        attempt("fchmodat2 u+s", lambda: call(452, -100, b"file", 0o4755, 0))
        attempt("mkdir u+s", lambda: run("mkdir", "-m", "7777", "directory"))
        attempt("open u+s", lambda: os.open("opened", os.O_CREAT | os.O_WRONLY, 0o4755))
        attempt("openat2 u+s", lambda: call(437, -100, b"opened2", how, 24))
        attempt("unnamed u+s", lambda: os.open(".", os.O_TMPFILE | os.O_WRONLY, 0o4755))
        attempt("mknod u+s", lambda: os.mknod("node", 0o104755))
        attempt("install u+s", lambda: run("install", "-m", "4755", "/bin/true", "installed"))
        """,
    "27 planting": """
        attempt("next to the code", lambda: open(f"{os.path.dirname(CODE)}/planted", "x"))
        attempt("in the code", lambda: os.open(CODE, os.O_WRONLY))
        attempt("runner's home", lambda: write(f"{OUTSIDE}/.bashrc"))
        attempt("/tmp", lambda: open(f"/tmp/stigmer-planted-{os.getpid()}", "x"))
        """,
}
"""Title, which begins with the number of the list of bad inputs, and a Python program."""

MUST_WORK: Mapping[str, str] = {
    "git": "git init -q r && cd r && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x",
    "archives": "mkdir a && touch a/x && tar cf a.tar a && mkdir e && tar xf a.tar -C e",
    "metadata": "mkdir f && touch f/x && cp -a f b && touch -d 2001-01-01 b/x && chmod 700 b",
    "modes of a group's own": "mkdir w && chmod 2770 w && test -g w && touch w/x && chmod 2770 w/x "
    "&& cp -a w w2 && test -g w2 && tar cf w.tar w && rm -r w && tar xpf w.tar && test -g w "
    "&& install -d -m 2770 w3 "
    "&& umask 007 && git init -q --shared gs && test -g gs/.git/objects && git -C gs -c user.name=a "
    "-c user.email=a@b commit -q --allow-empty -m x",
    "modes": "mkdir o && touch o/x && chmod 755 o/x && chmod 1777 o && cp -a o p && install -m 755 o/x p/y",
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

ATTACKS_BY_MORE_THAN_A_COMMAND: Final = (
    "3 own environment",
    "9, 10 killing everyone",
    "18 links swapped meanwhile",
    "19 paths that lead elsewhere",
    "20 processes left behind",
)
"""On file tools, on who watches over commands, on their end: `session_attacks` has them."""
