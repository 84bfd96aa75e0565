"""The catalogue of settings: key, variables, default, meaning. Reading them is `reader`'s work."""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from stigmer_cli.config.values import Secret, authorities, capabilities, duration, endpoints, secret, size
from stigmer_contract.environment import (
    Environment,
    LogLevel,
    Parser,
    choice_of,
    integer_between,
    number_between,
    parse_address,
    parse_address_or_url,
    parse_boolean,
    parse_existing_file,
    parse_text,
    parse_url,
)

if TYPE_CHECKING:
    from stigmer_contract.model_names import ModelEndpoint

EngineChoice = Literal["auto", "docker", "podman", "none"]
Verify = Literal["auto", "require", "off"]
RetentionOfBlobs = Literal["keep", "unreferenced"]
PullPolicy = Literal["missing", "always", "never"]
SelinuxLabel = Literal["auto", "none", "shared", "private"]

_PORT = integer_between(1, 65535)


@dataclass(frozen=True)
class Setting:
    """One setting, as config.yaml, the environment and the reference page know it."""

    key: str
    """Path in config.yaml, camelCase with dots."""
    variable: str
    """Environment variable; wins over config.yaml."""
    description: str
    parse: Parser[object]
    default: str | None = None
    """The text that applies where nobody sets it; None: no value."""
    is_secret: bool = False
    """Then `NAME_FILE` may name a file that holds the value, and it is shown masked."""
    is_mapping: bool = False
    """Then config.yaml may hold it as a mapping; else it is the text of one, as JSON."""


@dataclass(frozen=True)
class Connection:
    """Where a stigmer-server answers, and the token that it wants."""

    endpoint: str
    """Base URL without a slash at its end, such as `http://127.0.0.1:7234`."""
    token: str = field(repr=False)
    ca_bundle: Path | None = None
    """Authorities that are trusted; None: those of SSL_CERT_FILE, or the usual ones."""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """Everything that the command line is told. Each field carries its setting."""

    home: Path
    """STIGMER_HOME: the state folder, absolute."""
    temporal_address: Annotated[
        str | None,
        Setting(
            "temporal.address",
            "TEMPORAL_SERVICE_ADDRESS",
            "A Temporal that runs already, host:port; unset: the stack runs its own.",
            parse_address,
        ),
    ]
    temporal_namespace: Annotated[
        str, Setting("temporal.namespace", "TEMPORAL_NAMESPACE", "Temporal namespace.", parse_text, "default")
    ]
    temporal_task_queue: Annotated[
        str,
        Setting(
            "temporal.taskQueue",
            "TEMPORAL_AGENT_EXECUTION_RUNNER_TASK_QUEUE",
            "Task queue between server and runner.",
            parse_text,
            "agent_execution_runner",
        ),
    ]
    temporal_port: Annotated[
        int,
        Setting("temporal.port", "STIGMER_TEMPORAL_PORT", "Port of the stack's own Temporal.", _PORT, "7233"),
    ]
    temporal_ui_port: Annotated[
        int | None,
        Setting(
            "temporal.uiPort",
            "STIGMER_TEMPORAL_UI_PORT",
            "Port of the web page of the stack's own Temporal; unset: no page.",
            _PORT,
        ),
    ]
    server_endpoint: Annotated[
        str | None,
        Setting(
            "server.endpoint",
            "STIGMER_BACKEND_ENDPOINT",
            "A stigmer-server that runs elsewhere; unset: the local stack's.",
            parse_address_or_url,
        ),
    ]
    server_token: Annotated[
        Secret | None,
        Setting(
            "server.token",
            "STIGMER_TOKEN",
            "Token for `server.endpoint`; the local stack makes its own.",
            secret,
            is_secret=True,
        ),
    ]
    server_port: Annotated[
        int, Setting("server.port", "STIGMER_PORT", "Port of the local stigmer-server.", _PORT, "7234")
    ]
    server_database_url: Annotated[
        Secret | None,
        Setting(
            "server.databaseUrl",
            "STIGMER_DATABASE_URL",
            "Database of the local stigmer-server; unset: a SQLite file in STIGMER_HOME.",
            secret,
            is_secret=True,
        ),
    ]
    runner_health_port: Annotated[
        int,
        Setting("runner.healthPort", "STIGMER_HEALTH_PORT", "Port of the runner's health.", _PORT, "7235"),
    ]
    runner_spare: Annotated[
        bool,
        Setting(
            "runner.spare",
            "STIGMER_RUNNER_SPARE",
            "Whether a second process stands ready to take over where the runner, as a plain process, dies.",
            parse_boolean,
            "true",
        ),
    ]
    runner_max_concurrency: Annotated[
        int | None,
        Setting(
            "runner.maxConcurrency",
            "TEMPORAL_MAX_CONCURRENCY",
            "Most executions that the runner works on at once; unset: the runner's default.",
            integer_between(1, 10_000),
        ),
    ]
    retention_executions: Annotated[
        timedelta | None,
        Setting(
            "retention.executions",
            "STIGMER_RETENTION_EXECUTIONS",
            "How long sessions and their logs are kept after their last execution, such as 90d.",
            duration,
        ),
    ]
    retention_workspaces: Annotated[
        timedelta | None,
        Setting(
            "retention.workspaces",
            "STIGMER_RETENTION_WORKSPACES",
            "How long the own directories of sessions in which nothing runs are kept, such as 30d.",
            duration,
        ),
    ]
    retention_blobs: Annotated[
        RetentionOfBlobs,
        Setting(
            "retention.blobs",
            "STIGMER_RETENTION_BLOBS",
            "Large values that no log and no agent names any more: keep, or unreferenced to remove them.",
            choice_of(get_args(RetentionOfBlobs)),
            "keep",
        ),
    ]
    runner_idle_after: Annotated[
        timedelta,
        Setting(
            "runner.idleAfter",
            "STIGMER_RUNNER_IDLE_AFTER",
            "After how long without work a container for a workspace directory ends, such as 90s, 10m, 2h.",
            duration,
            "10m",
        ),
    ]
    runner_max_containers: Annotated[
        int | None,
        Setting(
            "runner.maxContainers",
            "STIGMER_RUNNER_MAX_CONTAINERS",
            "Most containers for workspace directories side by side; unset: one for each 256 MiB of this "
            "machine's memory.",
            integer_between(1, 1000),
        ),
    ]
    runner_engine: Annotated[
        EngineChoice,
        Setting(
            "runner.engine",
            "STIGMER_ENGINE",
            "What runs the runner: none a plain process; docker or podman a container, else it is an error; "
            "auto a container where there are an engine and an image, else a plain process.",
            choice_of(get_args(EngineChoice)),
            "auto",
        ),
    ]
    runner_require_container: Annotated[
        bool,
        Setting(
            "runner.requireContainer",
            "STIGMER_REQUIRE_CONTAINER",
            "Whether the runner is never a plain process, also where no container can be had: true or false.",
            parse_boolean,
            "false",
        ),
    ]
    runner_image: Annotated[
        str | None,
        Setting(
            "runner.image",
            "STIGMER_AGENT_RUNNER_IMAGE",
            "The runner's image; unset: the one of exactly this version.",
            parse_text,
        ),
    ]
    runner_pull_policy: Annotated[
        PullPolicy,
        Setting(
            "runner.pullPolicy",
            "STIGMER_PULL_POLICY",
            "When the image is pulled: missing, always or never.",
            choice_of(get_args(PullPolicy)),
            "missing",
        ),
    ]
    runner_verify: Annotated[
        Verify,
        Setting(
            "runner.verify",
            "STIGMER_VERIFY",
            "Whether a pulled image must be signed: auto where it is known by whom, as it is of Stigmer's "
            "own images; require always; off never.",
            choice_of(get_args(Verify)),
            "auto",
        ),
    ]
    runner_signer: Annotated[
        str | None,
        Setting(
            "runner.signer",
            "STIGMER_SIGNER",
            "The GitHub workflow that signs `runner.image`, as its certificate names it; `*` at its end "
            "stands for anything. Unset: for Stigmer's own images Stigmer's, for others nobody.",
            parse_text,
        ),
    ]
    runner_trust_root: Annotated[
        Path | None,
        Setting(
            "runner.trustRoot",
            "STIGMER_TRUST_ROOT",
            "Sigstore's trusted_root.json that signatures are checked by; unset: the public Sigstore's.",
            parse_existing_file,
        ),
    ]
    runner_memory_bytes: Annotated[
        int,
        Setting(
            "runner.memory",
            "STIGMER_RUNNER_MEMORY",
            "Most memory of the runner's container, with all that agents run in it.",
            size(256 * 1024**2),
            "4g",
        ),
    ]
    runner_pids: Annotated[
        int | None,
        Setting(
            "runner.pids",
            "STIGMER_RUNNER_PIDS",
            "Most processes and threads in the runner's container; unset: 640, and 16 for each of "
            "`runner.maxConcurrency`.",
            integer_between(64, 1_000_000),
        ),
    ]
    runner_cpus: Annotated[
        float | None,
        Setting(
            "runner.cpus",
            "STIGMER_RUNNER_CPUS",
            "Most processors that the runner's container may use; unset: all.",
            number_between(0.1, 10_000),
        ),
    ]
    runner_read_only_root: Annotated[
        bool,
        Setting(
            "runner.readOnlyRoot",
            "STIGMER_RUNNER_READ_ONLY_ROOT",
            "Whether the root file system of the runner's container cannot be written: true or false.",
            parse_boolean,
            "true",
        ),
    ]
    runner_temporary_bytes: Annotated[
        int,
        Setting(
            "runner.temporarySize",
            "STIGMER_RUNNER_TEMPORARY_SIZE",
            "Size of /tmp in the runner's container, which is memory.",
            size(16 * 1024**2),
            "256m",
        ),
    ]
    runner_capabilities: Annotated[
        tuple[str, ...],
        Setting(
            "runner.capabilities",
            "STIGMER_RUNNER_CAPABILITIES",
            "Capabilities of the runner's container, such as `NET_BIND_SERVICE,CHOWN`; `none` for none.",
            capabilities,
            "none",
        ),
    ]
    runner_new_privileges: Annotated[
        bool,
        Setting(
            "runner.newPrivileges",
            "STIGMER_RUNNER_NEW_PRIVILEGES",
            "Whether programs in the runner's container may gain rights, as `sudo` does: true or false.",
            parse_boolean,
            "false",
        ),
    ]
    runner_selinux_label: Annotated[
        SelinuxLabel,
        Setting(
            "runner.selinuxLabel",
            "STIGMER_SELINUX_LABEL",
            "How mounted directories are labelled: none, shared or private; auto: shared where the engine "
            "uses SELinux, else none.",
            choice_of(get_args(SelinuxLabel)),
            "auto",
        ),
    ]
    ca_bundle: Annotated[
        Path | None,
        Setting(
            "caBundle",
            "STIGMER_CA_BUNDLE",
            "Authorities (PEM file) that the command line and the runner trust; unset: SSL_CERT_FILE, "
            "else the usual ones.",
            authorities,
        ),
    ]
    llm_provider: Annotated[
        str | None,
        Setting(
            "llm.provider",
            "STIGMER_LLM_PROVIDER",
            "Provider for agents that name no model, or the name of one of `llm.endpoints`.",
            parse_text,
        ),
    ]
    llm_model: Annotated[
        str | None,
        Setting(
            "llm.model",
            "STIGMER_LLM_MODEL",
            "Model for agents that name none, as the provider calls it.",
            parse_text,
        ),
    ]
    llm_base_url: Annotated[
        str | None,
        Setting(
            "llm.baseUrl",
            "STIGMER_LLM_BASE_URL",
            "Base URL of the API of the provider that `llm.provider` names; unset there: of "
            "openai-compatible.",
            parse_url,
        ),
    ]
    llm_api_key: Annotated[
        Secret | None,
        Setting(
            "llm.apiKey",
            "STIGMER_LLM_API_KEY",
            "API key of the provider that `llm.provider` names; unset there: of openai-compatible.",
            secret,
            is_secret=True,
        ),
    ]
    openai_api_key: Annotated[
        Secret | None,
        Setting("llm.openaiApiKey", "OPENAI_API_KEY", "OpenAI's API key.", secret, is_secret=True),
    ]
    openai_base_url: Annotated[
        str | None,
        Setting(
            "llm.openaiBaseUrl", "OPENAI_BASE_URL", "Base URL of OpenAI's API instead of its own.", parse_url
        ),
    ]
    anthropic_base_url: Annotated[
        str | None,
        Setting(
            "llm.anthropicBaseUrl",
            "ANTHROPIC_BASE_URL",
            "Base URL of Anthropic's API instead of its own.",
            parse_url,
        ),
    ]
    llm_endpoints: Annotated[
        str | None,
        Setting(
            "llm.endpoints",
            "STIGMER_LLM_ENDPOINTS",
            "Further servers with OpenAI's Chat Completions API: a mapping of names to `url`, `key` (the "
            "environment variable that holds the API key, or `secret:NAME`), `keyHeader` and `headers`.",
            endpoints,
            is_mapping=True,
        ),
    ]
    anthropic_api_key: Annotated[
        Secret | None,
        Setting("llm.anthropicApiKey", "ANTHROPIC_API_KEY", "Anthropic's API key.", secret, is_secret=True),
    ]
    ollama_base_url: Annotated[
        str,
        Setting(
            "llm.ollamaBaseUrl",
            "OLLAMA_BASE_URL",
            "Where Ollama answers.",
            parse_address_or_url,
            "http://localhost:11434",
        ),
    ]
    llm_max_tokens: Annotated[
        int | None,
        Setting(
            "llm.maxTokens",
            "STIGMER_LLM_MAX_TOKENS",
            "Most tokens of one answer, where the agent says nothing.",
            integer_between(1),
        ),
    ]
    llm_temperature: Annotated[
        float | None,
        Setting(
            "llm.temperature",
            "STIGMER_LLM_TEMPERATURE",
            "Randomness from 0 to 2, where the agent says nothing.",
            number_between(0, 2),
        ),
    ]
    traces_endpoint: Annotated[
        str | None,
        Setting(
            "traces.endpoint",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "URL of an OpenTelemetry collector that the runner sends traces to; unset: nothing is traced.",
            parse_url,
        ),
    ]
    traces_headers: Annotated[
        Secret | None,
        Setting(
            "traces.headers",
            "OTEL_EXPORTER_OTLP_HEADERS",
            "HTTP headers for the collector, such as `authorization=Bearer%20…`, separated by commas.",
            secret,
            is_secret=True,
        ),
    ]
    log_level: Annotated[
        LogLevel,
        Setting(
            "logLevel",
            "LOG_LEVEL",
            "Least important level that the stack logs.",
            choice_of(get_args(LogLevel)),
            "info",
        ),
    ]
    sources: dict[str, str] = field(hash=False)
    """Where each value comes from, by key: `default`, a variable's name, or `FILE:LINE`."""
    environment: dict[str, str] = field(repr=False, hash=False)
    """The environment as it was read, for the programs that the stack starts."""

    @property
    def config_file(self) -> Path:
        """config.yaml."""
        return self.home / "config.yaml"

    @property
    def data_directory(self) -> Path:
        """Database, Temporal's file, blobs, workspaces."""
        return self.home / "data"

    @property
    def log_directory(self) -> Path:
        """What the parts of the stack say."""
        return self.home / "logs"

    @property
    def run_directory(self) -> Path:
        """Pids, locks, the token: valid only while something runs."""
        return self.home / "run"

    @property
    def model_endpoints(self) -> "tuple[ModelEndpoint, ...]":
        """What `llm.endpoints` describes."""
        from stigmer_contract.model_names import parse_endpoints

        return parse_endpoints(self.llm_endpoints) if self.llm_endpoints is not None else ()

    @property
    def endpoint_keys(self) -> dict[str, Secret]:
        """The API keys of `llm.endpoints` that are set, by the variable that holds them."""
        environment = Environment(self.environment)
        names = [endpoint.key for endpoint in self.model_endpoints if endpoint.key is not None]
        keys = {name: environment.secret_text(name) for name in names}
        return {name: Secret(key) for name, key in keys.items() if key is not None}

    @property
    def names_model(self) -> bool:
        """Whether a model is configured for agents that name none."""
        return self.llm_provider is not None and self.llm_model is not None


def settings_by_field() -> dict[str, Setting]:
    """Every setting, by the field of `Configuration` that holds it, in the reference page's order."""
    found: dict[str, Setting] = {}
    for name, annotation in Configuration.__annotations__.items():
        for metadata in getattr(annotation, "__metadata__", ()):
            if isinstance(metadata, Setting):
                found[name] = metadata
    return found
