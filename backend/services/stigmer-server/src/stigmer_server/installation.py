"""What tells this installation (all servers of one database) from others that use the same Temporal.

Its id stands in the name of the task queue and in the ids of workflows. Executions that are older than the id
keep the names that they were started with.
"""

import secrets
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Final

from sqlalchemy import Connection, select

from stigmer_contract.api import InstallationResource
from stigmer_contract.builds import contract_build
from stigmer_contract.placements import placement_id_of, task_queue_of_placement
from stigmer_contract.temporal import (
    FIRST_NAMED_VERSION,
    WORKFLOW_VERSION,
    task_queue_of_version,
)
from stigmer_server.clock_readings import ClockReadings
from stigmer_server.database import Database, insert_where_absent
from stigmer_server.sessions import UNENDED_PHASES
from stigmer_server.steady_clock import SteadyClock
from stigmer_server.tables import executions, server_keys

KEY_NAME: Final = "installation"
ID_BYTES: Final = 5


class Installation:
    """The id, and the names made of it. `load` comes first."""

    def __init__(
        self,
        database: Database,
        steady_clock: SteadyClock,
        base_task_queue: str,
        *,
        runner_per_workspace: bool = False,
    ) -> None:
        """`base_task_queue` is what servers and runners are set to."""
        self._database = database
        self._runner_per_workspace = runner_per_workspace
        self._base_task_queue = base_task_queue
        self._unknown_legs = 0
        self.steady_clock: Final = steady_clock
        self.clocks: Final = ClockReadings()
        self.installation_id = ""
        self._version = version("stigmer-server")

    @property
    def task_queue(self) -> str:
        """Where new executions run: the queue of the newest version of the workflow."""
        return self.task_queues[0]

    @property
    def task_queues(self) -> list[str]:
        """Of each version of the workflow that has one of the installation's own, the newest first."""
        named = f"{self._base_task_queue}-{self.installation_id}"
        versions = range(WORKFLOW_VERSION, FIRST_NAMED_VERSION - 1, -1)
        return [task_queue_of_version(named, version) for version in versions]

    @property
    def nameless_task_queue(self) -> str:
        """That of 0.1.0, which all installations shared."""
        return self._base_task_queue

    def placement_of(self, workspace: str | None) -> str | None:
        """The task queue of the legs of sessions that work there; None: that of the standing runners."""
        if workspace is None or not self._runner_per_workspace:
            return None
        named = f"{self._base_task_queue}-{self.installation_id}"
        return task_queue_of_placement(named, placement_id_of(workspace))

    def workflow_id(self, execution_id: str) -> str:
        """What Temporal calls a new execution."""
        return f"{execution_id}-{self.installation_id}"

    def note_unknown_leg(self) -> None:
        """A runner wanted a leg of an execution that is not kept here."""
        self._unknown_legs += 1

    async def load(self) -> None:
        """Make or read the id that all servers of the database share.

        Raises:
            Unavailable: the database does not answer.
        """

        def work(connection: Connection) -> str:
            row = {"name": KEY_NAME, "value": secrets.token_hex(ID_BYTES), "created_at": datetime.now(UTC)}
            insert_where_absent(connection, server_keys, row)
            value: str = connection.execute(
                select(server_keys.c.value).where(server_keys.c.name == KEY_NAME)
            ).scalar_one()
            return value

        self.installation_id = await self._database.write(work)

    async def describe(self, workflow_version: int) -> InstallationResource:
        """What runners of a version of the workflow, and `doctor`, must know.

        Raises:
            Unavailable: the database does not answer.
        """
        query = select(executions.c.task_queue).where(executions.c.phase.in_(UNENDED_PHASES)).distinct()

        def work(connection: Connection) -> set[str]:
            return {queue or self._base_task_queue for queue in connection.execute(query).scalars()}

        in_use = await self._database.read(work)
        too_new = max(0, WORKFLOW_VERSION - max(workflow_version, FIRST_NAMED_VERSION))
        own, *_ = readable = self.task_queues[too_new:]
        return InstallationResource(
            installation_id=self.installation_id,
            task_queue=own,
            older_task_queues=sorted(in_use - {own} - set(self.task_queues) | in_use & set(readable[1:])),
            unknown_legs=self._unknown_legs,
            clocks=self.clocks.list(),
            version=self._version,
            build=contract_build(),
        )
