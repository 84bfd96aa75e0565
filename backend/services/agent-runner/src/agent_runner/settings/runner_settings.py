"""Every variable that the runner reads, and the frozen object they become.

Imports pydantic only where a value needs it, and of the contract nothing that does, so that
`agent-runner health` stays light. Whether a model or a server exists is not checked here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, cast, get_args

from agent_runner.errors import SettingsError
from agent_runner.settings.values import (
    Variable,
    parse_headers,
    parse_mounts,
    parse_ports,
    parse_secret,
)
from stigmer_contract.environment import (
    Environment,
    LogLevel,
    Mode,
    VariableWrong,
    choice_of,
    integer_between,
    number_between,
    parse_address,
    parse_address_or_url,
    parse_boolean,
    parse_existing_file,
    parse_hosts,
    parse_path,
    parse_paths,
    parse_text,
    parse_url,
    under_present_names,
)
from stigmer_contract.isolation_words import FORMER_VARIABLES, IsolationSetting
from stigmer_contract.log_lines import LogFormat
from stigmer_contract.model_names import PROVIDERS, ModelEndpoint, parse_endpoints

if TYPE_CHECKING:
    from pydantic import SecretStr

ProtectGit = Literal["warn", "refuse", "off"]


@dataclass(frozen=True)
class KeyedEndpoint:
    """An endpoint of a person's, with its key."""

    endpoint: ModelEndpoint
    key: "SecretStr | None" = None


def parse_model_endpoints(text: str) -> tuple[KeyedEndpoint, ...]:
    """The endpoints without their keys, which stand in variables of their own."""
    return tuple(KeyedEndpoint(endpoint) for endpoint in parse_endpoints(text))


@dataclass(frozen=True, kw_only=True)
class RunnerSettings:
    """The runner's configuration; each field carries the variable it comes from."""

    mode: Annotated[
        Mode,
        Variable(
            "MODE",
            "`local`: one person's machine; `cloud`: a fleet, where cassettes come from the blob store only.",
            choice_of(get_args(Mode)),
            "local",
        ),
    ]
    cli_version: Annotated[
        str | None,
        Variable(
            "STIGMER_CLI_VERSION",
            "Version of the command line that starts the runner, which sets it. A runner that does not go "
            "with it ends with exit code 2.",
            parse_text,
        ),
    ]
    runner_name: Annotated[
        str | None,
        Variable(
            "STIGMER_RUNNER_NAME",
            "Name of this process in logs and at Temporal; whoever starts it sets it, so as to be able to "
            "say that it has ended. Unset: made of process id and host.",
            parse_text,
        ),
    ]
    temporal_address: Annotated[
        str,
        Variable(
            "TEMPORAL_SERVICE_ADDRESS", "Temporal's frontend, host:port.", parse_address, "localhost:7233"
        ),
    ]
    temporal_namespace: Annotated[
        str, Variable("TEMPORAL_NAMESPACE", "Temporal namespace.", parse_text, "default")
    ]
    temporal_task_queue: Annotated[
        str,
        Variable(
            "TEMPORAL_AGENT_EXECUTION_RUNNER_TASK_QUEUE",
            "Task queue that this runner polls.",
            parse_text,
            "agent_execution_runner",
        ),
    ]
    placement_task_queue: Annotated[
        str | None,
        Variable(
            "STIGMER_PLACEMENT_TASK_QUEUE",
            "Task queue of a placement: this runner does the work of that one, and runs no workflows. "
            "Whoever starts it sets it, as the server's list of placements says.",
            parse_text,
        ),
    ]
    placement_mounts: Annotated[
        tuple[str, ...],
        Variable(
            "STIGMER_PLACEMENT_MOUNTS",
            "What was mounted for the placement, as JSON: paths with file system, inode and owner as they "
            "were before; whoever mounts it sets it. A runner that finds another directory there ends with "
            "exit code 2.",
            parse_mounts,
            "{}",
        ),
    ]
    temporal_max_concurrency: Annotated[
        int,
        Variable(
            "TEMPORAL_MAX_CONCURRENCY",
            "Most executions that this runner works on at once.",
            integer_between(1, 10_000),
            "200",
        ),
    ]
    temporal_api_key: Annotated[
        "SecretStr | None",
        Variable(
            "TEMPORAL_API_KEY", "API key of Temporal Cloud; turns TLS on.", parse_secret, is_secret=True
        ),
    ]
    temporal_tls: Annotated[
        bool | None,
        Variable(
            "TEMPORAL_TLS",
            "Whether to use TLS; unset: where an API key or one of the other TEMPORAL_TLS variables is set.",
            parse_boolean,
        ),
    ]
    temporal_tls_client_cert_path: Annotated[
        Path | None,
        Variable(
            "TEMPORAL_TLS_CLIENT_CERT_PATH",
            "Client certificate (PEM file) for mutual TLS.",
            parse_existing_file,
        ),
    ]
    temporal_tls_client_key_path: Annotated[
        Path | None,
        Variable(
            "TEMPORAL_TLS_CLIENT_KEY_PATH",
            "Private key (PEM file) of the client certificate.",
            parse_existing_file,
        ),
    ]
    temporal_tls_server_ca_cert_path: Annotated[
        Path | None,
        Variable(
            "TEMPORAL_TLS_SERVER_CA_CERT_PATH",
            "Authority (PEM file) that signed Temporal's certificate; unset: the system's authorities.",
            parse_existing_file,
        ),
    ]
    temporal_tls_server_name: Annotated[
        str | None,
        Variable("TEMPORAL_TLS_SERVER_NAME", "Host name that Temporal's certificate must carry.", parse_text),
    ]
    backend_endpoint: Annotated[
        str,
        Variable(
            "STIGMER_BACKEND_ENDPOINT",
            "Where stigmer-server answers: host:port, or an http(s) URL.",
            parse_address_or_url,
            "localhost:7234",
        ),
    ]
    token: Annotated[
        "SecretStr",
        Variable(
            "STIGMER_TOKEN", "Bearer token for stigmer-server.", parse_secret, required=True, is_secret=True
        ),
    ]
    sandbox_root_dir: Annotated[
        Path,
        Variable(
            "SANDBOX_ROOT_DIR",
            "Directory under which each session gets its workspace.",
            parse_path,
            "/workspace",
        ),
    ]
    stigmer_home: Annotated[
        Path | None,
        Variable(
            "STIGMER_HOME",
            "Where a stack on this machine keeps its state; no agent gets at it. Unset: it is not here.",
            parse_path,
        ),
    ]
    workspace_roots: Annotated[
        tuple[Path, ...] | None,
        Variable(
            "STIGMER_WORKSPACE_ROOTS",
            "Directories, separated by colons, in which the workspace of a session must lie that is given "
            "one, whoever chose it. Unset: anywhere that an agent may work in.",
            parse_paths,
        ),
    ]
    protect_git: Annotated[
        ProtectGit,
        Variable(
            "STIGMER_PROTECT_GIT",
            "What happens when an agent changes files that other programs execute later, as hooks of Git: "
            "`warn`: they are named, `refuse`: what commands change is moved aside, too, `off`: nothing.",
            choice_of(get_args(ProtectGit)),
            "warn",
        ),
    ]
    isolation: Annotated[
        IsolationSetting,
        Variable(
            "STIGMER_ISOLATION",
            "What to do where agents' commands cannot be isolated well enough: `require`: refuse them, "
            "`warn`: run them and say so, `off`: never isolate. The container image sets `require`.",
            choice_of(get_args(IsolationSetting)),
            "warn",
        ),
    ]
    isolation_read_paths: Annotated[
        tuple[Path, ...] | None,
        Variable(
            "STIGMER_ISOLATION_READ_PATHS",
            "Further files and directories that commands may read and execute, separated by colons.",
            parse_paths,
        ),
    ]
    mcp_allow_hosts: Annotated[
        tuple[str, ...],
        Variable(
            "STIGMER_MCP_ALLOW_HOSTS",
            "Hosts, or host:port, separated by commas, at which MCP servers at a URL may be though their "
            "addresses are this machine's own or its cloud's (loopback, link-local, metadata); `*`: all.",
            parse_hosts,
            "",
        ),
    ]
    web_allow_hosts: Annotated[
        tuple[str, ...],
        Variable(
            "STIGMER_WEB_ALLOW_HOSTS",
            "Hosts, or host:port, separated by commas, that tools of `openapi` and `web` may call though "
            "their addresses are not public (private, loopback, link-local, metadata); `*`: all.",
            parse_hosts,
            "",
        ),
    ]
    isolation_web_ports: Annotated[
        tuple[int, ...],
        Variable(
            "STIGMER_ISOLATION_WEB_PORTS",
            "TCP ports, separated by commas, that commands of agents with `network: web` may connect to.",
            parse_ports,
            "443",
        ),
    ]
    isolation_proxy: Annotated[
        str | None,
        Variable(
            "STIGMER_ISOLATION_PROXY",
            "URL of an HTTP proxy that commands with a network are told to use.",
            parse_url,
        ),
    ]
    isolation_processes: Annotated[
        int,
        Variable(
            "STIGMER_ISOLATION_PROCESSES",
            "Processes and threads that the commands of one session may have at once; 0: no limit. In a "
            "container at most half of what it leaves them.",
            integer_between(0, 1_000_000),
            "512",
        ),
    ]
    isolation_memory_mb: Annotated[
        int | None,
        Variable(
            "STIGMER_ISOLATION_MEMORY_MB",
            "Private memory of each process of a command, in MiB; 0: no limit. Unset: half of the machine's, "
            "or the container's.",
            integer_between(0),
        ),
    ]
    isolation_disk_mb: Annotated[
        int,
        Variable(
            "STIGMER_ISOLATION_DISK_MB",
            "What a session's directory may hold, in MiB, and most that one file may; 0: no limit.",
            integer_between(0),
            "10240",
        ),
    ]
    llm_provider: Annotated[
        str | None,
        Variable(
            "STIGMER_LLM_PROVIDER",
            "Provider for agents that name no model: openai, anthropic, ollama, openai-compatible, replay, "
            "or an endpoint of STIGMER_LLM_ENDPOINTS.",
            parse_text,
        ),
    ]
    llm_model: Annotated[
        str | None,
        Variable(
            "STIGMER_LLM_MODEL", "Model for agents that name none, as the provider calls it.", parse_text
        ),
    ]
    llm_base_url: Annotated[
        str | None,
        Variable(
            "STIGMER_LLM_BASE_URL",
            "Base URL of the API of the provider that STIGMER_LLM_PROVIDER names; unset there: of "
            "openai-compatible.",
            parse_url,
        ),
    ]
    llm_api_key: Annotated[
        "SecretStr | None",
        Variable(
            "STIGMER_LLM_API_KEY",
            "API key of the provider that STIGMER_LLM_PROVIDER names, before the provider's own variable; "
            "unset there: of openai-compatible.",
            parse_secret,
            is_secret=True,
        ),
    ]
    openai_api_key: Annotated[
        "SecretStr | None", Variable("OPENAI_API_KEY", "OpenAI's API key.", parse_secret, is_secret=True)
    ]
    openai_base_url: Annotated[
        str | None,
        Variable("OPENAI_BASE_URL", "Base URL of OpenAI's API instead of its own.", parse_url),
    ]
    anthropic_base_url: Annotated[
        str | None,
        Variable("ANTHROPIC_BASE_URL", "Base URL of Anthropic's API instead of its own.", parse_url),
    ]
    llm_endpoints: Annotated[
        tuple[KeyedEndpoint, ...],
        Variable(
            "STIGMER_LLM_ENDPOINTS",
            "Further servers with OpenAI's Chat Completions API, as JSON: `{NAME: {url, key, keyHeader, "
            "headers}}`, where `key` names the variable that holds the API key, or is `secret:NAME`. A model "
            "of theirs is `NAME:model`.",
            parse_model_endpoints,
            "{}",
        ),
    ]
    anthropic_api_key: Annotated[
        "SecretStr | None",
        Variable("ANTHROPIC_API_KEY", "Anthropic's API key.", parse_secret, is_secret=True),
    ]
    ollama_base_url: Annotated[
        str,
        Variable("OLLAMA_BASE_URL", "Where Ollama answers.", parse_address_or_url, "http://localhost:11434"),
    ]
    llm_max_tokens: Annotated[
        int | None,
        Variable(
            "STIGMER_LLM_MAX_TOKENS",
            "Most tokens of one answer, where the agent says nothing.",
            integer_between(1),
        ),
    ]
    llm_temperature: Annotated[
        float | None,
        Variable(
            "STIGMER_LLM_TEMPERATURE",
            "Randomness from 0 to 2, where the agent says nothing.",
            number_between(0, 2),
        ),
    ]
    log_level: Annotated[
        LogLevel,
        Variable("LOG_LEVEL", "Least important level that is logged.", choice_of(get_args(LogLevel)), "info"),
    ]
    log_format: Annotated[
        LogFormat, Variable("LOG_FORMAT", "How log lines look.", choice_of(get_args(LogFormat)), "text")
    ]
    otlp_endpoint: Annotated[
        str | None,
        Variable(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "URL of an OpenTelemetry collector that takes OTLP over HTTP; traces go to its path /v1/traces. "
            "Unset: nothing is traced.",
            parse_url,
        ),
    ]
    otlp_headers: Annotated[
        "SecretStr | None",
        Variable(
            "OTEL_EXPORTER_OTLP_HEADERS",
            "HTTP headers for the collector, such as `authorization=Bearer%20…`, separated by commas.",
            parse_headers,
            is_secret=True,
        ),
    ]
    health_host: Annotated[
        str,
        Variable(
            "STIGMER_HEALTH_HOST", "Interface on which /healthz and /readyz answer.", parse_text, "127.0.0.1"
        ),
    ]
    health_port: Annotated[
        int,
        Variable(
            "STIGMER_HEALTH_PORT",
            "Port on which /healthz and /readyz answer.",
            integer_between(0, 65535),
            "7235",
        ),
    ]
    drain_grace_seconds: Annotated[
        float,
        Variable(
            "STIGMER_DRAIN_GRACE_SECONDS",
            "Longest time in seconds, after SIGTERM, for steps in hand to be finished and written down.",
            number_between(0, 86400),
            "10",
        ),
    ]

    secret_files: tuple[Path, ...] = ()
    """The files that secrets were read from."""

    @property
    def uses_temporal_tls(self) -> bool:
        """Whether the connection to Temporal is encrypted."""
        if self.temporal_tls is not None:
            return self.temporal_tls
        return any(
            value is not None
            for value in (
                self.temporal_api_key,
                self.temporal_tls_client_cert_path,
                self.temporal_tls_client_key_path,
                self.temporal_tls_server_ca_cert_path,
                self.temporal_tls_server_name,
            )
        )


_LOOPBACK_OF: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # compared with, not bound
"""Where those who listen on all interfaces are asked on their own machine."""


def _variables_by_field() -> dict[str, Variable]:
    return {
        name: annotated.__metadata__[0]
        for name, annotated in RunnerSettings.__annotations__.items()
        if hasattr(annotated, "__metadata__")
    }


def secrets_of(settings: RunnerSettings) -> "dict[str, SecretStr]":
    """The secrets among the settings that are set, by variable."""
    values = {
        variable.name: cast("SecretStr | None", getattr(settings, field_name))
        for field_name, variable in _variables_by_field().items()
        if variable.is_secret
    }
    keys = {keyed.endpoint.key: keyed.key for keyed in settings.llm_endpoints if keyed.endpoint.key}
    return {name: value for name, value in {**values, **keys}.items() if value is not None}


def variables() -> list[Variable]:
    """Every variable that the runner reads, in the order of the reference page."""
    return list(_variables_by_field().values())


def load_settings(environ: Mapping[str, str]) -> RunnerSettings:
    """Read every variable. An empty value counts as unset.

    Raises:
        SettingsError: a value is wrong or missing; names the variable and what would be right.
    """
    try:
        return _load(Environment(under_present_names(environ, FORMER_VARIABLES)))
    except VariableWrong as error:
        raise SettingsError(error.variable, error.problem) from error


def _load(environment: Environment) -> RunnerSettings:
    values: dict[str, Any] = {  # each parser returns its field's type
        field_name: _read(variable, environment) for field_name, variable in _variables_by_field().items()
    }
    endpoints = tuple(_with_key(keyed, environment) for keyed in values.pop("llm_endpoints"))
    providers = (*PROVIDERS, *(keyed.endpoint.name for keyed in endpoints))
    provider: str | None = values["llm_provider"]
    if provider is not None and provider not in providers:
        raise VariableWrong("STIGMER_LLM_PROVIDER", f"{provider!r} is none of {', '.join(providers)}")
    keys = [keyed.endpoint.key for keyed in endpoints if keyed.endpoint.key is not None]
    settings = RunnerSettings(
        **values, llm_endpoints=endpoints, secret_files=_secret_files(environment, keys)
    )
    if (settings.temporal_tls_client_cert_path is None) != (settings.temporal_tls_client_key_path is None):
        missing = "KEY" if settings.temporal_tls_client_key_path is None else "CERT"
        raise VariableWrong(
            f"TEMPORAL_TLS_CLIENT_{missing}_PATH", "is not set; the client's certificate and key go together"
        )
    return settings


def _secret_files(environment: Environment, keys: Sequence[str]) -> tuple[Path, ...]:
    names = [*(variable.name for variable in variables() if variable.is_secret), *keys]
    named = [f"{name}_FILE" for name in names]
    paths = (environment.text(name) for name in (*named, "TEMPORAL_TLS_CLIENT_KEY_PATH"))
    return tuple(Path(path).absolute() for path in paths if path is not None)


def read_health_address(environ: Mapping[str, str]) -> tuple[str, int]:
    """Only where health is answered, for the probe, which needs no other value to be right.

    Raises:
        SettingsError: the value is wrong.
    """
    variables_by_field, environment = _variables_by_field(), Environment(environ)
    try:
        host = cast("str", _read(variables_by_field["health_host"], environment))
        port = cast("int", _read(variables_by_field["health_port"], environment))
    except VariableWrong as error:
        raise SettingsError(error.variable, error.problem) from error
    return _LOOPBACK_OF.get(host, host), port


def _read(variable: Variable, environment: Environment) -> object:
    name = variable.name
    text = environment.secret_text(name) if variable.is_secret else environment.text(name)
    text = text or variable.default
    if text is None:
        if variable.required:
            or_file = f" or {name}_FILE" if variable.is_secret else ""
            raise VariableWrong(name, f"is not set; set {name}{or_file}")
        return None
    try:
        return variable.parse(text)
    except ValueError as error:
        raise VariableWrong(name, str(error)) from error


def _with_key(keyed: KeyedEndpoint, environment: Environment) -> KeyedEndpoint:
    if keyed.endpoint.key is None:
        return keyed
    text = environment.secret_text(keyed.endpoint.key)
    return KeyedEndpoint(keyed.endpoint, None if text is None else parse_secret(text))
