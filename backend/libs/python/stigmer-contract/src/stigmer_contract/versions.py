"""Which versions of Stigmer's programs go together. Knows of no program how it learns its own."""

from typing import Final

LOCAL_VERSION: Final = "dev-local"
"""The version that `make build-image` gives where nobody names one."""


def is_compatible(ours: str, theirs: str) -> bool:
    """Whether two programs go together: equal major and, before 1.0, equal minor versions."""
    if LOCAL_VERSION in (ours, theirs):
        return True
    first, second = ours.split("."), theirs.split(".")
    count = 2 if first[0] == "0" else 1
    return first[:count] == second[:count]
