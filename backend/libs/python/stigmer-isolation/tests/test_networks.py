"""What each network lets a command reach: what it grants, with real programs, and nothing else by any way."""

import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import AsyncGenerator, Generator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import get_args

import pytest
import trustme

from bubblewrap import working_bubblewrap
from forward_proxy import ForwardProxy
from needed import skip_outside_ci
from stigmer_isolation.command_environment import command_environment
from stigmer_isolation.command_policy import command_policy
from stigmer_isolation.launcher import CommandLauncher, CommandResult
from stigmer_isolation.self_test import IsolationLevel, measure_isolation, probe_networks
from stigmer_isolation.web_access import WebAccess
from stigmer_isolation.zygote.landlock import PORTS_ABI, abi_version
from stigmer_isolation.zygote.policy import Network, Policy
from tls_front import TlsFront

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux can isolate commands"),
    pytest.mark.skipif(
        abi_version() < PORTS_ABI and not os.environ.get("CI"), reason="this kernel is too old to test"
    ),
]

INSTALLED_PYTHON = os.path.realpath(sys.executable)
"""With pip, where the environment of the tests has none."""
NETWORKS: tuple[Network, ...] = get_args(Network)
WAYS = {
    "this kernel": (abi_version(), False),
    "in bubblewrap": (abi_version(), True),
    "as Linux 6.7": (PORTS_ABI, False),
}
COMMAND_SECONDS = 60.0


@pytest.fixture(params=WAYS)
async def launcher(request: pytest.FixtureRequest) -> AsyncGenerator[CommandLauncher]:
    abi, in_bubblewrap = WAYS[request.param]
    policy = command_policy(os.environ["PATH"])._replace(landlock_abi=abi)
    async with CommandLauncher(command_environment(os.environ), policy=policy) as launcher:
        launcher.bubblewrap = working_bubblewrap() if in_bubblewrap else None
        yield launcher


async def run(launcher: CommandLauncher, directory: Path, script: str, network: Network) -> CommandResult:
    """Run a shell script as a command."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return await launcher.run(
            ["bash", "-c", script],
            directory=opened,
            environment={
                "HOME": str(directory),
                "PYTHON": sys.executable,
                "INSTALLED_PYTHON": INSTALLED_PYTHON,
            },
            timeout_seconds=COMMAND_SECONDS,
            network=network,
        )
    finally:
        os.close(opened)


# --- nothing more ------------------------------------------------------------------------------


async def test_no_known_way_leads_past_a_network(launcher: CommandLauncher) -> None:
    assert await probe_networks(launcher, NETWORKS) == {"none": [], "web": [], "all": []}


async def test_the_ways_do_lead_somewhere_without_isolation() -> None:
    async with CommandLauncher(policy=Policy()) as launcher:
        found = await probe_networks(launcher, ["web"])
    ways = {name.partition(",")[0] for name in found["web"]}
    always = {"connect with TCP", "listen without bind", "listen after bind", "send a datagram"}
    always |= {"make a local socket", "make a pair of datagram sockets", "bind a pair's socket"}
    assert ways >= always
    if Path("/proc/sys/net/mptcp/enabled").exists():  # noqa: ASYNC240 - not a disk's
        assert ways >= {"connect with MPTCP", "listen with MPTCP", "listen with MPTCP after bind"}
    assert ways >= {f"fast open by {call}" for call in ("connect", "sendto", "sendmsg", "sendmmsg")}


async def test_a_web_that_only_landlock_holds_is_no_isolation() -> None:
    policy = command_policy(os.environ["PATH"])._replace(has_seccomp=False)
    async with CommandLauncher(policy=policy) as launcher:
        found = await measure_isolation(launcher)
    assert found.level is IsolationLevel.NONE
    assert "a command could send a datagram, IPv4, under `network: web`" in found.findings


EVERYTHING = """
import ctypes, json, os, sys
libc = ctypes.CDLL(None)
made = []
for family in range(64):
    for kind in range(16):
        for protocol in range(264) if family in (0, 2, 10) else range(40):
            descriptor = libc.socket(family, kind, protocol)
            if descriptor >= 0:
                made.append((family, kind, protocol))
                os.close(descriptor)
pairs, ends = [], (ctypes.c_int * 2)()
for family in range(64):
    for kind in range(16):
        if libc.socketpair(family, kind, 0, ends) == 0:
            pairs.append((family, kind))
            os.close(ends[0]), os.close(ends[1])
print(json.dumps([made, pairs]))
"""
TCP_SOCKETS = [[family, 1, protocol] for family in (2, 10) for protocol in (0, 6)]
UDP_SOCKETS = [[family, 2, protocol] for family in (2, 10) for protocol in (0, 17)]


@pytest.mark.parametrize("network", NETWORKS)
async def test_of_all_sockets_that_the_kernel_offers_only_the_granted_are_made(
    network: Network, launcher: CommandLauncher, tmp_path: Path
) -> None:
    (tmp_path / "everything.py").write_text(EVERYTHING, encoding="utf-8")
    done = await run(launcher, tmp_path, '"$PYTHON" everything.py', network)
    granted = {"none": [], "web": TCP_SOCKETS, "all": sorted(TCP_SOCKETS + UDP_SOCKETS)}
    assert done.stdout == f"[{granted[network]}, [[1, 1]]]\n", done.stderr


# --- what is granted ---------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    return authority


@pytest.fixture
def served(tmp_path: Path) -> Generator[tuple[Path, int]]:
    """A directory and the port where it is served without TLS, out of a command's reach."""
    directory = tmp_path / "served"
    directory.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            """Tests print enough."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(directory)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield directory, server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def make_package_index(directory: Path) -> None:
    """An index with one package of nothing."""
    package = directory / "simple/nothing"
    package.mkdir(parents=True)
    wheel = package / "nothing-1.0-py3-none-any.whl"
    files = {
        "nothing.py": "",
        "nothing-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: nothing\nVersion: 1.0\n",
        "nothing-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "nothing-1.0.dist-info/RECORD": "",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    (package / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')


def make_repository(directory: Path) -> None:
    """A repository that can be cloned from a server that only serves files."""
    script = """
    git init -q -b main origin && cd origin && echo here >file && git add file
    git -c user.name=a -c user.email=a@b commit -q -m one && git update-server-info
    """
    subprocess.run(["sh", "-ec", script], cwd=directory, check=True, timeout=COMMAND_SECONDS)


def has_pip() -> bool:
    """Whether there is something to try."""
    return subprocess.run([INSTALLED_PYTHON, "-m", "pip", "--version"], check=False).returncode == 0


PIP = '"$INSTALLED_PYTHON" -m pip download -q --isolated --no-cache-dir --no-deps --cert authority.pem'


@pytest.mark.parametrize("through_proxy", [False, True], ids=["directly", "through a proxy"])
async def test_packages_are_downloaded_and_repositories_cloned_over_https(
    through_proxy: bool, served: tuple[Path, int], authority: trustme.CA, tmp_path: Path
) -> None:
    directory, plain_port = served
    make_package_index(directory)
    make_repository(directory)
    if not has_pip():
        skip_outside_ci("this Python came without pip")
    with TlsFront(plain_port, authority) as front, ForwardProxy("127.0.0.1", lambda: None) as proxy:
        web = WebAccess((proxy.port,), proxy.url) if through_proxy else WebAccess((front.port,))
        async with CommandLauncher(command_environment(os.environ), web=web) as launcher:
            url = f"https://127.0.0.1:{front.port}"
            trust = "export GIT_SSL_CAINFO=$PWD/authority.pem"
            git = "git -c http.version=HTTP/1.1 -c http.proxyAuthMethod=basic"
            clone = f"{git} clone -q {url}/origin/.git clone && cat clone/file"
            script = f"{trust}; {PIP} -i {url}/simple nothing && {clone}"
            done = await run(launcher, tmp_path, script, "web")
            refused = await run(launcher, tmp_path, f"exec 3<>/dev/tcp/127.0.0.1/{plain_port}", "web")
        assert (done.exit_code, done.stdout) == (0, "here\n"), done.stderr
        assert (tmp_path / "nothing-1.0-py3-none-any.whl").exists()
        assert refused.exit_code != 0
        assert ("127.0.0.1" in proxy.hosts) == through_proxy


# As Go's net package does (dialMPTCP of net/mptcpsock_linux.go, Go 1.24): any error of MPTCP means TCP.
AS_GO_DOES = r"""
import errno, socket, sys
address = ("127.0.0.1", int(sys.argv[1]))
try:
    one = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
    one.connect(address)
except OSError as error:
    assert error.errno == errno.EPROTONOSUPPORT, error  # what its probe at start takes for "not there"
    one = socket.create_connection(address)
one.sendall(b"GET /file HTTP/1.0\r\n\r\n")
print(one.makefile().read().splitlines()[-1])
"""


async def test_programs_that_prefer_other_ways_fall_back_to_tcp(
    launcher: CommandLauncher, served: tuple[Path, int], tmp_path: Path
) -> None:
    directory, port = served
    (directory / "file").write_text("here\n", encoding="utf-8")
    (tmp_path / "as_go_does.py").write_text(AS_GO_DOES, encoding="utf-8")
    launcher.web = WebAccess((port,))
    script = f"""
    "$PYTHON" as_go_does.py {port}
    curl -sS --tcp-fastopen http://127.0.0.1:{port}/file
    curl -sS --tcp-nodelay --keepalive-time 5 http://127.0.0.1:{port}/file
    """
    done = await run(launcher, tmp_path, script, "web")
    assert done.stdout == "here\nhere\nhere\n", done.stderr
