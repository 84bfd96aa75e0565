"""Prepares containers for placements, by the plan of the running stack. Starts nothing itself."""

from stigmer_cli.config import Configuration
from stigmer_cli.errors import UsageError
from stigmer_cli.processes.ports import free_port
from stigmer_cli.runner.placement import (
    Placement,
    check_directory,
    forget_placement,
    write_placement,
)
from stigmer_cli.runner.plan import read_plan
from stigmer_cli.stack.local_components import container_component
from stigmer_cli.stack.placements import PlacementMaker, PlacementRefused, PreparedPlacement, WantedPlacement
from stigmer_contract.workspace_directories import opened

_MEMORY_EACH = 256 * 1024**2
"""Of the machine, for each container: an idle one takes about half of it, and one at work a little more."""
_FEWEST = 4


class ContainerPlacements(PlacementMaker):
    """Placements in containers of this machine's engine."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration

    def prepare(self, wanted: WantedPlacement) -> PreparedPlacement:
        """Sees that the directory can be mounted, and puts the placement where its attendant finds it.

        Raises:
            PlacementRefused: it cannot be.
            HomeUnusable: the placement cannot be written down.
        """
        plan = read_plan(self._configuration)
        user = None if plan is None else plan.other_user
        try:
            identity = check_directory(self._configuration, wanted.workspace, user)
        except UsageError as error:
            raise PlacementRefused(error.message, error.hint) from error
        placement = Placement(
            placement_id=wanted.placement_id,
            task_queue=wanted.task_queue,
            directory=wanted.workspace,
            identity=identity,
            health_port=free_port(),
        )
        write_placement(placement, self._configuration, user)
        return PreparedPlacement(identity, container_component(self._configuration, placement))

    def identify(self, workspace: str) -> str | None:
        """What tells the directory that is there now from another; None where there is none to mount."""
        try:
            with opened(workspace, mounts=()) as directory:  # rules are for who starts a container
                return str(directory.identity)
        except (OSError, ValueError):
            return None

    def forget(self, placement_id: str) -> None:
        """The container has ended."""
        forget_placement(self._configuration, placement_id)


def max_containers() -> int:
    """How many containers may stand side by side on this machine, by its memory."""
    import psutil

    return max(_FEWEST, psutil.virtual_memory().total // _MEMORY_EACH)
