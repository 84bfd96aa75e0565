"""What the runner is told by its environment, read once into a frozen object; nothing else reads it.

Imports pydantic only where a value needs it, and of the contract nothing that does, so that
`agent-runner health` stays light. Whether a model or a server exists is not checked here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args
from urllib.parse import urlsplit

from agent_runner.errors import SettingsError

if TYPE_CHECKING:
    from pydantic import SecretStr

Mode = Literal["local", "cloud"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]
LlmProvider = Literal["openai", "anthropic", "ollama", "openai-compatible", "replay"]

Parser = Callable[[str], object]
"""Reads a variable's text; raises ValueError with what would be right."""


@dataclass(frozen=True)
class Variable:
    """One environment variable, as the reference page shows it."""

    name: str
    description: str
    """One or two sentences, with the unit where there is one."""
    parse: Parser
    default: str | None = None
    """The text that applies where the variable is unset; None: no value."""
    required: bool = False
    is_secret: bool = False
    """Then `NAME_FILE` may name a file that holds the value instead."""


def _text(text: str) -> str:
    return text


def _choice(allowed: tuple[str, ...]) -> Parser:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"{text!r} is none of {', '.join(allowed)}")
        return text

    return parse


def _integer(minimum: int, maximum: int | None = None) -> Parser:
    expected = f"a whole number from {minimum}" + (f" to {maximum}" if maximum is not None else " up")

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise ValueError(f"{text!r} is not {expected}") from None
        if number < minimum or (maximum is not None and number > maximum):
            raise ValueError(f"{text!r} is not {expected}")
        return number

    return parse


def _number(minimum: float, maximum: float) -> Parser:
    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not minimum <= number <= maximum:  # also refuses NaN
            raise ValueError(f"{text!r} is not a number from {minimum:g} to {maximum:g}")
        return number

    return parse


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "1"):
        return True
    if text.lower() in ("false", "0"):
        return False
    raise ValueError(f"{text!r} is none of true, false")


def _address(text: str) -> str:
    try:
        split = urlsplit(f"//{text}")
        valid = bool(split.hostname) and split.port is not None and split.netloc == text and "@" not in text
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(f"{text!r} is not an address; write host:port, such as localhost:7233")
    return text


def _url(text: str) -> str:
    try:
        split = urlsplit(text)
        valid = split.scheme in ("http", "https") and bool(split.hostname) and (split.port or 1) > 0
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(f"{text!r} is not a URL; write http://host:port or https://host")
    return text.rstrip("/")


def _address_or_url(text: str) -> str:
    try:
        return _url(text if "://" in text else f"http://{_address(text)}")
    except ValueError:
        raise ValueError(
            f"{text!r} is not an address; write host:port, http://host:port or https://host"
        ) from None


def _existing_file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise ValueError(f"{text!r} is not a file")
    return path


def _absolute_directory(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        raise ValueError(f"{text!r} is not an absolute path")
    return path


def _secret(text: str) -> "SecretStr":
    from pydantic import SecretStr

    return SecretStr(text)


@dataclass(frozen=True, kw_only=True)
class RunnerSettings:
    """The runner's configuration; each field carries the variable it comes from."""

    mode: Annotated[
        Mode,
        Variable(
            "MODE",
            "`local`: one person's machine; `cloud`: a fleet, where cassettes come from the blob store only.",
            _choice(get_args(Mode)),
            "local",
        ),
    ]
    temporal_address: Annotated[
        str,
        Variable("TEMPORAL_SERVICE_ADDRESS", "Temporal's frontend, host:port.", _address, "localhost:7233"),
    ]
    temporal_namespace: Annotated[
        str, Variable("TEMPORAL_NAMESPACE", "Temporal namespace.", _text, "default")
    ]
    temporal_task_queue: Annotated[
        str,
        Variable(
            "TEMPORAL_AGENT_EXECUTION_RUNNER_TASK_QUEUE",
            "Task queue that this runner polls.",
            _text,
            "agent_execution_runner",
        ),
    ]
    temporal_max_concurrency: Annotated[
        int,
        Variable(
            "TEMPORAL_MAX_CONCURRENCY",
            "Most executions that this runner works on at once.",
            _integer(1, 10_000),
            "200",
        ),
    ]
    temporal_api_key: Annotated[
        "SecretStr | None",
        Variable("TEMPORAL_API_KEY", "API key of Temporal Cloud; turns TLS on.", _secret, is_secret=True),
    ]
    temporal_tls: Annotated[
        bool | None,
        Variable(
            "TEMPORAL_TLS",
            "Whether to use TLS; unset: where an API key or one of the other TEMPORAL_TLS variables is set.",
            _boolean,
        ),
    ]
    temporal_tls_client_cert_path: Annotated[
        Path | None,
        Variable(
            "TEMPORAL_TLS_CLIENT_CERT_PATH", "Client certificate (PEM file) for mutual TLS.", _existing_file
        ),
    ]
    temporal_tls_client_key_path: Annotated[
        Path | None,
        Variable(
            "TEMPORAL_TLS_CLIENT_KEY_PATH",
            "Private key (PEM file) of the client certificate.",
            _existing_file,
        ),
    ]
    temporal_tls_server_ca_cert_path: Annotated[
        Path | None,
        Variable(
            "TEMPORAL_TLS_SERVER_CA_CERT_PATH",
            "Authority (PEM file) that signed Temporal's certificate; unset: the system's authorities.",
            _existing_file,
        ),
    ]
    temporal_tls_server_name: Annotated[
        str | None,
        Variable("TEMPORAL_TLS_SERVER_NAME", "Host name that Temporal's certificate must carry.", _text),
    ]
    backend_endpoint: Annotated[
        str,
        Variable(
            "STIGMER_BACKEND_ENDPOINT",
            "Where stigmer-server answers: host:port, or an http(s) URL.",
            _address_or_url,
            "localhost:7234",
        ),
    ]
    token: Annotated[
        "SecretStr",
        Variable("STIGMER_TOKEN", "Bearer token for stigmer-server.", _secret, required=True, is_secret=True),
    ]
    sandbox_root_dir: Annotated[
        Path,
        Variable(
            "SANDBOX_ROOT_DIR",
            "Directory under which each session gets its workspace.",
            _absolute_directory,
            "/workspace",
        ),
    ]
    llm_provider: Annotated[
        LlmProvider | None,
        Variable(
            "STIGMER_LLM_PROVIDER",
            "Provider for agents that name no model: openai, anthropic, ollama, openai-compatible or replay.",
            _choice(get_args(LlmProvider)),
        ),
    ]
    llm_model: Annotated[
        str | None,
        Variable("STIGMER_LLM_MODEL", "Model for agents that name none, as the provider calls it.", _text),
    ]
    llm_base_url: Annotated[
        str | None,
        Variable(
            "STIGMER_LLM_BASE_URL",
            "Base URL of the provider's API instead of its own; needed for openai-compatible. Where "
            "STIGMER_LLM_PROVIDER is set, for that provider only.",
            _url,
        ),
    ]
    llm_api_key: Annotated[
        "SecretStr | None",
        Variable(
            "STIGMER_LLM_API_KEY",
            "API key that wins over the provider's own variable. Where STIGMER_LLM_PROVIDER is set, for that "
            "provider only.",
            _secret,
            is_secret=True,
        ),
    ]
    openai_api_key: Annotated[
        "SecretStr | None", Variable("OPENAI_API_KEY", "OpenAI's API key.", _secret, is_secret=True)
    ]
    anthropic_api_key: Annotated[
        "SecretStr | None", Variable("ANTHROPIC_API_KEY", "Anthropic's API key.", _secret, is_secret=True)
    ]
    ollama_base_url: Annotated[
        str, Variable("OLLAMA_BASE_URL", "Where Ollama answers.", _address_or_url, "http://localhost:11434")
    ]
    llm_max_tokens: Annotated[
        int | None,
        Variable(
            "STIGMER_LLM_MAX_TOKENS", "Most tokens of one answer, where the agent says nothing.", _integer(1)
        ),
    ]
    llm_temperature: Annotated[
        float | None,
        Variable(
            "STIGMER_LLM_TEMPERATURE", "Randomness from 0 to 2, where the agent says nothing.", _number(0, 2)
        ),
    ]
    log_level: Annotated[
        LogLevel,
        Variable("LOG_LEVEL", "Least important level that is logged.", _choice(get_args(LogLevel)), "info"),
    ]
    log_format: Annotated[
        LogFormat, Variable("LOG_FORMAT", "How log lines look.", _choice(get_args(LogFormat)), "text")
    ]
    otel_exporter_otlp_endpoint: Annotated[
        str | None,
        Variable("OTEL_EXPORTER_OTLP_ENDPOINT", "Where OpenTelemetry traces go; unset: nowhere.", _url),
    ]
    health_host: Annotated[
        str,
        Variable(
            "STIGMER_HEALTH_HOST", "Interface on which /healthz and /readyz answer.", _text, "127.0.0.1"
        ),
    ]
    health_port: Annotated[
        int,
        Variable(
            "STIGMER_HEALTH_PORT", "Port on which /healthz and /readyz answer.", _integer(0, 65535), "7235"
        ),
    ]
    drain_grace_seconds: Annotated[
        float,
        Variable(
            "STIGMER_DRAIN_GRACE_SECONDS",
            "Longest time in seconds, after SIGTERM, for steps in hand to be finished and written down.",
            _number(0, 86400),
            "10",
        ),
    ]

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


def _variables_by_field() -> dict[str, Variable]:
    return {name: annotated.__metadata__[0] for name, annotated in RunnerSettings.__annotations__.items()}


def variables() -> list[Variable]:
    """Every variable that the runner reads, in the order of the reference page."""
    return list(_variables_by_field().values())


def load_settings(environ: Mapping[str, str]) -> RunnerSettings:
    """Read every variable. An empty value counts as unset.

    Raises:
        SettingsError: a value is wrong or missing; names the variable and what would be right.
    """
    values: dict[str, Any] = {  # each parser returns its field's type
        field_name: _read(variable, environ) for field_name, variable in _variables_by_field().items()
    }
    settings = RunnerSettings(**values)
    if (settings.temporal_tls_client_cert_path is None) != (settings.temporal_tls_client_key_path is None):
        missing = "KEY" if settings.temporal_tls_client_key_path is None else "CERT"
        raise SettingsError(
            f"TEMPORAL_TLS_CLIENT_{missing}_PATH", "is not set; the client's certificate and key go together"
        )
    return settings


def read_health_port(environ: Mapping[str, str]) -> int:
    """Only the health port, for the probe, which needs no other value to be right.

    Raises:
        SettingsError: the value is wrong.
    """
    return cast("int", _read(_variables_by_field()["health_port"], environ))


def _read(variable: Variable, environ: Mapping[str, str]) -> object:
    text = environ.get(variable.name, "").strip()
    if variable.is_secret:
        text = _read_secret(variable.name, text, environ)
    text = text or variable.default or ""
    if not text:
        if variable.required:
            or_file = f" or {variable.name}_FILE" if variable.is_secret else ""
            raise SettingsError(variable.name, f"is not set; set {variable.name}{or_file}")
        return None
    try:
        return variable.parse(text)
    except ValueError as error:
        raise SettingsError(variable.name, str(error)) from error


def _read_secret(name: str, text: str, environ: Mapping[str, str]) -> str:
    file_variable = f"{name}_FILE"
    path = environ.get(file_variable, "").strip()
    if not path:
        return text
    if text:
        raise SettingsError(file_variable, f"is set beside {name}; keep one of them")
    try:
        secret = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(file_variable, f"could not read {path!r}: {reason}") from error
    if not secret:
        raise SettingsError(file_variable, f"the file {path!r} is empty")
    return secret
