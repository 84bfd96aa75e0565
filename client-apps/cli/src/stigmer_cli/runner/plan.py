"""The plan of the runner's containers: made by a command, kept in a file, carried out by the attendants.

The standing container and those of placements follow one plan; what a placement adds stands in `placement`.
Two plans that differ need other containers; `differences` says to a person why.
"""

import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from stigmer_cli.config import Configuration, replace_file
from stigmer_cli.containers import BindMount, ContainerSpec, EngineKind, EngineTraits, PublishedPort
from stigmer_cli.errors import HomeUnusable
from stigmer_cli.runner.belongings import give
from stigmer_cli.runner.environment import (
    SECRETS_TARGET,
    WORKSPACE_TARGET,
    RunnerEnvironment,
    runner_environment,
)
from stigmer_cli.runner.resolution import ChosenImage
from stigmer_contract.workspace_directories import CONTAINED_USER

STOP_SECONDS = 5
"""From SIGTERM to SIGKILL; the runner hands its work back within its own, shorter grace."""
HOME_LABEL = "ai.stigmer.home"
PLAN_LABEL = "ai.stigmer.plan"
PLACEMENT_LABEL = "ai.stigmer.placement"
"""The placement's id; `STANDING` of the container that serves all other sessions."""
STANDING = "standing"
LEAST_PROCESSES, PROCESSES_PER_EXECUTION = 640, 16
"""What the runner itself leaves to commands it counts likewise (`agent_runner.commands`)."""
RUNNER_CONCURRENCY = 200
"""The runner's own default."""


@dataclass(frozen=True)
class RunnerPlan:
    """Which container shall run. Holds no secret."""

    traits: EngineTraits
    """Of the engine."""
    image_reference: str
    image_id: str
    image_digest: str | None
    image_version: str | None
    home: str
    environment: dict[str, str]
    secrets_fingerprint: str
    """Differs where a secret does; keyed, so that it tells nothing about one."""
    user: str
    user_namespace: str | None
    groups: tuple[str, ...]
    """Further ones of the person, who reaches directories by them."""
    is_on_host_network: bool
    memory_bytes: int
    pids: int
    cpus: float | None
    selinux_label: str
    is_root_read_only: bool
    temporary_bytes: int
    capabilities: tuple[str, ...]
    may_gain_privileges: bool

    @property
    def engine(self) -> EngineKind:
        """Which engine runs it."""
        return self.traits.kind

    @property
    def other_user(self) -> int | None:
        """The user, on this machine, that the container runs as; None: who runs the stack."""
        if self.traits.is_rootless or self.traits.is_virtual:
            return None
        user = int(self.user.split(":")[0])
        return None if user == os.getuid() else user

    @property
    def fingerprint(self) -> str:
        """Equal for equal plans."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


class RunnerFiles:
    """Where the plan and its secrets are kept, in `STIGMER_HOME/run`."""

    def __init__(self, configuration: Configuration) -> None:
        self.plan = configuration.run_directory / "runner-container.json"
        self.secrets = configuration.run_directory / "runner-secrets"
        self.proof = configuration.run_directory / "runner-proof.json"
        """Name of the container's runner, and the proof that it was started from here."""
        self.token = configuration.run_directory / "runner-token"


def make_plan(
    configuration: Configuration,
    traits: EngineTraits,
    chosen: ChosenImage,
    token: str,
) -> tuple[RunnerPlan, RunnerEnvironment]:
    """The plan that settings, engine and image lead to, and the environment with its secrets.

    Raises:
        ConfigurationError: a file that a variable names cannot be read.
    """
    gateway_name = traits.gateway_name if traits.is_virtual else None
    told = _with_token(runner_environment(configuration, gateway_name), token)
    is_keeping_ids = traits.is_rootless and traits.kind is EngineKind.PODMAN
    # A rootless engine sees this person as root of its containers; Docker's has no keep-id.
    is_root_inside = traits.is_rootless and traits.kind is EngineKind.DOCKER
    plan = RunnerPlan(
        traits=traits,
        image_reference=chosen.reference,
        image_id=chosen.image.image_id,
        image_digest=chosen.digest,
        image_version=chosen.version,
        home=str(configuration.home),
        environment=dict(sorted(told.plain.items())),
        secrets_fingerprint=_fingerprint(told.secrets, token),
        user="0:0" if is_root_inside else _user_inside(),
        user_namespace="keep-id" if is_keeping_ids else None,
        groups=_groups(traits),
        is_on_host_network=gateway_name is None,
        memory_bytes=configuration.runner_memory_bytes,
        pids=configuration.runner_pids or _processes_for(configuration.runner_max_concurrency),
        cpus=configuration.runner_cpus,
        selinux_label=_selinux_label(configuration, traits),
        is_root_read_only=configuration.runner_read_only_root,
        temporary_bytes=configuration.runner_temporary_bytes,
        capabilities=configuration.runner_capabilities,
        may_gain_privileges=configuration.runner_new_privileges,
    )
    return plan, told


def _user_inside() -> str:
    """Never root: what it starts inside would be root of this machine, were it to get out."""
    user, group = os.getuid(), os.getgid()
    return f"{user}:{group}" if user else f"{CONTAINED_USER}:{CONTAINED_USER}"


def _selinux_label(configuration: Configuration, traits: EngineTraits) -> str:
    if configuration.runner_selinux_label != "auto":
        return configuration.runner_selinux_label
    # Shared: a person's directory may be mounted into other containers, too.
    return "shared" if traits.has_selinux else "none"


def container_spec(plan: RunnerPlan, configuration: Configuration) -> ContainerSpec:
    """The container that the plan means; hardened as the image's guide says."""
    workspace = configuration.data_directory / "workspace"
    health_port = int(plan.environment["STIGMER_HEALTH_PORT"])
    label = plan.selinux_label
    return ContainerSpec(
        name=f"stigmer-runner-{home_mark(plan.home)[:12]}",
        image=plan.image_id,
        environment=plan.environment,
        labels={
            HOME_LABEL: home_mark(plan.home),
            PLACEMENT_LABEL: STANDING,
            PLAN_LABEL: plan.fingerprint,
        },
        mounts=(
            BindMount(workspace, WORKSPACE_TARGET),
            BindMount(RunnerFiles(configuration).secrets, SECRETS_TARGET, is_read_only=True),
        ),
        temporary_bytes={"/tmp": plan.temporary_bytes},  # noqa: S108  # the container's own
        user=plan.user,
        user_namespace=plan.user_namespace,
        groups=plan.groups,
        network="host" if plan.is_on_host_network else "bridge",
        ports=() if plan.is_on_host_network else (PublishedPort(health_port),),
        pids_limit=plan.pids,
        memory_bytes=plan.memory_bytes,
        cpus=plan.cpus,
        stop_seconds=STOP_SECONDS,
        # The supervisor asks it; a process in the container every 5 s, for each container, is the dearer way.
        health_check="none",
        is_root_read_only=plan.is_root_read_only,
        capabilities=plan.capabilities,
        may_gain_privileges=plan.may_gain_privileges,
        selinux_label=label if label in ("shared", "private") else "none",
    )


def differences(old: RunnerPlan, new: RunnerPlan) -> list[str]:
    """Why a container of the old plan has to be replaced, each as a clause; empty where it has not."""
    reasons: list[str] = []
    if old.image_id != new.image_id:
        reasons.append(f"the image is now {new.image_reference}")
    if old.engine != new.engine:
        reasons.append(f"the engine is now {new.traits.title}")
    names = sorted(
        name
        for name in old.environment.keys() | new.environment.keys()
        if old.environment.get(name) != new.environment.get(name)
    )
    if names:
        reasons.append(f"{', '.join(names)} changed")
    if old.secrets_fingerprint != new.secrets_fingerprint:
        reasons.append("a secret changed")
    settings = (
        "user",
        "user_namespace",
        "groups",
        "is_on_host_network",
        "memory_bytes",
        "pids",
        "cpus",
        "selinux_label",
        "is_root_read_only",
        "temporary_bytes",
        "capabilities",
        "may_gain_privileges",
    )
    if any(getattr(old, name) != getattr(new, name) for name in settings):
        reasons.append("its limits or rights changed")
    return reasons


def is_environment_changed(plan: RunnerPlan, configuration: Configuration, token: str) -> bool:
    """Whether the settings of now would lead to another environment. Asks no engine.

    Raises:
        ConfigurationError: a file that a variable names cannot be read.
    """
    if not plan.is_on_host_network:
        return False  # what the other network makes of addresses only the engine knows
    told = _with_token(runner_environment(configuration, None), token)
    return (
        dict(told.plain) != plan.environment or _fingerprint(told.secrets, token) != plan.secrets_fingerprint
    )


def write_plan(plan: RunnerPlan, environment: RunnerEnvironment, configuration: Configuration) -> None:
    """Puts plan and secrets where the attendants find them.

    Raises:
        HomeUnusable: they cannot be written.
    """
    files, workspace = RunnerFiles(configuration), configuration.data_directory / "workspace"
    try:
        workspace.mkdir(mode=0o700, exist_ok=True)
        files.secrets.mkdir(mode=0o700, exist_ok=True)
        for stale in files.secrets.iterdir():
            if stale.name not in environment.secrets:
                stale.unlink()
        for name, content in environment.secrets.items():
            _write_secret(files.secrets / name, content)
        if plan.other_user is not None:
            give([workspace, files.secrets], plan.other_user)
    except OSError as error:
        raise HomeUnusable(files.secrets, error.strerror or str(error)) from error
    replace_file(files.plan, json.dumps(asdict(plan), indent=2) + "\n")


def read_plan(configuration: Configuration) -> RunnerPlan | None:
    """The plan; None where there is none that this version understands."""
    try:
        document = cast(
            "dict[str, Any]", json.loads(RunnerFiles(configuration).plan.read_text(encoding="utf-8"))
        )
        traits = document["traits"]
        document["traits"] = EngineTraits(**traits | {"kind": EngineKind(traits["kind"])})
        document.pop("directories", None)  # earlier versions mounted those of all sessions
        document["capabilities"] = tuple(document["capabilities"])
        document["groups"] = tuple(document["groups"])
        return RunnerPlan(**document)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def forget_plan(configuration: Configuration) -> None:
    """Removes plan and secrets; idempotent."""
    forget_secrets(configuration)
    RunnerFiles(configuration).plan.unlink(missing_ok=True)


def forget_secrets(configuration: Configuration) -> None:
    """Removes the secrets, which nobody needs while no container runs; idempotent."""
    directory = RunnerFiles(configuration).secrets
    if directory.is_dir():
        for secret in directory.iterdir():
            secret.unlink()
        directory.rmdir()


def home_mark(home: str) -> str:
    """Tells the containers of one STIGMER_HOME from those of another."""
    return hashlib.sha256(os.fsencode(home)).hexdigest()


def _groups(traits: EngineTraits) -> tuple[str, ...]:
    """Those that this person has besides the first, where they are the same in the container."""
    # Root's container is another user's, to whom no group of root's belongs.
    if traits.is_virtual or traits.is_rootless or os.getuid() == 0:
        return ()
    return tuple(str(group) for group in sorted({*os.getgroups()} - {os.getgid()}))


def _processes_for(concurrency: int | None) -> int:
    """For the runner, one session with all that it may have, and some for each of the others."""
    return LEAST_PROCESSES + PROCESSES_PER_EXECUTION * (concurrency or RUNNER_CONCURRENCY)


def _write_secret(path: Path, content: bytes) -> None:
    # Over the old file and not beside it: a file mounted by itself would go on showing the old one.
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except OSError as error:
        raise HomeUnusable(path, error.strerror or str(error)) from error


def _with_token(told: RunnerEnvironment, token: str) -> RunnerEnvironment:
    return RunnerEnvironment(
        {**told.plain, "STIGMER_TOKEN_FILE": f"{SECRETS_TARGET}/STIGMER_TOKEN"},
        {**told.secrets, "STIGMER_TOKEN": token.encode()},
    )


def _fingerprint(secrets: Mapping[str, bytes], token: str) -> str:
    digest = hmac.new(token.encode(), digestmod=hashlib.sha256)
    for name, content in sorted(secrets.items()):
        digest.update(f"{name}:{len(content)}:".encode() + content)
    return digest.hexdigest()
