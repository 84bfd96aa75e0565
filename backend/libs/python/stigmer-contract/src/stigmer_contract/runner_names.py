"""Names of runner processes, and the proof that whoever started one has: nobody else may declare it dead.

A name ends with a digest of its proof, so that nothing has to be kept to check one against the other.
"""

import hashlib
import hmac
import secrets

RUNNER_FILES = ".runners"
"""Folder in `SANDBOX_ROOT_DIR` where each runner on the machine has a file: its lock, and its marker."""
MARKER_BYTES = 64
"""At its beginning: the id of the execution whose leg holds the event loop, filled up with zeros."""

_DIGEST_CHARACTERS = 32
_PROOF_BYTES = 24


def new_runner_name(place: str) -> tuple[str, str]:
    """A name for a runner that is about to be started, and its proof, which is a secret of the starter's.

    Args:
        place: where it will run, for people, such as the host's name.
    """
    proof = secrets.token_hex(_PROOF_BYTES)
    return f"runner@{place}:{_digest(proof)}", proof


def runner_file_name(name: str) -> str:
    """What a runner's file is called."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def proves(proof: str, name: str) -> bool:
    """Whether who shows the proof gave a runner its name."""
    return hmac.compare_digest(_digest(proof).encode(), name.rpartition(":")[2].encode())


def _digest(proof: str) -> str:
    return hashlib.sha256(proof.encode()).hexdigest()[:_DIGEST_CHARACTERS]
