"""What a failed model request means: whether asking again can help, when, and what to tell a person.

The one table in which providers' errors are translated. Asks nothing again itself.
"""

import json
import random
import re
import ssl
from dataclasses import dataclass
from typing import Final, cast

import httpx2
from pydantic_ai.exceptions import (
    ContentFilterError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelContextWindowExceededError,
    ModelHTTPError,
    ModelNotFoundError,
    ModelQuotaExceededError,
    ModelRequestRejectedError,
    UnexpectedModelBehavior,
    UserError,
)

from stigmer_contract.error_codes import ErrorCode

FIRST_BACKOFF_SECONDS: Final = 1.0
LONGEST_BACKOFF_SECONDS: Final = 30.0
LONGEST_RETRY_AFTER_SECONDS: Final = 120.0
"""A provider that asks for more is asked again after this long all the same."""
MAX_REASON_CHARACTERS: Final = 300

_RETRYABLE_STATUSES: Final = frozenset({408, 409, 425, 429})
# Some proxies quote the key that they refuse.
_KEY: Final = re.compile(r"\b(sk-|Bearer\s+)[\w.*-]{8,}", re.IGNORECASE)


@dataclass(frozen=True)
class ModelFault:
    """A failed request, as the journal and a person need to know it."""

    retryable: bool
    retry_after_seconds: float | None
    """How long the provider asked to wait."""
    code: ErrorCode
    message: str
    """One line: the model, and the provider's own reason."""
    hint: str | None = None


def classify_fault(error: BaseException) -> ModelFault:
    """What the error of one model request means. Unknown errors are defects of ours: not retryable."""
    if (problem := _certificate_problem(error)) is not None:
        return ModelFault(
            False,
            None,
            ErrorCode.MODEL_UNAVAILABLE,
            f"the certificate of the model's endpoint is not trusted: {problem}",
            "name its authorities: `stigmer config set caBundle FILE`, then `stigmer server restart`; for a "
            "runner elsewhere in SSL_CERT_FILE",
        )
    match error:
        case ModelQuotaExceededError():
            return _rejected(error, "top up the provider's account, or name another model")
        case ModelContextWindowExceededError():
            return _rejected(
                error, "give the agent a smaller task, or name a model with a larger context window"
            )
        case ModelAuthenticationError():
            return _rejected(error, "give the runner a valid key of this provider, with access to the model")
        case ModelNotFoundError():
            suggestion = error.suggested_model_id if isinstance(error, ModelHTTPError) else None
            did_you_mean = f"did you mean {suggestion!r}? " if suggestion else ""
            return _rejected(error, f"{did_you_mean}correct the model's name, or the provider's base URL")
        case ContentFilterError():
            return ModelFault(
                False,
                None,
                ErrorCode.MODEL_REJECTED,
                f"the provider's content filter refused: {_reason(error)}",
            )
        case ModelRequestRejectedError():
            return _rejected(error, None)
        case ModelHTTPError() if error.status_code < 500 and error.status_code not in _RETRYABLE_STATUSES:
            return _rejected(error, None)
        case ModelAPIError():
            return _unavailable(f"model {error.model_name!r} failed: {_reason(error)}", error.retry_after)
        case (
            httpx2.TransportError()
            | UnexpectedModelBehavior()
            | TimeoutError()
            | json.JSONDecodeError()
            | UnicodeDecodeError()
        ):
            return _unavailable(f"the model's answer could not be used: {_reason(error)}", None)
        case UserError():
            return ModelFault(
                False, None, ErrorCode.MODEL_REJECTED, f"the model cannot be asked that: {_reason(error)}"
            )
        case _:
            return _unknown(error)


def backoff_seconds(failure_count: int, retry_after_seconds: float | None) -> float:
    """How long to wait before asking again: exponential with full jitter, never less than asked for.

    Args:
        failure_count: failures of this request so far, from 1.
        retry_after_seconds: what the provider asked for; honoured up to `LONGEST_RETRY_AFTER_SECONDS`.
    """
    longest = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** (min(failure_count, 32) - 1))
    if retry_after_seconds is not None:
        # The jitter keeps executions that were refused together from coming back together.
        wanted = min(max(retry_after_seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS)
        return wanted + random.uniform(0, min(longest, 1.0))  # noqa: S311 - no secret
    return random.uniform(0, longest)  # noqa: S311 - no secret


def _certificate_problem(error: BaseException | None) -> str | None:
    """What is wrong with a certificate, where that is behind the error: SDKs tell `Connection error` only."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def _rejected(error: ModelAPIError, hint: str | None) -> ModelFault:
    message = f"model {error.model_name!r} was refused: {_reason(error)}"
    return ModelFault(False, None, ErrorCode.MODEL_REJECTED, message, hint)


def _unavailable(message: str, retry_after_seconds: float | None) -> ModelFault:
    return ModelFault(
        True,
        retry_after_seconds,
        ErrorCode.MODEL_UNAVAILABLE,
        message,
        "try again later, or name another model",
    )


def _unknown(error: BaseException) -> ModelFault:
    """An error that pydantic-ai let through: of an SDK (known by its package, for importing it costs 10 MB)
    or of ours."""
    package = type(error).__module__.partition(".")[0]
    if package in ("openai", "anthropic"):
        status = getattr(error, "status_code", None)
        message = f"the request to the model failed: {_reason(error)}"
        if isinstance(status, int) and status < 500 and status not in _RETRYABLE_STATUSES:
            return ModelFault(False, None, ErrorCode.MODEL_REJECTED, message)
        return _unavailable(message, None)
    message = f"asking the model failed unexpectedly: {type(error).__name__}"
    return ModelFault(False, None, ErrorCode.INTERNAL, message, "look into the runner's log")


def _reason(error: BaseException) -> str:
    """The provider's own words in one line, with the HTTP status where there is one."""
    if isinstance(error, ModelHTTPError):
        text = _text_of_body(error.body)
        reason = f"{error.status_code}: {text}" if text else f"HTTP status {error.status_code}"
    else:
        reason = str(error)
    reason = _KEY.sub(r"\1…", " ".join(reason.split()))
    if len(reason) > MAX_REASON_CHARACTERS:
        reason = reason[: MAX_REASON_CHARACTERS - 1] + "…"
    return reason or type(error).__name__


def _text_of_body(body: object) -> str:
    """OpenAI's `{message}`, Anthropic's `{error: {message}}`, others' `{detail}` or `{error: text}`."""
    while isinstance(body, dict):
        fields = cast("dict[str, object]", body)
        body = next((fields[key] for key in ("error", "message", "detail") if fields.get(key)), None)
    return "" if body is None else str(body)
