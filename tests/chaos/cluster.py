"""What the faults meet: PostgreSQL, Temporal, two servers and three runners, with a link between each pair.

Programs that end are started again, as a supervisor would. Knows how to break each of them, not when.
"""

import asyncio
import contextlib
import os
import secrets
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import httpx
import psutil

from chaos.clocks import Clock, build_library
from chaos.links import LOOPBACK, Network
from chaos.plan import CLIENT, MODEL, POSTGRES, RUNNERS, SERVERS, TEMPORAL
from chaos.programs import OwnProgram, Program, Runner, is_gone
from model_server import VALID_KEY
from postgres_server import PostgresServer
from temporal_server import TemporalServer, free_port

START_AGAIN_SECONDS: Final = 1.0
STOP_TIMEOUT_SECONDS: Final = 30.0
TELL_TIMEOUT_SECONDS: Final = 5.0
TELL_FOR_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.1


class Cluster:
    """All of it. A context manager; `start` comes after."""

    def __init__(
        self, home: Path, postgres: PostgresServer, network: Network, model_port: int, blobs: Path
    ) -> None:
        """Starts nothing yet. `postgres` runs already; `home` gets everything else."""
        self.home = home
        self.network = network
        self.token = secrets.token_hex(16)
        self.runner_token = secrets.token_hex(16)
        self.postgres = postgres
        self.temporal = TemporalServer(home / "temporal.db")
        self.database_url = asyncio.run(postgres.create_database())
        self._blobs = blobs
        self._clock_library = build_library(home)
        self._server_ports = {name: free_port() for name in SERVERS}
        self._health_ports = {name: free_port() for name in RUNNERS}
        self.client_link = network.link(f"{CLIENT}>servers", *self._server_ports.values())
        self.servers = {name: self._make_server(name) for name in SERVERS}
        self.runners = {name: self._make_runner(name, model_port) for name in RUNNERS}
        self.programs: dict[str, Program] = {
            POSTGRES: postgres,
            TEMPORAL: self.temporal,
            **self.servers,
            **self.runners,
        }
        self._frozen: dict[str, list[psutil.Process]] = {}
        self._ending = threading.Event()
        self._keepers: list[threading.Thread] = []
        self._telling = ThreadPoolExecutor(4, thread_name_prefix="teller")
        self._locks = {name: threading.RLock() for name in self.programs}

    @property
    def can_move_clocks(self) -> bool:
        """Whether this machine has what that takes."""
        return self._clock_library is not None

    @property
    def workspace_root(self) -> Path:
        """Where sessions get their directories."""
        return self.home / "workspaces"

    @property
    def endpoint(self) -> str:
        """Of the servers, over the link of clients."""
        return f"http://{LOOPBACK}:{self.client_link.port}"

    def direct_endpoint(self, server: str = SERVERS[0]) -> str:
        """Of one server, past all links."""
        return f"http://{LOOPBACK}:{self._server_ports[server]}"

    # --- what befalls it ------------------------------------------------------------------------

    def kill(self, name: str, *, tells: bool = False) -> None:
        """kill -9; `tells`: whoever started the runner says so to a server."""
        with self._locks[name]:
            runner = self.runners.get(name)
            identity, proof = ("", "") if runner is None else (runner.identity, runner.proof)
            self.programs[name].kill()
            self.thaw(name)  # what it leaves
        if tells:
            self._telling.submit(self._tell, identity, proof)

    def restart(self, name: str) -> None:
        """End it in good order; its keeper starts it again."""
        with self._locks[name]:
            self.thaw(name)
            self.programs[name].stop()

    def kill_all(self) -> None:
        """kill -9 of everything at once, as a power cut does."""
        with ThreadPoolExecutor(len(self.programs)) as threads:
            list(threads.map(self.kill, self.programs))

    def freeze(self, name: str) -> None:
        """SIGSTOP, for all of its processes."""
        with self._locks[name]:
            pid = self.programs[name].pid
            if pid is None or name in self._frozen:
                return
            with contextlib.suppress(psutil.NoSuchProcess):
                main = psutil.Process(pid)
                self._frozen[name] = [main, *main.children(recursive=True)]
            self._signal_frozen(name, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """SIGCONT."""
        with self._locks[name]:
            if name in self._frozen:
                self._signal_frozen(name, signal.SIGCONT)
                del self._frozen[name]

    def set_clock(self, name: str, seconds: float) -> None:
        """Let the wall clock of a server or runner differ by so much."""
        (self.servers | self.runners)[name].clock.set(seconds)

    def _signal_frozen(self, name: str, signal_number: signal.Signals) -> None:
        for process in self._frozen[name]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal_number)

    def _tell(self, identity: str, proof: str) -> None:
        """What a supervisor says, as often as it takes."""
        body = {"runner": identity, "proof": proof, "how": "it was ended by signal 9"}
        headers = {"Authorization": f"Bearer {self.runner_token}"}
        give_up_at = time.monotonic() + TELL_FOR_SECONDS
        while time.monotonic() < give_up_at and not self._ending.is_set():
            with contextlib.suppress(httpx.TransportError):
                url = f"{self.endpoint}/v1/runners/ended"
                if httpx.post(url, json=body, headers=headers, timeout=TELL_TIMEOUT_SECONDS).is_success:
                    return
            time.sleep(_POLL_SECONDS)

    # --- life -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start everything, wait until it is ready, and keep it running from now on."""
        self.temporal.start()
        for program in (*self.servers.values(), *self.runners.values()):
            program.start()
        self.wait_until_ready()
        for name in self.programs:
            keeper = threading.Thread(target=self._keep, args=(name,), name=f"keeper of {name}", daemon=True)
            self._keepers.append(keeper)
            keeper.start()

    def wait_until_ready(self) -> None:
        """Wait until each server and each runner says so."""
        urls = {name: f"{self.direct_endpoint(name)}/readyz" for name in SERVERS}
        urls |= {name: f"http://{LOOPBACK}:{self._health_ports[name]}/readyz" for name in RUNNERS}
        for name, url in urls.items():
            (self.servers | self.runners)[name].wait_until_ready(url)

    def heal(self) -> None:
        """Take all faults back: nothing is frozen, no link is broken, all clocks are right."""
        for name in self.programs:
            self.thaw(name)
        for name in (*SERVERS, *RUNNERS):
            self.set_clock(name, 0.0)
        self.network.heal()

    def stop(self) -> None:
        """End everything, in good order where that is possible."""
        self._ending.set()
        for name in self.programs:
            self.thaw(name)
        for keeper in self._keepers:
            keeper.join(STOP_TIMEOUT_SECONDS)
        self._telling.shutdown(cancel_futures=True)
        with ThreadPoolExecutor(len(self.programs)) as threads:
            list(threads.map(OwnProgram.stop, self.runners.values()))
            list(threads.map(OwnProgram.stop, self.servers.values()))
        self.temporal.stop()

    def processes(self) -> list[psutil.Process]:
        """Every process that has anything to do with the home: programs, commands, whatever they left."""
        found: list[psutil.Process] = []
        own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, OSError):
                if process.pid in own or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                mentions = [*process.cmdline(), *process.environ().values(), process.cwd()]
                if any(str(self.home) in text for text in mentions):
                    found.append(process)
        return found

    def _keep(self, name: str) -> None:
        """Start a program again whenever it has ended."""
        program = self.programs[name]
        while not self._ending.wait(_POLL_SECONDS):
            with self._locks[name]:
                has_ended = is_gone(program)
            if not has_ended or self._ending.wait(START_AGAIN_SECONDS):
                continue
            with self._locks[name], contextlib.suppress(RuntimeError):  # it is tried again
                if is_gone(program) and not self._ending.is_set():
                    self._frozen.pop(name, None)
                    program.start()

    def _clock(self, name: str) -> Clock:
        return Clock(self.home / "clocks" / name, self._clock_library)

    def _make_server(self, name: str) -> OwnProgram:
        postgres = self.network.link(f"{name}>{POSTGRES}", self.postgres.port)
        temporal = self.network.link(f"{name}>{TEMPORAL}", self.temporal.port)
        own_home = self.home / name
        own_home.mkdir()
        environment = {
            "STIGMER_HOME": str(own_home),
            "STIGMER_PORT": str(self._server_ports[name]),
            "STIGMER_TOKEN": self.token,
            "STIGMER_RUNNER_TOKEN": self.runner_token,
            "STIGMER_DATABASE_URL": self.database_url.replace(
                f":{self.postgres.port}/", f":{postgres.port}/"
            ),
            "STIGMER_BLOB_DIR": str(self._blobs),
            "TEMPORAL_SERVICE_ADDRESS": f"{LOOPBACK}:{temporal.port}",
        }
        return OwnProgram(
            name, self.home, self._clock(name), [sys.executable, "-m", "stigmer_server"], environment
        )

    def _make_runner(self, name: str, model_port: int) -> Runner:
        servers = self.network.link(f"{name}>servers", *self._server_ports.values())
        temporal = self.network.link(f"{name}>{TEMPORAL}", self.temporal.port)
        model = self.network.link(f"{name}>{MODEL}", model_port)
        environment = {
            "MODE": "local",
            "TEMPORAL_SERVICE_ADDRESS": f"{LOOPBACK}:{temporal.port}",
            "STIGMER_BACKEND_ENDPOINT": f"http://{LOOPBACK}:{servers.port}",
            "STIGMER_TOKEN": self.runner_token,
            "SANDBOX_ROOT_DIR": str(self.workspace_root),
            "STIGMER_HEALTH_PORT": str(self._health_ports[name]),
            "STIGMER_LLM_PROVIDER": "openai",
            "STIGMER_LLM_MODEL": "gpt-5",
            "STIGMER_LLM_BASE_URL": f"http://{LOOPBACK}:{model.port}/{name}/v1",
            "OPENAI_API_KEY": VALID_KEY,
        }
        return Runner(name, self.home, self._clock(name), environment)
