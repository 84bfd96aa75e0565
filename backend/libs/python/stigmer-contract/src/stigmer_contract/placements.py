"""Names of placements, which the server gives and whoever starts runners for them reads."""

import hashlib


def placement_id_of(workspace: str) -> str:
    """What tells the placement of a directory from those of others."""
    return hashlib.sha256(workspace.encode("utf-8", errors="surrogateescape")).hexdigest()[:16]


def task_queue_of_placement(installation_queue: str, placement_id: str) -> str:
    """The task queue on which legs of a placement run, and nothing else."""
    return f"{installation_queue}/{placement_id}"
