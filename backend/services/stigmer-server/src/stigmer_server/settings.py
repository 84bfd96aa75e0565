"""What the server is told by its environment, read once into a frozen object; nothing else reads it.

Says what a value must look like, not whether what it points to exists.
"""

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from stigmer_contract.log_lines import LogFormat
from stigmer_contract.temporal import DEFAULT_ADDRESS, DEFAULT_NAMESPACE, DEFAULT_TASK_QUEUE
from stigmer_server.errors import SettingsError

MIN_EXPOSED_TOKEN_LENGTH = 16
DEFAULT_ALLOWED_HOSTS = "localhost,127.0.0.1,[::1]"

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
Mode = Literal["local", "cloud"]
ValueT = TypeVar("ValueT")


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
    token: str = field(repr=False)
    """`STIGMER_TOKEN` or `STIGMER_TOKEN_FILE`, required: the administrator's token, which makes others."""
    runner_token: str | None = field(repr=False)
    """`STIGMER_RUNNER_TOKEN` or `STIGMER_RUNNER_TOKEN_FILE`: a token of runners; default: none."""
    calls_per_second: float
    """`STIGMER_CALLS_PER_SECOND`: most calls with one token; default 5000, 0 for no limit."""
    calls_at_once: int
    """`STIGMER_CALLS_AT_ONCE`: most calls and open streams of one token; default 5000, 0 for no limit."""
    audit_retention: timedelta | None
    """`STIGMER_AUDIT_RETENTION_DAYS`: how long the audit trail is kept; default 365, 0 for ever."""
    allowed_hosts: frozenset[str]
    """`STIGMER_ALLOWED_HOSTS`: names in `Host` that are answered, lower case; `*` allows every one."""
    temporal: TemporalSettings
    reconcile_interval_seconds: float
    """`STIGMER_RECONCILE_INTERVAL_SECONDS`: default 15."""
    heartbeat_timeout_seconds: float
    """`STIGMER_LEG_HEARTBEAT_TIMEOUT_SECONDS`: after so long a silent runner is taken for dead; default 5."""
    log_level: LogLevel
    """`LOG_LEVEL`: default INFO."""
    log_format: LogFormat
    """`LOG_FORMAT`: default text."""


class _Environment:
    """Reads variables; an empty one counts as unset. Every error names its variable."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, name: str) -> str | None:
        return self._environ.get(name, "").strip() or None

    def read(self, name: str, default: str, parse: Callable[[str], ValueT]) -> ValueT:
        try:
            return parse(self.text(name) or default)
        except ValueError as error:
            raise SettingsError(name, str(error)) from error

    def optional(self, name: str, parse: Callable[[str], ValueT]) -> ValueT | None:
        return None if self.text(name) is None else self.read(name, "", parse)

    def secret(self, name: str) -> str | None:
        """The variable's text, or what the file that `NAME_FILE` names holds."""
        file_variable = f"{name}_FILE"
        path = self.text(file_variable)
        if path is None or self.text(name) is not None:
            return self.text(name)
        try:
            secret = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise SettingsError(file_variable, f"could not read {path!r}: {reason}") from error
        if not secret:
            raise SettingsError(file_variable, f"file {path!r} is empty")
        return secret


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Read the configuration.

    Raises:
        SettingsError: a variable has a wrong value, or a needed one is missing.
    """
    environment = _Environment(environ)
    home = environment.read("STIGMER_HOME", str(Path.home() / ".stigmer"), _absolute_path)
    token = _token(environment, "STIGMER_TOKEN")
    if token is None:
        raise SettingsError(
            "STIGMER_TOKEN", "is not set; set it, or STIGMER_TOKEN_FILE, to the administrator's token"
        )
    runner_token = _token(environment, "STIGMER_RUNNER_TOKEN")
    if runner_token == token:
        raise SettingsError("STIGMER_RUNNER_TOKEN", "is STIGMER_TOKEN; runners need a token of their own")
    host = environment.text("STIGMER_HOST") or "127.0.0.1"
    tls = _load_tls(environment)
    allow_plaintext = environment.read("STIGMER_ALLOW_PLAINTEXT", "false", _boolean)
    mode = environment.read("MODE", "local", _mode)
    roots = environment.optional("STIGMER_WORKSPACE_ROOTS", _absolute_paths)
    if not _is_loopback(host):
        _check_exposed(host, token, tls, allow_plaintext=allow_plaintext)
    return Settings(
        home=home,
        mode=mode,
        workspace_roots=((Path.home(),) if mode == "local" else ()) if roots is None else roots,
        host=host,
        port=environment.read("STIGMER_PORT", "7234", _port),
        tls=tls,
        allow_plaintext=allow_plaintext,
        database_url=environment.read(
            "STIGMER_DATABASE_URL", f"sqlite:///{home / 'data' / 'stigmer.db'}", _database_url
        ),
        blob_directory=environment.read("STIGMER_BLOB_DIR", str(home / "data" / "blobs"), _absolute_path),
        secrets_key_file=environment.read(
            "STIGMER_SECRETS_KEY_FILE", str(home / "secrets.key"), _absolute_path
        ),
        may_create_secrets_key=environment.text("STIGMER_SECRETS_KEY_FILE") is None,
        token=token,
        runner_token=runner_token,
        calls_per_second=environment.read("STIGMER_CALLS_PER_SECOND", "5000", _limit),
        calls_at_once=environment.read("STIGMER_CALLS_AT_ONCE", "5000", _limit),
        audit_retention=environment.read("STIGMER_AUDIT_RETENTION_DAYS", "365", _days),
        allowed_hosts=environment.read("STIGMER_ALLOWED_HOSTS", DEFAULT_ALLOWED_HOSTS, _host_names),
        temporal=_load_temporal(environment),
        reconcile_interval_seconds=environment.read("STIGMER_RECONCILE_INTERVAL_SECONDS", "15", _seconds),
        heartbeat_timeout_seconds=environment.read("STIGMER_LEG_HEARTBEAT_TIMEOUT_SECONDS", "5", _seconds),
        log_level=environment.read("LOG_LEVEL", "INFO", _log_level),
        log_format=environment.read("LOG_FORMAT", "text", _log_format),
    )


def _load_tls(environment: _Environment) -> TlsFiles | None:
    certificate = environment.optional("STIGMER_TLS_CERT_FILE", _existing_file)
    key = environment.optional("STIGMER_TLS_KEY_FILE", _existing_file)
    if certificate is not None and key is not None:
        return TlsFiles(certificate, key)
    if certificate is not None or key is not None:
        missing = "STIGMER_TLS_CERT_FILE" if certificate is None else "STIGMER_TLS_KEY_FILE"
        raise SettingsError(missing, "is not set; the certificate and its key go together")
    return None


def _check_exposed(host: str, token: str, tls: TlsFiles | None, *, allow_plaintext: bool) -> None:
    """Refuse what would give the server away to whoever is on the network."""
    if tls is None and not allow_plaintext:
        raise SettingsError(
            "STIGMER_HOST",
            f"{host!r} is beyond loopback, where tokens and prompts would be readable without TLS; set "
            "STIGMER_TLS_CERT_FILE and STIGMER_TLS_KEY_FILE, or, behind a proxy that speaks TLS or on a "
            "network of containers alone, STIGMER_ALLOW_PLAINTEXT=true",
        )
    if len(token) < MIN_EXPOSED_TOKEN_LENGTH:
        raise SettingsError(
            "STIGMER_TOKEN",
            f"has fewer than {MIN_EXPOSED_TOKEN_LENGTH} characters, which is too few beyond loopback; take a "
            "random one, such as that of `openssl rand -hex 32`",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _load_temporal(environment: _Environment) -> TemporalSettings:
    api_key = environment.secret("TEMPORAL_API_KEY")
    certificate = environment.optional("TEMPORAL_TLS_CLIENT_CERT_PATH", _existing_file)
    key = environment.optional("TEMPORAL_TLS_CLIENT_KEY_PATH", _existing_file)
    server_ca = environment.optional("TEMPORAL_TLS_SERVER_CA_CERT_PATH", _existing_file)
    server_name = environment.text("TEMPORAL_TLS_SERVER_NAME")
    if (certificate is None) != (key is None):
        missing = "TEMPORAL_TLS_CLIENT_CERT_PATH" if certificate is None else "TEMPORAL_TLS_CLIENT_KEY_PATH"
        raise SettingsError(missing, "is not set; a client's certificate and key go together")
    wanted = any(value is not None for value in (api_key, certificate, server_ca, server_name))
    return TemporalSettings(
        address=environment.read("TEMPORAL_SERVICE_ADDRESS", DEFAULT_ADDRESS, _address),
        namespace=environment.text("TEMPORAL_NAMESPACE") or DEFAULT_NAMESPACE,
        task_queue=environment.text("TEMPORAL_AGENT_EXECUTION_RUNNER_TASK_QUEUE") or DEFAULT_TASK_QUEUE,
        api_key=api_key,
        tls=environment.read("TEMPORAL_TLS", "true" if wanted else "false", _boolean),
        client_certificate=certificate,
        client_key=key,
        server_ca=server_ca,
        server_name=server_name,
    )


def _token(environment: _Environment, name: str) -> str | None:
    token = environment.secret(name)
    if token is not None and (not token.isascii() or not token.isprintable() or " " in token):
        raise SettingsError(name, "must be printable ASCII characters without spaces")
    return token


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 7:
        raise ValueError(f"{text!r} is not a whole number from 0 to 9999999")
    return int(text)


def _days(text: str) -> timedelta | None:
    if not text.isascii() or not text.isdigit() or len(text) > 5:
        raise ValueError(f"{text!r} is not a whole number of days from 0 to 99999")
    return timedelta(days=int(text)) if int(text) else None


def _absolute_path(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_absolute():
        raise ValueError(f"{text!r} is not an absolute path")
    return path


def _absolute_paths(text: str) -> tuple[Path, ...]:
    return tuple(_absolute_path(part) for part in text.split(":") if part)


def _mode(text: str) -> Mode:
    if text not in ("local", "cloud"):
        raise ValueError(f"{text!r} is none of local, cloud")
    return text


def _existing_file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise ValueError(f"{text!r} is not a file")
    return path


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise ValueError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not 0.1 <= number <= 86_400:  # also refuses NaN
        raise ValueError(f"{text!r} is not a number of seconds from 0.1 to 86400")
    return number


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
        raise ValueError(f"{text!r} is not an address; write host:port, such as {DEFAULT_ADDRESS}")
    return text


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


def _host_names(text: str) -> frozenset[str]:
    names = frozenset(name.strip().lower() for name in text.split(",") if name.strip())
    for name in names:
        if "/" in name or (":" in name and not (name.startswith("[") and name.endswith("]"))):
            raise ValueError(
                f"{name!r} is not a host name; write names without scheme and port, with commas between"
            )
    return names


def _log_level(text: str) -> LogLevel:
    level = text.upper()
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise ValueError(f"{text!r} is none of debug, info, warning, error")
    return level


def _log_format(text: str) -> LogFormat:
    if text not in ("text", "json"):
        raise ValueError(f"{text!r} is none of text, json")
    return text
