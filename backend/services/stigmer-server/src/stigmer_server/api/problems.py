"""Every error as a problem document (RFC 9457). The one place that gives an error its HTTP status."""

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from stigmer_contract.api import PROBLEM_CONTENT_TYPE, Problem
from stigmer_contract.error_codes import ErrorCode
from stigmer_server.errors import (
    CallRefused,
    Conflict,
    DigestMismatch,
    Forbidden,
    HostNotAllowed,
    IdempotencyKeyReused,
    InvalidRequest,
    LegInHand,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    RateLimited,
    SecretsKeyUnusable,
    ServerError,
    Unauthenticated,
    Unavailable,
)

logger = logging.getLogger(__name__)

MAX_VALIDATION_ERRORS: Final = 5

_STATUS: Final[dict[type[ServerError], HTTPStatus]] = {
    InvalidRequest: HTTPStatus.UNPROCESSABLE_ENTITY,
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    RateLimited: HTTPStatus.TOO_MANY_REQUESTS,
    LegInHand: HTTPStatus.SERVICE_UNAVAILABLE,
    HostNotAllowed: HTTPStatus.MISDIRECTED_REQUEST,
    NotFound: HTTPStatus.NOT_FOUND,
    MethodNotAllowed: HTTPStatus.METHOD_NOT_ALLOWED,
    Conflict: HTTPStatus.CONFLICT,
    IdempotencyKeyReused: HTTPStatus.UNPROCESSABLE_ENTITY,
    PayloadTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    DigestMismatch: HTTPStatus.UNPROCESSABLE_ENTITY,
    SecretsKeyUnusable: HTTPStatus.CONFLICT,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}


def status_of(error: ServerError) -> HTTPStatus:
    """The HTTP status of an error: that of its nearest class in the table."""
    for kind in type(error).__mro__:
        if kind in _STATUS:
            return _STATUS[kind]
    return HTTPStatus.INTERNAL_SERVER_ERROR


def problem_response(error: CallRefused | Unavailable) -> Response:
    """The answer that tells a caller of an error."""
    response = _response(status_of(error), error.code, error.detail, error.hint)
    if isinstance(error, RateLimited):
        response.headers["Retry-After"] = str(error.retry_after_seconds)
    return response


def problem_responses(*kinds: type[ServerError]) -> dict[int | str, dict[str, Any]]:
    """What a route's `responses` say of the errors that it may answer with, beside those of all routes."""
    always: Sequence[type[ServerError]] = (
        InvalidRequest,
        Unauthenticated,
        Forbidden,
        HostNotAllowed,
        PayloadTooLarge,
        RateLimited,
        Unavailable,
    )
    statuses = sorted({_STATUS[kind] for kind in (*kinds, *always)})
    content = {PROBLEM_CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status.value: {"description": status.phrase, "content": content} for status in statuses}


def register_problem_handlers(app: FastAPI) -> None:
    """Answer every error of the app with a problem document."""
    app.add_exception_handler(CallRefused, _on_server_error)
    app.add_exception_handler(Unavailable, _on_server_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_defect)


async def _on_server_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, CallRefused | Unavailable)
    return problem_response(error)


async def _on_disconnect(_request: Request, _error: Exception) -> Response:
    # The caller went away in the middle of its body: no defect of ours, and an answer that nobody reads.
    return _response(HTTPStatus.BAD_REQUEST, ErrorCode.INVALID_REQUEST, "the body ended too early", None)


async def _on_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors: Sequence[Any] = error.errors()
    lines = [
        f"{'.'.join(str(part) for part in found['loc'])}: {found['msg']}"
        for found in errors[:MAX_VALIDATION_ERRORS]
    ]
    if len(errors) > MAX_VALIDATION_ERRORS:
        lines.append(f"and {len(errors) - MAX_VALIDATION_ERRORS} more")
    in_manifest = any("manifest" in found["loc"] for found in errors)
    code = ErrorCode.INVALID_MANIFEST if in_manifest else ErrorCode.INVALID_REQUEST
    return _response(HTTPStatus.UNPROCESSABLE_ENTITY, code, "; ".join(lines), None)


async def _on_http_error(request: Request, error: Exception) -> Response:
    # What Starlette and FastAPI raise themselves.
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND:
        response = problem_response(NotFound("resource", request.url.path))
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        response = problem_response(MethodNotAllowed(f"{request.url.path!r} has no method {request.method}"))
    elif error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        detail = "the body is larger than this call may be"
        response = _response(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, ErrorCode.PAYLOAD_TOO_LARGE, detail, None)
    elif error.status_code == HTTPStatus.BAD_REQUEST:
        # FastAPI tells JSON that is none (422) from bytes that are no text (400): one mistake to a caller.
        detail = "the body is not JSON text in UTF-8"
        response = _response(HTTPStatus.UNPROCESSABLE_ENTITY, ErrorCode.INVALID_REQUEST, detail, None)
    else:
        response = _response(HTTPStatus(error.status_code), ErrorCode.INVALID_REQUEST, error.detail, None)
    response.headers.update(error.headers or {})
    return response


async def _on_defect(request: Request, error: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    detail = "a defect of the server's own; its log says more"
    return _response(HTTPStatus.INTERNAL_SERVER_ERROR, ErrorCode.INTERNAL, detail, None)


def _response(status: HTTPStatus, code: ErrorCode, detail: str, hint: str | None) -> Response:
    problem = Problem(title=status.phrase, status=status, detail=detail, code=code, hint=hint)
    headers = {"WWW-Authenticate": "Bearer"} if status is HTTPStatus.UNAUTHORIZED else None
    return Response(
        problem.model_dump_json(exclude_none=True), status, headers=headers, media_type=PROBLEM_CONTENT_TYPE
    )
