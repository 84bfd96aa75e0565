"""What no command can show here: the tables of system calls, and filters of other architectures."""

import errno
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import stigmer_isolation.zygote
from needed import skip_outside_ci
from stigmer_isolation.zygote.seccomp_rules import filter_for
from stigmer_isolation.zygote.system_calls import LAST_KNOWN, numbers_for

HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
ALLOWED, KILLED = 0x7FFF0000, 0x80000000
SUPERVISOR = 1000


def refused(error: int) -> int:
    return 0x00050000 | error


class Filter:
    """Runs a filter as the kernel would, on calls of any architecture."""

    def __init__(self, machine: str, *, network: str = "none", landlock_abi: int = 7) -> None:
        program = filter_for(machine, network=network, landlock_abi=landlock_abi, supervisor=SUPERVISOR)
        self._instructions = list(struct.iter_unpack("=HBBI", program))
        self._architecture = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[machine]
        self._numbers = numbers_for(machine)

    def on(self, name: str, *arguments: int) -> int:
        """What becomes of a call."""
        return self.on_number(self._numbers[name], *arguments)

    def on_number(self, number: int, *arguments: int, architecture: int | None = None) -> int:
        words = [argument & (2**64 - 1) for argument in (*arguments, 0, 0, 0, 0, 0, 0)[:6]]
        call = struct.pack("<IIQ6Q", number, architecture or self._architecture, 0, *words)
        accumulator, position = 0, 0
        while True:
            code, if_true, if_false, value = self._instructions[position]
            position += 1
            match code:
                case 0x20:
                    accumulator = struct.unpack_from("<I", call, value)[0]
                case 0x54:
                    accumulator &= value
                case 0x06:
                    return value
                case _:
                    tests = {
                        0x15: accumulator == value,
                        0x25: accumulator > value,
                        0x35: accumulator >= value,
                        0x45: bool(accumulator & value),
                    }
                    position += if_true if tests[code] else if_false


@pytest.mark.parametrize("machine", HEADERS)
def test_the_numbers_of_system_calls_are_the_kernels(machine: str) -> None:
    if not HEADERS[machine].exists():
        if machine == "x86_64" != os.uname().machine:
            pytest.skip("the headers of x86 come with machines of x86 only")
        skip_outside_ci("the kernel's headers (linux-libc-dev) are not installed")
    text = HEADERS[machine].read_text(encoding="utf-8")
    known = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text)}
    numbers = numbers_for(machine)
    newer = {name: number for name, number in numbers.items() if number > max(known.values())}
    assert {name: known[name] for name in numbers if name not in newer} | newer == numbers
    assert max(numbers.values()) <= LAST_KNOWN


@pytest.mark.parametrize("machine", HEADERS)
def test_a_filter_refuses_the_same_on_every_architecture(machine: str) -> None:
    here = Filter(machine)
    assert here.on("ptrace") == here.on("io_uring_setup") == here.on("unshare") == refused(errno.EPERM)
    assert here.on("clone3") == here.on_number(LAST_KNOWN + 1) == refused(errno.ENOSYS)
    assert here.on("socket", 2, 1) == refused(errno.EACCES)
    assert (here.on("clone", 0x1200011), here.on("clone", 0x10000011)) == (ALLOWED, refused(errno.EPERM))
    assert (here.on("prlimit64", 0), here.on("prlimit64", 77)) == (ALLOWED, refused(errno.EPERM))
    priorities = [here.on("setpriority", *arguments) for arguments in ((0, 0), (0, 77), (2, 0))]
    assert priorities == [ALLOWED, refused(errno.EPERM), refused(errno.EPERM)]
    assert here.on("ioctl", 0, 0x5412) == refused(errno.EPERM)
    assert here.on("ioctl", 0, 0x5401) == here.on("kill", 1, 9) == here.on("openat", 3, 0, 0o1000) == ALLOWED
    assert here.on_number(0, architecture=0x40000003) == KILLED
    assert here.on_number(0x40000000 + 41) == KILLED


@pytest.mark.parametrize("machine", HEADERS)
def test_the_web_is_tcp_only_and_everything_adds_datagrams(machine: str) -> None:
    calls = {
        "tcp": (2, 0o2000001),
        "tcp6": (10, 1),
        "udp": (2, 2),
        "raw": (2, 3),
        "mptcp": (2, 1, 262),
        "sctp": (2, 1, 132),
        "smc": (10, 1, 256),
        "udp-lite": (2, 2, 136),
        "tcp by name": (10, 0o4001, 6),
        "local": (1, 1),
        "netlink": (16, 3),
    }
    web, everything = Filter(machine, network="web"), Filter(machine, network="all")
    assert {name for name, call in calls.items() if web.on("socket", *call) == ALLOWED} == {
        "tcp",
        "tcp6",
        "tcp by name",
    }
    allowed = {name for name, call in calls.items() if everything.on("socket", *call) == ALLOWED}
    assert allowed == {"tcp", "tcp6", "tcp by name", "udp"}
    assert web.on("socket", 2, 1, 262) == everything.on("socket", 2, 1, 262) == refused(errno.EPROTONOSUPPORT)


@pytest.mark.parametrize("machine", HEADERS)
def test_the_web_has_one_way_to_connect_and_none_to_serve(machine: str) -> None:
    web, everything = Filter(machine, network="web"), Filter(machine, network="all")
    fast_open = {
        "sendto": (3, 0, 0, 0x20000000),
        "sendmsg": (3, 0, 0x20004000),
        "sendmmsg": (3, 0, 1, 0x20000000),
    }
    for name, arguments in fast_open.items():
        assert web.on(name, *arguments) == refused(errno.EOPNOTSUPP)
        assert everything.on(name, *arguments) == web.on(name, 3, 0, 0, 0) == ALLOWED
    assert web.on("bind", 3) == web.on("listen", 3) == refused(errno.EACCES)
    assert everything.on("bind", 3) == everything.on("listen", 3) == ALLOWED
    options = {
        "nodelay": (6, 1),
        "fastopen connect": (6, 30),
        "ulp": (6, 31),
        "repair": (6, 19),
        "new": (6, 99),
    }
    options |= {"keepalive": (1, 9), "v6only": (41, 26), "of mptcp": (284, 1), "of udp": (17, 1)}
    allowed = {name for name, option in options.items() if web.on("setsockopt", 3, *option) == ALLOWED}
    assert allowed == {"nodelay", "keepalive", "v6only"}


@pytest.mark.parametrize("machine", HEADERS)
@pytest.mark.parametrize("network", ["none", "web", "all"])
def test_of_pairs_only_local_streams_are_made(machine: str, network: str) -> None:
    here = Filter(machine, network=network)
    kinds = [(1, 0o2000001), (1, 2), (1, 5), (16, 3), (30, 1)]
    assert [here.on("socketpair", *kind) == ALLOWED for kind in kinds] == [True, False, False, False, False]


@pytest.mark.parametrize("machine", HEADERS)
@pytest.mark.parametrize("landlock_abi", [1, 5, 7])
def test_no_file_is_leased(machine: str, landlock_abi: int) -> None:
    here = Filter(machine, landlock_abi=landlock_abi)
    assert here.on("fcntl", 3, 1024) == here.on("fcntl", 3, 1026) == refused(errno.EINVAL)
    assert here.on("fcntl", 3, 1030) == here.on("fcntl", 3, 6) == ALLOWED


@pytest.mark.parametrize("machine", HEADERS)
@pytest.mark.parametrize("landlock_abi", [0, 2, 7])
def test_no_file_is_set_to_run_as_its_owner(machine: str, landlock_abi: int) -> None:
    here = Filter(machine, landlock_abi=landlock_abi)
    creating, temporary, reading = 0o101, 0o20200002, 0o0
    calls = {"fchmod": (3,), "fchmodat": (3, 0), "fchmodat2": (3, 0), "mknodat": (3, 0)}
    if machine == "x86_64":
        calls |= {"chmod": (0,), "creat": (0,), "mknod": (0,)}
    for mode in (0o4755, 0o4000, 0o2755, 0o2001, 0o6000, 0o104755, 0o102775):
        assert {here.on(name, *before, mode) for name, before in calls.items()} == {refused(errno.EPERM)}
        for flags in (creating, temporary):
            assert here.on("openat", 3, 0, flags, mode) == refused(errno.EPERM)
    for mode in (0o755, 0o1777, 0o100644, 0, 0o2770, 0o102750, 0o2000):
        assert {here.on(name, *before, mode) for name, before in calls.items()} == {ALLOWED}
        assert here.on("openat", 3, 0, creating, mode) == ALLOWED
    assert here.on("openat", 3, 0, reading, 0o6000) == ALLOWED  # not a mode: nothing is made
    assert here.on("openat2") == refused(errno.ENOSYS)  # its mode is out of sight


@pytest.mark.parametrize("machine", HEADERS)
def test_without_scopes_nothing_older_than_the_supervisor_can_be_signalled(machine: str) -> None:
    old = Filter(machine, landlock_abi=5)
    older = [1, SUPERVISOR - 1, SUPERVISOR, -1, -SUPERVISOR]
    assert {old.on("kill", pid, 9) for pid in older} == {refused(errno.EPERM)}
    assert {old.on("kill", pid, 9) for pid in (0, SUPERVISOR + 1, -SUPERVISOR - 1)} == {ALLOWED}
    assert old.on("fcntl", 3, 8) == old.on("fcntl", 3, 10) == refused(errno.EPERM)
    assert old.on("fcntl", 3, 2) == ALLOWED


@pytest.mark.parametrize("machine", HEADERS)
def test_before_landlock_3_files_cannot_be_emptied_without_the_right_to_write(machine: str) -> None:
    old = Filter(machine, landlock_abi=2)
    assert old.on("truncate") == old.on("openat", 3, 0, 0o1000) == refused(errno.EPERM)
    assert old.on("openat", 3, 0, 0o101, 0o4755) == refused(errno.EPERM)
    assert old.on("openat", 3, 0, 0o1001) == old.on("openat", 3, 0, 0) == ALLOWED


def test_an_unknown_architecture_has_no_filter() -> None:
    assert filter_for("riscv64", network="none", landlock_abi=7, supervisor=0) == b""


def test_the_zygote_loads_little() -> None:
    zygote = Path(stigmer_isolation.zygote.__file__).with_name("main.py")
    script = (
        "import runpy, sys; runpy.run_path(sys.argv[1]); print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-E", "-c", script, str(zygote)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    loaded = set(done.stdout.split())
    assert "stigmer_isolation" in loaded
    assert not loaded & {"asyncio", "dataclasses", "inspect", "pathlib", "pydantic", "pydantic_ai", "psutil"}
