"""How it is said who decided something."""

from stigmer_contract.api import ADMINISTRATORS_TOKEN


def by_whom(name: str | None) -> str:
    """` by alice`, from the name of a token; empty for nobody, and for the administrator's own token.

    In an installation of one person that is the only token, and its name, a variable's, says nothing.
    """
    return "" if name in (None, ADMINISTRATORS_TOKEN) else f" by {name}"
