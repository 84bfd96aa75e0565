"""What a container shall be, as values; and, purely, what the engines' API wants to be told of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from stigmer_cli.containers.errors import MountRefused


@dataclass(frozen=True)
class BindMount:
    """A directory or file of this machine, seen in a container."""

    source: Path
    """Absolute."""
    target: str
    """Absolute path in the container."""
    is_read_only: bool = False


@dataclass(frozen=True)
class PublishedPort:
    """A TCP port of the container, reached at this machine's loopback."""

    port: int


@dataclass(frozen=True, kw_only=True)
class ContainerSpec:
    """A container, before there is one. The defaults give it nothing."""

    name: str
    image: str
    """An image's id, or a reference that is on this machine."""
    command: tuple[str, ...] = ()
    """Arguments instead of the image's own; empty: the image's."""
    entrypoint: tuple[str, ...] = ()
    """Program instead of the image's; empty: the image's."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """Shown by `inspect`: no place for a secret."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    mounts: tuple[BindMount, ...] = ()
    temporary_bytes: Mapping[str, int] = field(default_factory=dict[str, int])
    """Memory file systems: size by target."""
    user: str | None = None
    """`UID:GID`; None: the image's."""
    user_namespace: str | None = None
    """`keep-id` (Podman): users have the same numbers inside as outside."""
    groups: tuple[str, ...] = ()
    """Numbers of further groups."""
    network: Literal["none", "host", "bridge"] = "none"
    ports: tuple[PublishedPort, ...] = ()
    """Only with `bridge`."""
    is_root_read_only: bool = True
    capabilities: tuple[str, ...] = ()
    """Names without `CAP_`; all others are dropped."""
    may_gain_privileges: bool = False
    """Whether programs such as `sudo` work."""
    pids_limit: int | None = None
    memory_bytes: int | None = None
    cpus: float | None = None
    stop_seconds: int = 10
    """From being asked to end until it is killed."""
    health_check: Literal["image", "none"] = "image"
    """Whether the engine asks, every few seconds and by a process of its own, what the image says."""
    selinux_label: Literal["none", "shared", "private"] = "none"
    """How mounts are labelled where SELinux is enforced (`z`, `Z`; docker-run(1))."""


_NO_HEALTH_CHECK = {"Test": ["NONE"], "Interval": 30_000_000_000, "Timeout": 3_000_000_000, "Retries": 3}
"""Podman reads the times, in ns, all the same, and refuses none of them (4.3, `makeHealthCheckFromCli`)."""
_SELINUX_OPTIONS = {"shared": "z", "private": "Z"}


def check_mounts(mounts: tuple[BindMount, ...]) -> None:
    """Refuses what the engines would refuse late, or would make as an empty directory of root's.

    Raises:
        MountRefused: a source is not there, or not readable.
    """
    for mount in mounts:
        try:
            mount.source.stat()
        except OSError as error:
            raise MountRefused(str(mount.source), error.strerror or str(error)) from error


def render_creation(spec: ContainerSpec, *, has_limits: bool) -> dict[str, Any]:
    """The body of `POST /containers/create` (Docker Engine API 1.41).

    Raises:
        MountRefused: a path has a colon, which cannot be written with a SELinux label.
    """
    host: dict[str, Any] = {
        "NetworkMode": spec.network,
        "ReadonlyRootfs": spec.is_root_read_only,
        "CapDrop": ["ALL"],
        "SecurityOpt": [] if spec.may_gain_privileges else ["no-new-privileges"],
        "Tmpfs": {target: f"size={size},mode=1777" for target, size in spec.temporary_bytes.items()},
        "AutoRemove": False,
        "RestartPolicy": {"Name": "no"},
        **_render_mounts(spec),
    }
    if spec.capabilities:
        host["CapAdd"] = list(spec.capabilities)
    if spec.user_namespace is not None:
        host["UsernsMode"] = spec.user_namespace
    if spec.groups:
        host["GroupAdd"] = list(spec.groups)
    if has_limits:
        if spec.pids_limit is not None:
            host["PidsLimit"] = spec.pids_limit
        if spec.memory_bytes is not None:
            host |= {"Memory": spec.memory_bytes, "MemorySwap": spec.memory_bytes}
        if spec.cpus is not None:
            host["NanoCpus"] = round(spec.cpus * 1e9)
    body: dict[str, Any] = {
        "Image": spec.image,
        "Env": [f"{name}={value}" for name, value in spec.environment.items()],
        "Labels": dict(spec.labels),
        "StopTimeout": spec.stop_seconds,
        "HostConfig": host,
    }
    if spec.ports:
        body["ExposedPorts"] = {f"{published.port}/tcp": {} for published in spec.ports}
        host["PortBindings"] = {
            f"{published.port}/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(published.port)}]
            for published in spec.ports
        }
    if spec.health_check == "none":
        body["Healthcheck"] = _NO_HEALTH_CHECK
    if spec.command:
        body["Cmd"] = list(spec.command)
    if spec.entrypoint:
        body["Entrypoint"] = list(spec.entrypoint)
    if spec.user is not None:
        body["User"] = spec.user
    return body


def _render_mounts(spec: ContainerSpec) -> dict[str, Any]:
    if spec.selinux_label == "none":
        return {
            "Mounts": [
                {
                    "Type": "bind",
                    "Source": str(mount.source),
                    "Target": mount.target,
                    "ReadOnly": mount.is_read_only,
                }
                for mount in spec.mounts
            ]
        }
    label = _SELINUX_OPTIONS[spec.selinux_label]
    for mount in spec.mounts:
        if ":" in f"{mount.source}{mount.target}":
            raise MountRefused(str(mount.source), "with a SELinux label its path must not hold a colon")
    return {
        "Binds": [
            f"{mount.source}:{mount.target}:{'ro' if mount.is_read_only else 'rw'},{label}"
            for mount in spec.mounts
        ]
    }
