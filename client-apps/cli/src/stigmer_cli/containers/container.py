"""A container in its three states: known, created, running. What it shall be is said by its spec."""

import contextlib
import struct
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from stigmer_cli.containers.api import EngineApi, Json, Stream
from stigmer_cli.containers.errors import ContainerNotFound, EngineGone, EngineRefused

_NOT_FOUND, _CONFLICT = 404, 409
_STOP_SLACK_SECONDS = 20.0
"""Beyond the container's own grace: the engines take their time to clean up."""
_REMOVE_SECONDS = 60.0
"""Podman's `vfs` storage copies whole images, and takes long to remove a copy."""
_REMOVE_POLL_SECONDS = 0.1
_LOOK_AGAIN_SECONDS = 5.0
_HEADER = struct.Struct(">BxxxI")
"""Before each piece of output: which stream, and how many bytes (Docker Engine API 1.41, "Stream format")."""


@dataclass(frozen=True)
class ExitState:
    """How a container ended."""

    exit_code: int
    was_out_of_memory: bool
    """False also where the engine did not notice, as Podman 4.3 on cgroup v1."""
    error: str
    """Why the engine could not run it; mostly empty."""


@dataclass(frozen=True)
class ContainerState:
    """What `inspect` tells, as far as both engines tell it alike."""

    is_running: bool
    exit: ExitState
    image_id: str
    labels: dict[str, str]
    started_at: str
    """RFC 3339; of a container that never ran, year 1."""


@dataclass(frozen=True)
class Usage:
    """What a container uses now."""

    cpu_seconds: float
    """Since it started."""
    memory_bytes: int


@dataclass(frozen=True)
class Container:
    """A container of an engine, in whatever state."""

    api: EngineApi
    container_id: str
    name: str

    def inspect(self) -> ContainerState:
        """How it is now.

        Raises:
            ContainerNotFound: it is no more.
        """
        document = cast("Json", self._call("inspect", "GET", "/json"))
        state = cast("Json", document["State"])
        return ContainerState(
            is_running=bool(state["Running"]),
            exit=ExitState(int(state["ExitCode"]), bool(state["OOMKilled"]), str(state.get("Error") or "")),
            image_id=str(document["Image"]),
            labels=dict(document["Config"].get("Labels") or {}),
            started_at=str(state["StartedAt"]),
        )

    def stop(self, grace_seconds: int) -> None:
        """Asks it to end, and kills it after the grace; does nothing where it has ended or is no more."""
        try:
            self._call(
                "stop",
                "POST",
                "/stop",
                query={"t": str(grace_seconds)},
                timeout_seconds=grace_seconds + _STOP_SLACK_SECONDS,
            )
        except ContainerNotFound:
            return

    def send_signal(self, name: str) -> None:
        """Sends its first process a signal, such as `SIGUSR1`; does nothing where it has ended."""
        with contextlib.suppress(ContainerNotFound, EngineRefused):
            self._call("signal", "POST", "/kill", query={"signal": name})

    def remove(self) -> None:
        """Ends it at once where it runs, and removes it with its anonymous volumes; idempotent.

        Raises:
            EngineRefused, EngineGone: it may still be there.
        """
        deadline = time.monotonic() + _REMOVE_SECONDS
        while True:
            try:
                query = {"force": "true", "v": "true"}
                self._call("remove", "DELETE", "", query=query, timeout_seconds=_REMOVE_SECONDS)
                return
            except ContainerNotFound:
                return
            except EngineRefused as error:
                if error.status != _CONFLICT or time.monotonic() > deadline:
                    raise
                time.sleep(_REMOVE_POLL_SECONDS)  # somebody else is removing it

    @contextmanager
    def logs(self, *, follow: bool = False, tail: int | None = None) -> Generator["OutputStream"]:
        """What it wrote, also after its end; `follow` goes on until then, and does not wait for a first word.

        Raises:
            ContainerNotFound: it is no more.
        """
        query = {
            "stdout": "true",
            "stderr": "true",
            "follow": str(follow).lower(),
            "tail": "all" if tail is None else str(tail),
        }
        path = f"/containers/{self.container_id}/logs"
        try:
            what = f"read the logs of {self.name!r}"
            with self.api.stream(what, "GET", path, query=query, is_opened=not follow) as stream:
                yield OutputStream(stream)
        except EngineRefused as error:
            raise self._translate(error) from error

    def wait(self) -> ExitState:
        """Waits for its end, however long.

        Raises:
            ContainerNotFound: it is no more.
        """
        while True:
            try:
                self._call("wait for", "POST", "/wait", timeout_seconds=_LOOK_AGAIN_SECONDS)
            except EngineGone:
                # Podman 4.3 says nothing where the container was removed meanwhile: looking tells.
                if self.inspect().is_running:
                    continue
            return self.inspect().exit

    def _call(
        self,
        verb: str,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: Json | None = None,
        timeout_seconds: float | None = 30.0,
    ) -> Any:
        try:
            return self.api.call(
                f"{verb} the container {self.name!r}",
                method,
                f"/containers/{self.container_id}{path}",
                query=query,
                body=body,
                timeout_seconds=timeout_seconds,
            )
        except EngineRefused as error:
            raise self._translate(error) from error

    def _translate(self, error: EngineRefused) -> Exception:
        return ContainerNotFound(self.name) if error.status == _NOT_FOUND else error


@dataclass(frozen=True)
class CreatedContainer(Container):
    """A container that has not run yet."""

    def start(self) -> "RunningContainer":
        """Starts it.

        Raises:
            EngineRefused: the engine could not, and says why.
        """
        self._call("start", "POST", "/start")
        return RunningContainer(self.api, self.container_id, self.name)


@dataclass(frozen=True)
class RunningContainer(Container):
    """A container that was started."""

    def usage(self, timeout_seconds: float) -> Usage | None:
        """What it uses now; None where it has ended or the engine cannot tell."""
        query = {"stream": "false", "one-shot": "true"}
        answer = self._call("measure", "GET", "/stats", query=query, timeout_seconds=timeout_seconds)
        if not isinstance(answer, dict):  # Podman's `null`, of one that is just ending
            return None
        document = cast("Json", answer)
        memory = cast("Json", document.get("memory_stats") or {})
        processor = cast("Json", document.get("cpu_stats") or {})
        total = cast("Json", processor.get("cpu_usage") or {}).get("total_usage")
        if total is None or "usage" not in memory:
            return None
        details = cast("Json", memory.get("stats") or {})
        # As `docker stats` does: the page cache that can be dropped is nobody's use.
        cache = int(details.get("total_inactive_file", details.get("inactive_file", 0)))
        return Usage(int(total) / 1e9, max(0, int(memory["usage"]) - cache))

    def execute(self, arguments: Sequence[str], *, user: str | None = None) -> tuple[int, bytes]:
        """Runs a program in it, to its end; answers its exit code and what it wrote.

        Raises:
            ContainerNotFound: it is no more.
        """
        body: Json = {"Cmd": list(arguments), "AttachStdout": True, "AttachStderr": True}
        if user is not None:
            body["User"] = user
        execution = str(cast("Json", self._call("run a program in", "POST", "/exec", body=body))["Id"])
        what = f"run a program in {self.name!r}"
        start: Json = {"Detach": False, "Tty": False}
        with self.api.stream(what, "POST", f"/exec/{execution}/start", body=start) as stream:
            output = b"".join(piece for _, piece in OutputStream(stream).pieces())
        ended = cast("Json", self.api.call(what, "GET", f"/exec/{execution}/json"))
        return int(ended["ExitCode"]), output


class OutputStream:
    """What a program in a container wrote, both streams in the order in which they came."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """Pieces with the stream they were written to: 1 stdout, 2 stderr."""
        while (header := self._stream.read_exactly(_HEADER.size)) is not None:
            number, count = _HEADER.unpack(header)
            piece = self._stream.read_exactly(count)
            if piece is None:
                return
            yield number, piece

    def copy_to(self, write: Callable[[bytes], object]) -> threading.Thread:
        """Copies all of it in a thread of its own, until its end or `close`."""
        thread = threading.Thread(target=lambda: [write(piece) for _, piece in self.pieces()], daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        """Ends it; from any thread."""
        self._stream.close()
