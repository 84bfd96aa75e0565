"""Finds out which execution or session a person means: an id, a part of one, or the newest."""

import re
from collections.abc import Callable, Sequence
from typing import Final

from stigmer_cli.api_client import ApiClient
from stigmer_cli.errors import StigmerError, UsageError
from stigmer_cli.rendering.execution_table import SHOWN_ID_CHARACTERS
from stigmer_contract.identifiers import EXECUTION_PREFIX, SESSION_PREFIX

SEARCHED: Final = 1000
"""So many of the newest are looked through for a part of an id."""
_LISTED: Final = 10
_WHOLE_ID: Final = re.compile(r"[a-z]{3}_[0-9a-hjkmnp-tv-z]{26}")


def short_id(whole: str) -> str:
    """An id as lists show it."""
    return whole[-SHOWN_ID_CHARACTERS:]


def find_execution_id(client: ApiClient, given: str | None, *, last: bool) -> str:
    """The execution that is meant.

    Raises:
        UsageError: neither or both of id and `--last` are given, or several fit.
        StigmerError: none fits.
    """
    _check(given, last, "execution")

    def newest(limit: int) -> list[str]:
        return [execution.execution_id for execution in client.list_executions(limit)]

    return _find(given, newest, EXECUTION_PREFIX, "execution")


def find_session_id(client: ApiClient, given: str | None, *, last: bool) -> str:
    """The session that is meant; raises as `find_execution_id`."""
    _check(given, last, "session")

    def newest(limit: int) -> list[str]:
        return [session.session_id for session in client.list_sessions(limit)]

    return _find(given, newest, SESSION_PREFIX, "session")


def _check(given: str | None, last: bool, what: str) -> None:
    if (given is None) != last:
        problem = "is not named" if given is None else "is named, and --last too"
        raise UsageError(f"the {what} {problem}", f"give the {what}'s id, a unique part of it, or --last")


def _find(given: str | None, newest: Callable[[int], Sequence[str]], prefix: str, what: str) -> str:
    if given is None:
        found = newest(1)
        if not found:
            raise StigmerError(f"there is no {what} yet", "`stigmer run` makes one")
        return found[0]
    if _WHOLE_ID.fullmatch(given):
        return given
    part = given.lower()
    fitting = [
        each
        for each in newest(SEARCHED)
        if part and (each.startswith((part, f"{prefix}_{part}")) or each.endswith(part))
    ]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise StigmerError(
            f"no {what} has an id like {given!r}",
            f"run `stigmer {what}s list` to see which there are",
        )
    listed = ", ".join(fitting[:_LISTED]) + (", …" if len(fitting) > _LISTED else "")
    raise UsageError(f"{given!r} fits {len(fitting)} {what}s: {listed}", "give more characters")
