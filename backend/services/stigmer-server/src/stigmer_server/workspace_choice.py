"""Which directories a caller may have a session work in, as far as a server can know.

The rules are the contract's. A server that shares its machine with the runners looks at the directory; any
other judges the path's text. Whoever mounts or uses the directory looks again, at what it has opened.
"""

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path

from stigmer_contract.api import TokenScope
from stigmer_contract.workspace_directories import (
    LinkOnTheWay,
    look_at,
    look_through_no_link,
    surroundings_here,
    surroundings_in_text,
)
from stigmer_contract.workspace_rules import Place, is_within, refuse
from stigmer_server.credentials import Credential
from stigmer_server.errors import Forbidden, InvalidRequest
from stigmer_server.policies import check_workspace
from stigmer_server.settings import Settings


class WorkspaceChoice:
    """Judges the `workspace` of requests."""

    def __init__(self, settings: Settings) -> None:
        self._home = settings.home
        self._roots = settings.workspace_roots
        self._is_local = settings.mode == "local"

    async def check(self, workspace: str | None, credential: Credential) -> str | None:
        """The directory as the session shall keep it, to which no link leads where it can be seen here.

        Raises:
            InvalidRequest: the path is no directory's, or that directory is nobody's to choose.
            Forbidden: it is not this caller's to choose.
        """
        if workspace is None:
            return None
        try:
            return await asyncio.to_thread(self._check, Place.of_text(workspace), credential)
        except (ValueError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise InvalidRequest(f"could not use the workspace {_short(workspace)!r}: {reason}") from error

    def _check(self, place: Place, credential: Credential) -> str:
        named, policy = place.path, credential.policy
        # Told alike whatever is there, or is not: who may not choose it learns nothing of it either.
        if credential.scope is not TokenScope.ADMIN and not self._lies_in(self._roots, place):
            raise self._not_theirs(named, credential)
        check_workspace(policy, named)
        if policy.allow_workspaces is not None and not self._lies_in(
            map(Path, policy.allow_workspaces), place
        ):
            raise self._not_theirs(named, credential)
        link, around = None, surroundings_in_text(state=[str(self._home)])
        if self._is_local:
            try:
                place = look_through_no_link(named)
            except LinkOnTheWay as error:
                link, place = error.link, look_at(named)
            around = surroundings_here(
                state=[self._home], sessions=[self._home / "data" / "workspace"], may_be_contained=True
            )
        refusal = refuse(place, around)
        if refusal is not None:
            raise InvalidRequest(f"could not use the workspace {named!r}: {refusal.reason}", refusal.remedy)
        if link is not None:
            raise InvalidRequest(
                f"could not use the workspace {named!r}: {link!r} is a symbolic link",
                f"name {place.path!r} instead",
            )
        return place.path

    def _lies_in(self, roots: Iterable[Path], place: Place) -> bool:
        """Whether it does by its text, and by where its links lead where that can be seen here."""
        named = [str(root) for root in roots]
        if not self._is_local:
            return is_within(place, map(Place.of_text, named))
        by_text = [text for root in named for text in (root, os.path.realpath(root))]
        if not is_within(place, map(Place.of_text, by_text)):
            return False
        try:
            return is_within(look_at(place.path), map(look_at, named))
        except LinkOnTheWay:  # put there meanwhile
            return False
        except OSError:
            # Nothing can be told of it, unless no link is on the way: then it is in the roots, and theirs.
            return not _leads_through_a_link(place.path)

    def _not_theirs(self, named: str, credential: Credential) -> Forbidden:
        return Forbidden(
            f"token {credential.name!r} may not choose the workspace {named!r}",
            f"name a directory in {' or '.join(map(str, self._roots))}"
            if self._roots
            else "leave `workspace` out, or ask the administrator to set STIGMER_WORKSPACE_ROOTS",
        )


def _leads_through_a_link(path: str) -> bool:
    try:
        look_through_no_link(path)
    except LinkOnTheWay:
        return True
    except OSError:
        pass
    return False


def _short(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:100]}…"
