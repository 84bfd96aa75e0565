"""Which calls the audit trail gets, and what it is told of them."""

from typing import Final
from urllib.parse import unquote

from starlette.types import Scope

from stigmer_contract.api import TokenScope
from stigmer_server.audit import AuditTrail
from stigmer_server.credentials import Credential

FAILED_AUTHENTICATION: Final = "authenticate"
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_REFUSED: Final = frozenset({401, 403})
_TAKES_LEG: Final = "/v1/executions/{execution_id}/legs"


class Auditor:
    """Sees every call when it has been answered."""

    def __init__(self, trail: AuditTrail) -> None:
        self._trail = trail

    def observe(
        self, scope: Scope, credential: Credential | None, status: int, location: bytes | None
    ) -> None:
        """Record the call where it changed something, or was refused for its token."""
        if status not in _REFUSED and not _changes(scope, credential):
            return
        path: str | None = getattr(scope.get("route"), "path", None)
        action = FAILED_AUTHENTICATION if credential is None or path is None else f"{scope['method']} {path}"
        client = scope.get("client")
        self._trail.record(
            credential, action, _target(scope, path, location), status, client[0] if client else None
        )


def _changes(scope: Scope, credential: Credential | None) -> bool:
    """Whether the call was made to change something that is not in an execution's log anyway."""
    route = scope.get("route")
    if scope["method"] in _READING or credential is None or route is None:
        return False
    if credential.scope is TokenScope.RUNNER:
        return route.path == _TAKES_LEG
    return getattr(route, "is_audited", True)


def _target(scope: Scope, path: str | None, location: bytes | None) -> str | None:
    """The object: the last one that the path names, or the one that was made; else the path as it came."""
    if path is None:
        return scope["path"]
    if location is not None:
        return unquote(location.decode("latin-1").rpartition("/")[2])
    parameters: dict[str, str] = scope.get("path_params") or {}
    return next(reversed(parameters.values()), None)
