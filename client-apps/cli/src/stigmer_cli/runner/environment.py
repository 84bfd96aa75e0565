"""What the runner in the container is told: plain variables, and files for what nobody else may read.

The list is that of the runner's own settings (a test holds them together). Writes nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from stigmer_cli.config import Configuration, Secret, settings_by_field
from stigmer_cli.errors import ConfigurationError
from stigmer_cli.program_version import program_version

if TYPE_CHECKING:
    from stigmer_contract.model_names import ModelEndpoint

SECRETS_TARGET = "/run/secrets"
WORKSPACE_TARGET = "/workspace"
DRAIN_GRACE_SECONDS = 4.0
LOOPBACK = "127.0.0.1"

_PASSED_ON = (
    "LOG_FORMAT",
    "STIGMER_MCP_ALLOW_HOSTS",
    "STIGMER_PROTECT_GIT",
    "STIGMER_ISOLATION",
    "STIGMER_ISOLATION_DISK_MB",
    "STIGMER_ISOLATION_MEMORY_MB",
    "STIGMER_ISOLATION_PROCESSES",
    "STIGMER_ISOLATION_PROXY",
    "STIGMER_ISOLATION_READ_PATHS",  # of the container's files
    "STIGMER_ISOLATION_WEB_PORTS",
    "STIGMER_WEB_ALLOW_HOSTS",
)
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
_NO_PROXY = ("NO_PROXY", "no_proxy")
_TEMPORAL_PLAIN = ("TEMPORAL_TLS", "TEMPORAL_TLS_SERVER_NAME")
_TEMPORAL_SECRET = "TEMPORAL_API_KEY"  # noqa: S105  # a variable's name
_TEMPORAL_FILES = (
    "TEMPORAL_TLS_CLIENT_CERT_PATH",
    "TEMPORAL_TLS_CLIENT_KEY_PATH",
    "TEMPORAL_TLS_SERVER_CA_CERT_PATH",
)
_ENDPOINTS = "STIGMER_LLM_ENDPOINTS"
_CA_VARIABLE = "SSL_CERT_FILE"
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class RunnerEnvironment:
    """The environment of the runner's container."""

    plain: Mapping[str, str]
    """Stands in `inspect`. Names the files of `secrets`."""
    secrets: Mapping[str, bytes] = field(repr=False)
    """Contents of files by their name under `/run/secrets`."""


def runner_environment(configuration: Configuration, gateway_name: str | None) -> RunnerEnvironment:
    """Everything the runner is told. `gateway_name` stands for this machine where the network is another.

    Raises:
        ConfigurationError: a file that a variable names cannot be read.
    """
    person = configuration.environment
    host = LOOPBACK if gateway_name is None else gateway_name
    plain = {
        "MODE": "local",
        "STIGMER_CLI_VERSION": program_version(),
        "TEMPORAL_SERVICE_ADDRESS": configuration.temporal_address
        or f"{LOOPBACK}:{configuration.temporal_port}",
        "TEMPORAL_NAMESPACE": configuration.temporal_namespace,
        "TEMPORAL_AGENT_EXECUTION_RUNNER_TASK_QUEUE": configuration.temporal_task_queue,
        "STIGMER_BACKEND_ENDPOINT": f"{host}:{configuration.server_port}",
        "STIGMER_HEALTH_HOST": LOOPBACK if gateway_name is None else "0.0.0.0",  # noqa: S104  # published on loopback
        "STIGMER_HEALTH_PORT": str(configuration.runner_health_port),
        "STIGMER_DRAIN_GRACE_SECONDS": str(DRAIN_GRACE_SECONDS),
        "SANDBOX_ROOT_DIR": WORKSPACE_TARGET,
        "LOG_LEVEL": configuration.log_level,
    }
    secrets: dict[str, bytes] = {}
    plain |= {name: person[name] for name in _PASSED_ON if person.get(name)}
    for name, setting in settings_by_field().items():
        if not (setting.key.startswith(("llm.", "traces.")) or name == "runner_max_concurrency"):
            continue
        value: object = getattr(configuration, name)
        if isinstance(value, Secret):
            secrets[setting.variable] = value.reveal().encode()
        elif value is not None:
            plain[setting.variable] = str(value)
    secrets |= {name: key.reveal().encode() for name, key in configuration.endpoint_keys.items()}
    plain |= _proxies(person)
    if configuration.temporal_address is not None:
        plain |= {name: person[name] for name in _TEMPORAL_PLAIN if person.get(name)}
        secrets |= _temporal_secret(person)
    plain |= {f"{name}_FILE": f"{SECRETS_TARGET}/{name}" for name in secrets}
    for name, path in _files(configuration).items():
        secrets[name] = _read(name, path)
        plain[name] = f"{SECRETS_TARGET}/{name}"
    if gateway_name is not None:
        plain = {name: _through_gateway(text, gateway_name) for name, text in plain.items()}
        if configuration.llm_endpoints is not None:
            plain[_ENDPOINTS] = _endpoints_through_gateway(configuration.model_endpoints, gateway_name)
    return RunnerEnvironment(plain, secrets)


def _proxies(person: Mapping[str, str]) -> dict[str, str]:
    proxies = {name: person[name] for name in _PROXIES if person.get(name)}
    if not proxies:
        return {}
    exempt = next((person[name] for name in _NO_PROXY if person.get(name)), "")
    hosts = ",".join(
        [*filter(None, [exempt]), *(host for host in _LOCAL_HOSTS if host not in exempt.split(","))]
    )
    return proxies | dict.fromkeys(_NO_PROXY, hosts)


def _temporal_secret(person: Mapping[str, str]) -> dict[str, bytes]:
    if path := person.get(f"{_TEMPORAL_SECRET}_FILE"):
        return {_TEMPORAL_SECRET: _read(f"{_TEMPORAL_SECRET}_FILE", Path(path))}
    return {_TEMPORAL_SECRET: person[_TEMPORAL_SECRET].encode()} if person.get(_TEMPORAL_SECRET) else {}


def _files(configuration: Configuration) -> dict[str, Path]:
    person = configuration.environment
    names = _TEMPORAL_FILES if configuration.temporal_address is not None else ()
    files = {name: Path(person[name]) for name in names if person.get(name)}
    bundle = configuration.ca_bundle or (Path(person[_CA_VARIABLE]) if person.get(_CA_VARIABLE) else None)
    return files | ({_CA_VARIABLE: bundle} if bundle else {})


def _read(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(name, f"could not read {str(path)!r}: {error.strerror}") from error


def _endpoints_through_gateway(endpoints: Iterable["ModelEndpoint"], gateway_name: str) -> str:
    from stigmer_contract.model_names import written_endpoints

    return written_endpoints(
        replace(endpoint, url=_through_gateway(endpoint.url, gateway_name)) for endpoint in endpoints
    )


def _through_gateway(text: str, gateway_name: str) -> str:
    """An address or URL on this machine's loopback, as a container of a virtual engine reaches it."""
    has_scheme = "://" in text
    try:
        split = urlsplit(text if has_scheme else f"//{text}")
        if split.hostname not in _LOCAL_HOSTS or not (has_scheme or split.port):
            return text
        port = f":{split.port}" if split.port else ""
    except ValueError:
        return text
    user = split.netloc.rpartition("@")[0]
    netloc = (f"{user}@" if user else "") + gateway_name + port
    return urlunsplit(split._replace(netloc=netloc)).removeprefix("" if has_scheme else "//")
