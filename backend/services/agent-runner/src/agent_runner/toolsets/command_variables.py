"""What an agent's tools are given from outside: variables and headers, secrets among them, and hosts."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from pydantic import SecretStr

from agent_runner.errors import ExecutionFailure
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.manifest import AgentSpec
from stigmer_contract.manifest_parts import Environment, secrets_excess


@dataclass(frozen=True)
class ToolVariables:
    """The variables of an agent's tools; each tool gets its own and no others."""

    commands: Mapping[str, str] = field(default_factory=dict[str, str])
    """Those of `shell`, by name."""
    scripts: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    """Those of each script, by the script."""
    headers: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    """HTTP headers of each API's requests, by the API; of searches by `web`, which is no API's name."""
    web_hosts: Collection[str] = ()
    """Hosts that the operator lets be at private addresses; no secret."""


def tool_variables(
    spec: AgentSpec, secrets: Mapping[str, SecretStr], web_hosts: Collection[str] = ()
) -> ToolVariables:
    """What the manifest says, with the secrets; `web_hosts` is what the operator says.

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
            "set smaller values, or name fewer secrets in the manifest, then start the execution again",
        )

    def resolved(environment: Environment) -> dict[str, str]:
        return {
            name: value if isinstance(value, str) else secrets[value.secret].get_secret_value()
            for name, value in environment.items()
        }

    headers = {api.name: resolved(api.headers) for api in spec.openapi}
    if spec.web is not None and spec.web.search is not None:
        headers["web"] = resolved(spec.web.search.headers)
    return ToolVariables(
        commands=resolved(spec.env),
        scripts={script.name: resolved(script.env) for script in spec.scripts},
        headers=headers,
        web_hosts=web_hosts,
    )


def excess_of(secrets: Mapping[str, SecretStr]) -> str | None:
    """Why so much cannot be masked; the values may have grown since the execution was created."""
    size = sum(len(value.get_secret_value().encode("utf-8", "surrogatepass")) for value in secrets.values())
    return secrets_excess(len(secrets), size)
