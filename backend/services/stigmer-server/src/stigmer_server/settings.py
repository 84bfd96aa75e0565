"""What the server is told by its environment, read once into a frozen object; nothing else reads it.

Says what a value must look like, not whether what it points to exists.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

from stigmer_contract.environment import (
    Environment,
    LogLevel,
    Mode,
    VariableWrong,
    choice_of,
    integer_between,
    number_between,
    parse_address,
    parse_boolean,
    parse_existing_file,
    parse_hosts,
    parse_path,
    parse_paths,
)
from stigmer_contract.log_lines import LogFormat
from stigmer_contract.manifest_parts import parse_duration
from stigmer_contract.model_names import parse_endpoints
from stigmer_contract.temporal import DEFAULT_ADDRESS, DEFAULT_NAMESPACE, DEFAULT_TASK_QUEUE
from stigmer_server.errors import SettingsError

MIN_EXPOSED_TOKEN_LENGTH = 16
DEFAULT_ALLOWED_HOSTS = "localhost,127.0.0.1,[::1]"


@dataclass(frozen=True)
class TemporalSettings:
    """How Temporal is reached."""

    address: str
    """`TEMPORAL_SERVICE_ADDRESS`: host:port of the frontend; default localhost:7233."""
    namespace: str
    """`TEMPORAL_NAMESPACE`; default `default`."""
    task_queue: str
    """`TEMPORAL_AGENT_EXECUTION_RUNNER_TASK_QUEUE`; default agent_execution_runner."""
    api_key: str | None = field(repr=False)
    """`TEMPORAL_API_KEY` or `TEMPORAL_API_KEY_FILE`; turns TLS on."""
    tls: bool
    """`TEMPORAL_TLS`; default: on where an API key or a TLS file is given."""
    client_certificate: Path | None
    """`TEMPORAL_TLS_CLIENT_CERT_PATH`: PEM file, together with the key."""
    client_key: Path | None
    """`TEMPORAL_TLS_CLIENT_KEY_PATH`: PEM file."""
    server_ca: Path | None
    """`TEMPORAL_TLS_SERVER_CA_CERT_PATH`: PEM file; default: the system's authorities."""
    server_name: str | None
    """`TEMPORAL_TLS_SERVER_NAME`: name that the certificate must carry."""


@dataclass(frozen=True)
class TlsFiles:
    """With what the server proves who it is; without them it speaks plain HTTP."""

    certificate: Path
    """`STIGMER_TLS_CERT_FILE`: PEM file with the certificate and its chain, together with the key."""
    key: Path
    """`STIGMER_TLS_KEY_FILE`: PEM file with its private key, not encrypted."""


@dataclass(frozen=True)
class Retention:
    """How long what is kept is kept."""

    executions: timedelta | None
    """`STIGMER_RETENTION_EXECUTIONS`: sessions whose last execution ended longer ago are forgotten with their
    logs, such as 90d; default: they are kept."""
    workspaces: timedelta | None
    """`STIGMER_RETENTION_WORKSPACES`: the own directories of sessions in which nothing has run for longer are
    removed, such as 30d, where the server shares a machine with the runners; a directory that a person named
    never is. Default: they are kept."""
    unreferenced_blobs: bool
    """`STIGMER_RETENTION_BLOBS`: `unreferenced` removes large values that no log and no agent names any more,
    a day after they were stored; default keep."""

    @property
    def removes_anything(self) -> bool:
        """Whether there is something that is not kept for ever."""
        return self.executions is not None or self.workspaces is not None or self.unreferenced_blobs


@dataclass(frozen=True)
class Settings:
    """The server's configuration."""

    home: Path
    """`STIGMER_HOME`: the state's directory; default ~/.stigmer."""
    mode: Mode
    """`MODE`: `local`, one person's machine, where runners see the same directories, or `cloud`; default
    local."""
    workspace_roots: tuple[Path, ...]
    """`STIGMER_WORKSPACE_ROOTS`: directories, with colons between, in which others than the administrator
    may choose the workspace of a session; default: the user's home, with `MODE=cloud` none."""
    host: str
    """`STIGMER_HOST`: address to listen on; default 127.0.0.1. Any other than loopback needs TLS."""
    port: int
    """`STIGMER_PORT`: default 7234; 0 takes a free one."""
    tls: TlsFiles | None
    allow_plaintext: bool
    """`STIGMER_ALLOW_PLAINTEXT`: `true` listens beyond loopback without TLS, where everybody on that
    network can read tokens and prompts: behind a proxy, or where only containers are. Default false."""
    database_url: str = field(repr=False)
    """`STIGMER_DATABASE_URL`: `sqlite:///…` or `postgresql://…`; default data/stigmer.db in the home."""
    blob_directory: Path
    """`STIGMER_BLOB_DIR`: default data/blobs in the home."""
    secrets_key_file: Path
    """`STIGMER_SECRETS_KEY_FILE`: the keys that secrets are encrypted with, one a line, base64 of 32 bytes,
    the newest first; default secrets.key in the home, which is made where it is missing."""
    may_create_secrets_key: bool
    """Whether the file is this server's own."""
    model_keys: tuple[str, ...]
    """`STIGMER_LLM_ENDPOINTS`: as the runners have it. Where the `key` of an endpoint is `secret:NAME`, each
    leg is given the secret of that name that its execution's owner has; default: none."""
    token: str = field(repr=False)
    """`STIGMER_TOKEN` or `STIGMER_TOKEN_FILE`, required: the administrator's token, which makes others."""
    runner_token: str | None = field(repr=False)
    """`STIGMER_RUNNER_TOKEN` or `STIGMER_RUNNER_TOKEN_FILE`: a token of runners; default: none."""
    calls_per_second: float
    """`STIGMER_CALLS_PER_SECOND`: most calls with one token; default 5000, 0 for no limit."""
    calls_at_once: int
    """`STIGMER_CALLS_AT_ONCE`: most calls and open streams of one token; default 5000, 0 for no limit."""
    retention: Retention
    audit_retention: timedelta | None
    """`STIGMER_AUDIT_RETENTION_DAYS`: how long the audit trail is kept; default 365, 0 for ever."""
    public_url: str | None
    """`STIGMER_PUBLIC_URL`: where people reach this server, such as https://stigmer.example.com; messages to
    webhooks then hold a link that answers. Default: none."""
    webhook_hosts: frozenset[str]
    """`STIGMER_WEBHOOK_HOSTS`: hosts, with commas between, that webhooks may be on though their addresses are
    not public, and without TLS; default: none."""
    mcp_allow_hosts: tuple[str, ...]
    """`STIGMER_MCP_ALLOW_HOSTS`: as the runners have it; where people sign in at such MCP servers, hosts that
    are at these may be at any address, and without TLS. Default: none."""
    mcp_client_metadata_url: str | None
    """`STIGMER_MCP_CLIENT_METADATA_URL`: https address of a document that says who this client is, for
    authorization servers that take one in the place of a registration; default: none."""
    allowed_hosts: frozenset[str]
    """`STIGMER_ALLOWED_HOSTS`: names in `Host` that are answered, lower case; `*` allows every one."""
    temporal: TemporalSettings
    runner_per_workspace: bool
    """`STIGMER_RUNNER_PER_WORKSPACE`: `true` gives each workspace directory a task queue of its own, for
    which whoever follows `/v1/placements` starts a runner; default false: the standing runners do all."""
    reconcile_interval_seconds: float
    """`STIGMER_RECONCILE_INTERVAL_SECONDS`: default 15."""
    heartbeat_timeout_seconds: float
    """`STIGMER_LEG_HEARTBEAT_TIMEOUT_SECONDS`: after so long a silent runner is taken for dead; default 5."""
    log_level: LogLevel
    """`LOG_LEVEL`: debug, info, warning or error; default info."""
    log_format: LogFormat
    """`LOG_FORMAT`: default text."""


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Read the configuration.

    Raises:
        SettingsError: a variable has a wrong value, or a needed one is missing.
    """
    try:
        return _load(Environment(environ))
    except VariableWrong as error:
        raise SettingsError(error.variable, error.problem) from error


def _load(environment: Environment) -> Settings:
    home = environment.read("STIGMER_HOME", str(Path.home() / ".stigmer"), parse_path)
    token = _token(environment, "STIGMER_TOKEN")
    if token is None:
        raise VariableWrong(
            "STIGMER_TOKEN", "is not set; set it, or STIGMER_TOKEN_FILE, to the administrator's token"
        )
    runner_token = _token(environment, "STIGMER_RUNNER_TOKEN")
    if runner_token == token:
        raise VariableWrong("STIGMER_RUNNER_TOKEN", "is STIGMER_TOKEN; runners need a token of their own")
    host = environment.text("STIGMER_HOST") or "127.0.0.1"
    tls = _load_tls(environment)
    allow_plaintext = environment.read("STIGMER_ALLOW_PLAINTEXT", "false", parse_boolean)
    mode = environment.read("MODE", "local", choice_of(get_args(Mode)))
    roots = environment.optional("STIGMER_WORKSPACE_ROOTS", parse_paths)
    if not _is_loopback(host):
        _check_exposed(host, token, tls, allow_plaintext=allow_plaintext)
    return Settings(
        home=home,
        mode=mode,
        workspace_roots=((Path.home(),) if mode == "local" else ()) if roots is None else roots,
        host=host,
        port=environment.read("STIGMER_PORT", "7234", integer_between(0, 65535)),
        tls=tls,
        allow_plaintext=allow_plaintext,
        database_url=environment.read(
            "STIGMER_DATABASE_URL", f"sqlite:///{home / 'data' / 'stigmer.db'}", _database_url
        ),
        blob_directory=environment.read("STIGMER_BLOB_DIR", str(home / "data" / "blobs"), parse_path),
        secrets_key_file=environment.read("STIGMER_SECRETS_KEY_FILE", str(home / "secrets.key"), parse_path),
        may_create_secrets_key=environment.text("STIGMER_SECRETS_KEY_FILE") is None,
        model_keys=environment.optional("STIGMER_LLM_ENDPOINTS", _secrets_of_endpoints) or (),
        token=token,
        runner_token=runner_token,
        calls_per_second=environment.read("STIGMER_CALLS_PER_SECOND", "5000", integer_between(0, 9_999_999)),
        calls_at_once=environment.read("STIGMER_CALLS_AT_ONCE", "5000", integer_between(0, 9_999_999)),
        retention=Retention(
            executions=environment.optional("STIGMER_RETENTION_EXECUTIONS", parse_duration),
            workspaces=environment.optional("STIGMER_RETENTION_WORKSPACES", parse_duration),
            unreferenced_blobs=environment.read(
                "STIGMER_RETENTION_BLOBS", "keep", choice_of(("keep", "unreferenced"))
            )
            == "unreferenced",
        ),
        audit_retention=environment.read("STIGMER_AUDIT_RETENTION_DAYS", "365", _days),
        public_url=environment.optional("STIGMER_PUBLIC_URL", _public_url),
        webhook_hosts=environment.read("STIGMER_WEBHOOK_HOSTS", "", _plain_hosts),
        mcp_allow_hosts=environment.read("STIGMER_MCP_ALLOW_HOSTS", "", parse_hosts),
        mcp_client_metadata_url=environment.optional("STIGMER_MCP_CLIENT_METADATA_URL", _metadata_url),
        allowed_hosts=environment.read("STIGMER_ALLOWED_HOSTS", DEFAULT_ALLOWED_HOSTS, _host_names),
        temporal=_load_temporal(environment),
        runner_per_workspace=environment.read("STIGMER_RUNNER_PER_WORKSPACE", "false", parse_boolean),
        reconcile_interval_seconds=environment.read(
            "STIGMER_RECONCILE_INTERVAL_SECONDS", "15", number_between(0.1, 86_400, "seconds")
        ),
        heartbeat_timeout_seconds=environment.read(
            "STIGMER_LEG_HEARTBEAT_TIMEOUT_SECONDS", "5", number_between(0.1, 86_400, "seconds")
        ),
        log_level=environment.read("LOG_LEVEL", "info", choice_of(get_args(LogLevel))),
        log_format=environment.read("LOG_FORMAT", "text", choice_of(get_args(LogFormat))),
    )


def _secrets_of_endpoints(value: str) -> tuple[str, ...]:
    names = {each.key_secret for each in parse_endpoints(value) if each.key_secret is not None}
    return tuple(sorted(names))


def _load_tls(environment: Environment) -> TlsFiles | None:
    certificate = environment.optional("STIGMER_TLS_CERT_FILE", parse_existing_file)
    key = environment.optional("STIGMER_TLS_KEY_FILE", parse_existing_file)
    if certificate is not None and key is not None:
        return TlsFiles(certificate, key)
    if certificate is not None or key is not None:
        missing = "STIGMER_TLS_CERT_FILE" if certificate is None else "STIGMER_TLS_KEY_FILE"
        raise VariableWrong(missing, "is not set; the certificate and its key go together")
    return None


def _check_exposed(host: str, token: str, tls: TlsFiles | None, *, allow_plaintext: bool) -> None:
    """Refuse what would give the server away to whoever is on the network."""
    if tls is None and not allow_plaintext:
        raise VariableWrong(
            "STIGMER_HOST",
            f"{host!r} is beyond loopback, where tokens and prompts would be readable without TLS; set "
            "STIGMER_TLS_CERT_FILE and STIGMER_TLS_KEY_FILE, or, behind a proxy that speaks TLS or on a "
            "network of containers alone, STIGMER_ALLOW_PLAINTEXT=true",
        )
    if len(token) < MIN_EXPOSED_TOKEN_LENGTH:
        raise VariableWrong(
            "STIGMER_TOKEN",
            f"has fewer than {MIN_EXPOSED_TOKEN_LENGTH} characters, which is too few beyond loopback; take a "
            "random one, such as that of `openssl rand -hex 32`",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _load_temporal(environment: Environment) -> TemporalSettings:
    api_key = environment.secret_text("TEMPORAL_API_KEY")
    certificate = environment.optional("TEMPORAL_TLS_CLIENT_CERT_PATH", parse_existing_file)
    key = environment.optional("TEMPORAL_TLS_CLIENT_KEY_PATH", parse_existing_file)
    server_ca = environment.optional("TEMPORAL_TLS_SERVER_CA_CERT_PATH", parse_existing_file)
    server_name = environment.text("TEMPORAL_TLS_SERVER_NAME")
    if (certificate is None) != (key is None):
        missing = "TEMPORAL_TLS_CLIENT_CERT_PATH" if certificate is None else "TEMPORAL_TLS_CLIENT_KEY_PATH"
        raise VariableWrong(missing, "is not set; a client's certificate and key go together")
    wanted = any(value is not None for value in (api_key, certificate, server_ca, server_name))
    return TemporalSettings(
        address=environment.read("TEMPORAL_SERVICE_ADDRESS", DEFAULT_ADDRESS, parse_address),
        namespace=environment.text("TEMPORAL_NAMESPACE") or DEFAULT_NAMESPACE,
        task_queue=environment.text("TEMPORAL_AGENT_EXECUTION_RUNNER_TASK_QUEUE") or DEFAULT_TASK_QUEUE,
        api_key=api_key,
        tls=environment.read("TEMPORAL_TLS", "true" if wanted else "false", parse_boolean),
        client_certificate=certificate,
        client_key=key,
        server_ca=server_ca,
        server_name=server_name,
    )


def _token(environment: Environment, name: str) -> str | None:
    token = environment.secret_text(name)
    if token is not None and (not token.isascii() or not token.isprintable() or " " in token):
        raise VariableWrong(name, "must be printable ASCII characters without spaces")
    return token


def _days(text: str) -> timedelta | None:
    days = integer_between(0, 99_999, "days")(text)
    return timedelta(days=days) if days else None


def _database_url(text: str) -> str:
    if text.partition(":")[0] not in (
        "sqlite",
        "sqlite+aiosqlite",
        "postgresql",
        "postgresql+asyncpg",
        "postgres",
    ):
        # The text may hold a password, so it is not repeated.
        raise ValueError(
            "is not a database's URL; write sqlite:////path/of/file or postgresql://user:password@host/name"
        )
    return text


def _public_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{text!r} is not an address of a server; write https://HOST")
    return text.rstrip("/")


def _metadata_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme != "https" or not parts.hostname or parts.path in ("", "/"):
        raise ValueError(f"{text!r} is not the address of a document; write https://HOST/PATH")
    return text


def _plain_hosts(text: str) -> frozenset[str]:
    names = frozenset(name.strip().lower().strip("[]") for name in text.split(",") if name.strip())
    for name in names:
        if "/" in name or " " in name or name == "*":
            raise ValueError(f"{name!r} is not a host; write names or addresses, with commas between")
    return names


def _host_names(text: str) -> frozenset[str]:
    names = frozenset(name.strip().lower() for name in text.split(",") if name.strip())
    for name in names:
        if "/" in name or (":" in name and not (name.startswith("[") and name.endswith("]"))):
            raise ValueError(
                f"{name!r} is not a host name; write names without scheme and port, with commas between"
            )
    return names
