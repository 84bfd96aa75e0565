"""What a toolset may tell of the call that it carries out, besides its result."""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final


@dataclass
class CallInHand:
    """One call, while it is carried out."""

    show: Callable[[str], None]
    """Shows whoever watches how it goes on."""
    is_outcome_unknown: bool = False
    """Whether nobody knows what became of it, though the call has returned."""


call_in_hand: Final[ContextVar[CallInHand | None]] = ContextVar("call_in_hand", default=None)
"""That of the present task."""
