"""What is to be said, as a leg ends, of files that other programs execute later."""

import asyncio
import logging
from typing import Final

from agent_runner.toolsets.shown_names import shown_name
from agent_runner.workspace import RunnableWatch
from stigmer_contract.events import WorkspaceWarned

logger = logging.getLogger(__name__)

MAX_WARNED_FILES: Final = 50
"""Most files that are named in one warning."""


async def warn_of_changes(watch: RunnableWatch | None, execution_id: str) -> list[WorkspaceWarned]:
    """End the watch; what it has seen, if anything. None: the leg did not come to open a workspace."""
    if watch is None:
        return []
    changed, is_whole = await asyncio.to_thread(watch.finish)
    if not (changed or watch.moved_aside):
        return []
    logger.warning(
        "the agent changed files that other programs execute: %s",
        ", ".join([*changed, *watch.moved_aside][:MAX_WARNED_FILES]),
        extra={"execution_id": execution_id},
    )
    moved = list(dict.fromkeys(watch.moved_aside))
    return [
        WorkspaceWarned(
            files=[shown_name(path) for path in changed[:MAX_WARNED_FILES]],
            moved_aside=[shown_name(path) for path in moved[:MAX_WARNED_FILES]],
            further=max(0, len(changed) - MAX_WARNED_FILES) + max(0, len(moved) - MAX_WARNED_FILES),
            is_whole=is_whole,
        )
    ]
