"""What of a session is its owner's alone, whoever else sees it: its files, as they are and as they were."""

from stigmer_contract.api import SessionResource
from stigmer_server.api.services import Services
from stigmer_server.errors import Forbidden
from stigmer_server.owners import Caller


async def own_session(services: Services, session_id: str, caller: Caller) -> SessionResource:
    """The session of which the caller may read the files.

    Raises:
        NotFound: there is none that the caller sees.
        Forbidden: it is only shared with the caller, who is no administrator.
    """
    session = await services.sessions.get(session_id, caller)
    if session.owner != caller.owner and not caller.sees_all:
        raise Forbidden(f"only its owner reads the files of session {session_id!r}")
    return session
