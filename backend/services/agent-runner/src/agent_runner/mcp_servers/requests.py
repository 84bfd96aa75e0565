"""Requests to a server as the SDK sends them, and what it leaves out at the protocol's newer form."""

import secrets
from collections.abc import Mapping
from typing import Any, Final, cast

from mcp.shared.dispatcher import CallOptions
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
from mcp.shared.transport_context import TransportContext
from mcp_types import CLIENT_CAPABILITIES_META_KEY, RequestId

MAX_ID: Final = 1 << 50
_CACHED: Final = frozenset(
    {
        "server/discover",
        "tools/list",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
        "resources/read",
    }
)
"""Methods whose results say for how long they hold (2026-07-28)."""


class Requests(JSONRPCDispatcher[TransportContext]):
    """Sends requests, and gives their results as they came."""

    async def send_raw_request(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        opts: CallOptions | None = None,
        *,
        _related_request_id: RequestId | None = None,
    ) -> dict[str, Any]:
        """The result of a request.

        Without a conversation a server may tell requests apart by their ids alone, also those of another leg,
        so that none is used again. What a server of that form may leave out has its default.
        """
        is_stateless = _is_stateless(params)
        if is_stateless:
            opts = {"request_id": secrets.randbelow(MAX_ID), **(opts or {})}
        result = await super().send_raw_request(method, params, opts, _related_request_id=_related_request_id)
        if is_stateless:
            result.setdefault("resultType", "complete")
            if method in _CACHED:
                result.setdefault("ttlMs", 0)
                result.setdefault("cacheScope", "private")
        return result


def _is_stateless(params: Mapping[str, Any] | None) -> bool:
    meta: object = (params or {}).get("_meta")
    return isinstance(meta, dict) and CLIENT_CAPABILITIES_META_KEY in cast("dict[str, Any]", meta)
