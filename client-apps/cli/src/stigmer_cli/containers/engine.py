"""An engine that answers: what it is, what it can do, and its containers. Finding one is `finding`'s work."""

import os
import platform
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import cast

from stigmer_cli.containers.api import EngineApi, Json
from stigmer_cli.containers.container import Container, CreatedContainer
from stigmer_cli.containers.errors import EngineRefused, EngineUnusable, MountRefused, NameTaken
from stigmer_cli.containers.images import Images
from stigmer_cli.containers.specs import ContainerSpec, check_mounts, render_creation

_BAD_REQUEST, _CONFLICT, _SERVER_ERROR = 400, 409, 500


class EngineKind(StrEnum):
    """The engines that are known."""

    DOCKER = "docker"
    PODMAN = "podman"


@dataclass(frozen=True)
class EngineTraits:
    """What the engine said of itself, once."""

    kind: EngineKind
    version: str
    api_version: str
    """The newest that it speaks, such as `1.41`."""
    architecture: str
    """As Go names it, such as `amd64`."""
    is_rootless: bool
    """It runs as this user, who is root only inside of its containers."""
    is_virtual: bool
    """It runs in a virtual machine of its own, so `host` network is not this machine's."""
    has_limits: bool
    """Whether it can limit memory and processes; rootless on cgroup v1 it cannot."""
    has_selinux: bool = False
    """Its containers reach only those files of this machine that are labelled for them."""

    @property
    def title(self) -> str:
        """As a person reads it: `rootless Podman 4.3.1`."""
        return f"{'rootless ' * self.is_rootless}{self.kind.value.capitalize()} {self.version}"

    @property
    def gateway_name(self) -> str:
        """The name by which a container of a virtual engine reaches this machine's loopback."""
        is_docker = self.kind is EngineKind.DOCKER
        return "host.docker.internal" if is_docker else "host.containers.internal"


@dataclass(frozen=True)
class Engine:
    """An engine that answers. Use it as a context manager: an API service started for it ends with it."""

    api: EngineApi
    traits: EngineTraits
    end_service: Callable[[], None] = field(default=lambda: None, repr=False)
    passed_over: EngineUnusable | None = None
    """Why it is not the one whose address the person has named."""

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.end_service()

    @property
    def images(self) -> Images:
        """The engine's images."""
        return Images(self.api, self.traits.kind.value)

    def check_answers(self, timeout_seconds: float) -> None:
        """See that it answers at all: one that hangs is found out soon, before calls that may take long.

        Raises:
            EngineGone: it does not, in time.
            EngineRefused: it answers with an error.
        """
        self.api.headers("ask the engine whether it is there", "/_ping", timeout_seconds)

    def read_clock(self) -> datetime:
        """What time it is where containers run.

        Raises:
            ValueError: it does not tell.
        """
        information = cast("Json", self.api.call("ask the engine for the time", "GET", "/info"))
        text = str(information.get("SystemTime", ""))
        # RFC 3339 with nanoseconds, which Python 3.11 does not read.
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))

    def create(self, spec: ContainerSpec) -> CreatedContainer:
        """Makes a container, which does not run yet.

        Raises:
            MountRefused: a mount's source is not there. (Podman would make it.)
            NameTaken: another container has the name.
            EngineRefused: anything else, such as a missing image (404).
        """
        check_mounts(spec.mounts)
        body = render_creation(spec, has_limits=self.traits.has_limits)
        what = f"create the container {spec.name!r}"
        try:
            answer = cast(
                "Json",
                self.api.call(what, "POST", "/containers/create", query={"name": spec.name}, body=body),
            )
        except EngineRefused as error:
            raise self._explain_refusal(spec, error) from error
        return CreatedContainer(self.api, str(answer["Id"]), spec.name)

    def find_containers(self, labels: Mapping[str, str]) -> list[Container]:
        """The containers, running or not, that carry all the labels; newest first."""
        import json

        filters = {"label": [f"{name}={value}" for name, value in labels.items()]}
        query = {"all": "true", "filters": json.dumps(filters)}
        found = cast("list[Json]", self.api.call("list containers", "GET", "/containers/json", query=query))
        found = sorted(found or [], key=lambda entry: int(entry["Created"]), reverse=True)
        return [Container(self.api, str(entry["Id"]), str(entry["Names"][0]).lstrip("/")) for entry in found]

    def _explain_refusal(self, spec: ContainerSpec, error: EngineRefused) -> Exception:
        # Docker 20.10: 409 for a taken name; Podman 4.3: 500 for any conflict, so the name is looked up.
        if error.status == _CONFLICT or (error.status == _SERVER_ERROR and self._has(spec.name)):
            return NameTaken(spec.name)
        if error.status == _BAD_REQUEST and "mount" in error.said.lower():  # Docker 20.10
            return MountRefused(", ".join(str(mount.source) for mount in spec.mounts), error.said)
        return error

    def _has(self, name: str) -> bool:
        try:
            self.api.call("look up a container", "GET", f"/containers/{name}/json")
        except EngineRefused:
            return False
        return True


_GO_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_CGROUP_V2 = Path("/sys/fs/cgroup/cgroup.controllers")
_SELINUX = Path("/sys/fs/selinux/enforce")


def own_podman_traits(server: str, api_version: str) -> EngineTraits:
    """What a Podman service of our own is: this user's, on this machine. `server` is its `Server` header."""
    is_rootless = os.geteuid() != 0
    return EngineTraits(
        kind=EngineKind.PODMAN,
        version=server.partition("/")[2].partition(" ")[0],
        api_version=api_version,
        architecture=_GO_ARCHITECTURES.get(platform.machine(), platform.machine()),
        is_rootless=is_rootless,
        is_virtual=False,
        has_limits=not is_rootless or _CGROUP_V2.exists(),
        has_selinux=_SELINUX.exists(),
    )


def read_traits(version: Json, information: Json) -> EngineTraits:
    """What `/version` and `/info` tell."""
    components = cast("list[Json]", version.get("Components") or [])
    is_podman = any("Podman" in str(component.get("Name")) for component in components)
    options = " ".join(cast("list[str]", information.get("SecurityOptions") or []))
    is_rootless = bool(information.get("Rootless")) or "rootless" in options
    is_desktop = "Docker Desktop" in str(information.get("OperatingSystem"))
    # Where the kernels differ, the engine's is in a virtual machine (Docker Desktop, Podman machine, Colima).
    is_virtual = is_desktop or sys.platform != "linux" or version.get("KernelVersion") != platform.release()
    return EngineTraits(
        kind=EngineKind.PODMAN if is_podman else EngineKind.DOCKER,
        version=str(version.get("Version", "")),
        api_version=str(version.get("ApiVersion", "")),
        architecture=str(version.get("Arch", "")),
        is_rootless=is_rootless,
        is_virtual=is_virtual,
        has_limits=not (is_rootless and str(information.get("CgroupVersion")) == "1"),
        # Docker says whether it uses it; Podman always does, and says nothing of it here (moby 28, podman 5).
        has_selinux="name=selinux" in options or (is_podman and not is_virtual and _SELINUX.exists()),
    )
