"""Whether the policy of a token lets its bearer steer what another token has started.

Who says something to an execution, or decides for it, has it act with its networks, secrets and directory.
"""

from sqlalchemy import Connection

from stigmer_contract.api import NO_POLICY, TokenPolicy
from stigmer_contract.events import EVENT_ADAPTER, ExecutionStarted
from stigmer_server.database import Database
from stigmer_server.event_log import read_events
from stigmer_server.owners import Caller
from stigmer_server.policies import check_approve, check_policy
from stigmer_server.sessions import find_session


def read_reach(
    connection: Connection, execution_id: str, session_id: str
) -> tuple[ExecutionStarted, str | None]:
    """What an execution was started with, and its session's directory where a person named one."""
    [opening] = read_events(connection, execution_id, limit=1)
    first = EVENT_ADAPTER.validate_json(opening.body)
    assert isinstance(first, ExecutionStarted)
    return first, find_session(connection, session_id).workspace


def check_bearer(policy: TokenPolicy, first: ExecutionStarted, workspace: str | None) -> None:
    """See that a policy's token could have started what `read_reach` tells.

    Raises:
        Forbidden: the policy excludes it.
    """
    check_policy(policy, first.spec, workspace)
    check_approve(policy, first.approve)


async def check_reach(database: Database, caller: Caller, execution_id: str, session_id: str) -> None:
    """See that a caller could have started an execution.

    Raises:
        Forbidden: the policy of the caller's token excludes it.
    """
    if caller.policy == NO_POLICY:
        return
    first, workspace = await database.read(
        lambda connection: read_reach(connection, execution_id, session_id)
    )
    check_bearer(caller.policy, first, workspace)
