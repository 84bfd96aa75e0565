"""What a manifest puts into the environment of commands, secrets among it."""

from collections.abc import Mapping

from pydantic import SecretStr

from agent_runner.errors import ExecutionFailure
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.manifest import AgentSpec
from stigmer_contract.manifest_parts import secrets_excess


def command_variables(spec: AgentSpec, secrets: Mapping[str, SecretStr]) -> dict[str, str]:
    """The variables by name.

    Raises:
        ExecutionFailure: a secret is missing, or there are too many to be masked.
    """
    missing = [name for name in spec.secret_names if name not in secrets]
    if missing:
        raise ExecutionFailure(
            ErrorCode.SECRET_MISSING,
            f"the server has no readable secret {missing[0]!r}, which the agent needs",
            f"run `stigmer secrets set {missing[0]}`, then start the execution again",
        )
    excess = excess_of(secrets)
    if excess is not None:
        raise ExecutionFailure(
            ErrorCode.INVALID_REQUEST,
            excess,
            "set smaller values, or name fewer secrets in `spec.env`, then start the execution again",
        )
    return {
        name: value if isinstance(value, str) else secrets[value.secret].get_secret_value()
        for name, value in spec.env.items()
    }


def excess_of(secrets: Mapping[str, SecretStr]) -> str | None:
    """Why so much cannot be masked; the values may have grown since the execution was created."""
    size = sum(len(value.get_secret_value().encode("utf-8", "surrogatepass")) for value in secrets.values())
    return secrets_excess(len(secrets), size)
