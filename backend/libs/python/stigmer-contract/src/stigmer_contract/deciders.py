"""How it is said who decided something."""

from typing import Final

from stigmer_contract.api import ADMINISTRATOR

_EARLIER_NAME: Final = "STIGMER_TOKEN"
"""What logs of earlier versions call the administrator's own token."""


def by_whom(name: str | None) -> str:
    """` by alice`, from the name of a token; empty for nobody, and for the administrator's own token.

    In an installation of one person that is the only token, and to name its holder says nothing.
    """
    return "" if name in (None, ADMINISTRATOR, _EARLIER_NAME) else f" by {name}"
