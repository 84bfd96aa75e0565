"""Route of `/v1/audit`."""

from fastapi import APIRouter

from stigmer_contract.api import AuditEntry, Page
from stigmer_server.api.access import NEEDS_ADMIN, GuardedRoute
from stigmer_server.api.problems import problem_responses
from stigmer_server.api.services import Cursor, Limit, ServicesOf
from stigmer_server.pages import DEFAULT_PAGE_SIZE

router = APIRouter(prefix="/v1/audit", tags=["audit"], route_class=GuardedRoute)


@router.get("", responses=problem_responses(), openapi_extra=NEEDS_ADMIN)
async def list_audit_entries(
    services: ServicesOf, limit: Limit = DEFAULT_PAGE_SIZE, cursor: Cursor = None
) -> Page[AuditEntry]:
    """Who did what when to which object, newest first: changes, legs taken, and calls that were refused."""
    return await services.audit.list(limit, cursor)
