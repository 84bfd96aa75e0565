"""Stable codes of everything that can go wrong across a program's border.

A code never changes its meaning; messages may. HTTP problem documents carry one in `code`, and so
does the event `execution.failed`.
"""

from enum import StrEnum


class ErrorCode(StrEnum):
    """Why an execution failed, or why a call was refused."""

    # Executions
    MODEL_REJECTED = "model_rejected"
    """The provider refused for good: wrong key, unknown model, bad request. A retry cannot help."""
    MODEL_UNAVAILABLE = "model_unavailable"
    """The provider kept failing (429, 5xx, cut connection, time-out) until retries were used up."""
    MODEL_NOT_CONFIGURED = "model_not_configured"
    """No model was named by manifest, flag or environment, or its key is missing."""
    REPLAY_MISMATCH = "replay_mismatch"
    """The conversation no longer matches the cassette."""
    LIMIT_TURNS = "limit_turns"
    LIMIT_TOKENS = "limit_tokens"
    LIMIT_COST = "limit_cost"
    LIMIT_DURATION = "limit_duration"
    AGENT_MISBEHAVED = "agent_misbehaved"
    """The model kept answering in a way that cannot be used (bad arguments, empty answers)."""
    FEATURE_NOT_YET = "feature_not_yet"
    """The manifest uses a field whose feature does not exist yet."""
    RUNNER_LOST = "runner_lost"
    """Runner after runner died in the same step; going on would be a crash loop."""
    WORKFLOW_LOST = "workflow_lost"
    """Temporal no longer has the workflow, so nobody would ever finish the execution."""
    WORKSPACE_UNAVAILABLE = "workspace_unavailable"
    """The session's directory is missing, or cannot be written."""
    INTERNAL = "internal"
    """A defect of Stigmer's own. The log of the program that reported it has the traceback."""

    # Calls
    INVALID_REQUEST = "invalid_request"
    INVALID_MANIFEST = "invalid_manifest"
    UNAUTHENTICATED = "unauthenticated"
    HOST_NOT_ALLOWED = "host_not_allowed"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    CONFLICT = "conflict"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    """The same `Idempotency-Key` came with another body."""
    SESSION_BUSY = "session_busy"
    """The session has an execution in hand; executions of a session are ordered."""
    ATTEMPT_SUPERSEDED = "attempt_superseded"
    """Fenced off: a newer attempt holds the execution."""
    EXECUTION_ENDED = "execution_ended"
    ILLEGAL_MOVE = "illegal_move"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    DIGEST_MISMATCH = "digest_mismatch"
    UNAVAILABLE = "unavailable"
    """Something the server needs (database, disk) is not there; the same call may work later."""
