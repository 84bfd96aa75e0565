"""What a placement adds to the plan: a container of its own for one workspace directory.

It sees that directory at its own path, the secrets, and a folder of this placement, in which its sessions'
own folders are made; nothing of any other. Kept in a file while its container is to stand.
"""

import hashlib
import json
import re
import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from stigmer_cli.config import Configuration, replace_file
from stigmer_cli.containers import BindMount, ContainerSpec, PublishedPort
from stigmer_cli.errors import HomeUnusable, UsageError
from stigmer_cli.runner.belongings import can_write, give
from stigmer_cli.runner.environment import SECRETS_TARGET, WORKSPACE_TARGET
from stigmer_cli.runner.plan import (
    PLACEMENT_LABEL,
    PLAN_LABEL,
    RunnerPlan,
    container_spec,
)
from stigmer_cli.workspaces import identify_workspace
from stigmer_contract.workspace_directories import opened, surroundings_in_text
from stigmer_contract.workspace_rules import Place, refuse

TASK_QUEUE_VARIABLE = "STIGMER_PLACEMENT_TASK_QUEUE"
MOUNTS_VARIABLE = "STIGMER_PLACEMENT_MOUNTS"
_ID = re.compile(r"[0-9a-f]{16}")
_PRIVATE_TARGETS = frozenset(
    f"/{name}"
    for name in (
        "bin",
        "boot",
        "dev",
        "etc",
        "lib",
        "lib64",
        "proc",
        "run",
        "sbin",
        "sys",
        "usr",
        "workspace",
    )
)
"""Directories of the image's own: a mount over or into them would break it, or is no place to work in."""


@dataclass(frozen=True)
class Placement:
    """One workspace directory, and the container for it."""

    placement_id: str
    task_queue: str
    directory: str
    """Where it is, on this machine and in the container."""
    identity: str
    """What tells it from another one that stands there later; as the contract writes it."""
    health_port: int


@dataclass(frozen=True)
class Shown:
    """A mount, and which directory was looked at before."""

    mount: BindMount
    identity: str


class PlacementFiles:
    """Where a placement is kept."""

    def __init__(self, configuration: Configuration, placement_id: str) -> None:
        """Raises ValueError where that is no placement's id."""
        if not _ID.fullmatch(placement_id):
            raise ValueError(f"{placement_id!r} is no placement's id")
        run = configuration.run_directory / "placements"
        self.placement = run / f"{placement_id}.json"
        self.proof = run / f"{placement_id}-proof.json"
        """Name of its container's runner, and the proof that it was started from here."""
        self.folder = configuration.data_directory / "placements" / placement_id
        """What its container has for its sessions; outlives the container."""


def write_placement(placement: Placement, configuration: Configuration, user: int | None = None) -> None:
    """Puts the placement where its attendant finds it, and makes its folder; `user`: see `check_directory`.

    Raises:
        HomeUnusable: it cannot be written.
    """
    files = PlacementFiles(configuration, placement.placement_id)
    try:
        files.placement.parent.mkdir(mode=0o700, exist_ok=True)
        files.folder.parent.mkdir(mode=0o700, exist_ok=True)
        files.folder.mkdir(mode=0o700, exist_ok=True)
        if user is not None and files.folder.stat().st_uid != user:
            give([files.folder], user)
    except OSError as error:
        raise HomeUnusable(files.folder, error.strerror or str(error)) from error
    replace_file(files.placement, json.dumps(asdict(placement)) + "\n")


def read_placement(configuration: Configuration, placement_id: str) -> Placement | None:
    """The placement; None where there is none that this version understands."""
    try:
        path = PlacementFiles(configuration, placement_id).placement
        return Placement(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def forget_placement(configuration: Configuration, placement_id: str) -> None:
    """Forgets that its container is to stand; its sessions' folders stay. Idempotent."""
    files = PlacementFiles(configuration, placement_id)
    files.placement.unlink(missing_ok=True)
    files.proof.unlink(missing_ok=True)


def placement_spec(placement: Placement, plan: RunnerPlan, configuration: Configuration) -> ContainerSpec:
    """The container of a placement: the standing one's, with other mounts and another task queue."""
    spec = container_spec(plan, configuration)
    folder = PlacementFiles(configuration, placement.placement_id).folder
    secrets = next(mount for mount in spec.mounts if mount.target == SECRETS_TARGET)
    shown = [Shown(BindMount(Path(placement.directory), placement.directory), placement.identity)]
    if plan.environment.get("STIGMER_PROTECT_GIT") != "off":
        shown += _shown_of_git(placement.directory)
    told = {TASK_QUEUE_VARIABLE: placement.task_queue, "STIGMER_HEALTH_PORT": str(placement.health_port)}
    if plan.is_on_host_network:  # else a virtual machine is between, in which file systems have other ids
        told[MOUNTS_VARIABLE] = json.dumps({one.mount.target: one.identity for one in shown})
    return replace(
        spec,
        name=f"{spec.name}-{placement.placement_id}",
        environment={**spec.environment, **told},
        labels={
            **spec.labels,
            PLACEMENT_LABEL: placement.placement_id,
            PLAN_LABEL: hashlib.sha256(f"{plan.fingerprint}:{placement}".encode()).hexdigest(),
        },
        mounts=(BindMount(folder, WORKSPACE_TARGET), secrets, *(one.mount for one in shown)),
        ports=(PublishedPort(placement.health_port),) if spec.ports else (),
    )


def _shown_of_git(directory: str) -> list[Shown]:
    """A repository's own directory, which so cannot be moved away, and its hooks, which cannot be changed.

    A person's Git runs them later. Natively the runner mounts the same for each command; here it may not.
    """
    found = list[Shown]()
    for name, is_read_only in ((".git", False), (".git/hooks", True)):
        path = f"{directory}/{name}"
        try:
            with opened(path) as shown:  # of a worktree or submodule it is a file
                found.append(Shown(BindMount(Path(path), path, is_read_only), str(shown.identity)))
        except OSError:
            break
    return found


def check_directory(configuration: Configuration, directory: str, user: int | None = None) -> str:
    """See that a container may be given the directory; answers its identity.

    `user`: that the container runs as, where that is not who runs the stack.

    Raises:
        UsageError: it is not there, is the image's own, not one for an agent, or closed to the user; says
            what helps.
    """
    identity = identify_workspace(configuration, Path(directory))
    what = f"could not use the workspace {directory!r}"
    top = Path("/", *Path(directory).parts[1:2])
    if str(top) in _PRIVATE_TARGETS or refuse(Place.of_text(directory), surroundings_in_text()):
        raise UsageError(
            f"{what}: the runner's container has a directory of its own there",
            "name a directory of your own, or start the stack with --native",
        )
    if user is not None and not _is_open_to(user, directory):
        raise UsageError(
            f"{what}: user {user}, as which root's containers run, cannot write to it",
            f"run `chown -R {user}:{user} {shlex.quote(directory)}`, or start the stack as another user",
        )
    return str(identity)


def _is_open_to(user: int, directory: str) -> bool:
    try:
        return can_write(directory, user)
    except OSError:  # it went away, or turned into a link
        return False
