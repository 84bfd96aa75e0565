"""Which answers of a server, or of a proxy before it, a caller takes for a reason to call again."""

from typing import Final

RETRYABLE_STATUSES: Final = frozenset({408, 425, 429, 502, 503, 504})
"""The same call may work a moment later (RFC 9110, section 15; RFC 8470; RFC 6585)."""
