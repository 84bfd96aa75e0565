"""Checks whether this machine can run agents: a finding for each thing that can be wrong. Changes nothing."""

import os
import platform
import shutil
import sys
import tempfile

from stigmer_cli.config import Configuration
from stigmer_cli.errors import ProgramMissing
from stigmer_cli.processes.ports import find_holder, is_free
from stigmer_cli.program_version import program_version
from stigmer_cli.runner.plan import read_plan
from stigmer_cli.stack.clock_diagnosis import check_clock
from stigmer_cli.stack.database_diagnosis import check_databases
from stigmer_cli.stack.engine_diagnosis import check_engine
from stigmer_cli.stack.finding import Finding, Outcome
from stigmer_cli.stack.installation_diagnosis import check_installation
from stigmer_cli.stack.local_components import component_probe, find_temporal
from stigmer_cli.stack.model_access import check_models
from stigmer_cli.stack.state import LOOPBACK, RUNNER, SERVER, TEMPORAL, ComponentPhase
from stigmer_cli.stack.status import ComponentStatus, StackStatus, stack_status
from stigmer_contract.disk_space import LOW_BYTES
from stigmer_contract.isolation_words import ENOUGH
from stigmer_contract.versions import is_compatible

NEEDED_PYTHON = (3, 11)
NEEDED_BYTES = 200_000_000
"""Below this a database may not grow for long."""
_START = "run `stigmer server start`"


def check_python() -> Finding:
    """Whether this Python is new enough."""
    detail = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info >= NEEDED_PYTHON:
        return Finding("python", Outcome.PASSED, detail)
    return Finding("python", Outcome.FAILED, detail, "install Python 3.11 or newer")


def diagnose(configuration: Configuration) -> list[Finding]:
    """All the checks that need a readable configuration; those over the network wait for seconds at most."""
    status = stack_status(configuration)
    if status.is_elsewhere:  # what runs it is not on this machine
        return [_check_home(configuration), _check_versions(status), _check_elsewhere(status.components[0])]
    engine, engine_clock = check_engine(configuration)
    models, model_clocks = check_models(configuration)
    return [
        _check_home(configuration),
        _check_workspace(configuration),
        _check_disk(configuration),
        *check_databases(configuration),
        check_clock([*engine_clock, *model_clocks]),
        _check_versions(status),
        _check_temporal(configuration),
        *engine,
        *_check_ports(configuration, status),
        *(_check_component(component, status) for component in status.components),
        *(check_installation(configuration) if status.running else ()),
        *(_check_isolation(component) for component in status.components if component.isolation),
        *models,
    ]


def _check_home(configuration: Configuration) -> Finding:
    home = configuration.home
    if not home.exists():
        parent = next(folder for folder in home.parents if folder.exists())
        if os.access(parent, os.W_OK | os.X_OK):
            return Finding("home", Outcome.PASSED, f"{home} (made at the first start)")
        return Finding("home", Outcome.FAILED, f"{home} cannot be made", "set STIGMER_HOME to another folder")
    try:
        with tempfile.TemporaryFile(dir=home):
            mode = home.stat().st_mode & 0o777
    except OSError as error:
        detail = f"{home} cannot be written to: {error.strerror}"
        return Finding("home", Outcome.FAILED, detail, "set STIGMER_HOME to a folder that you can write to")
    if mode & 0o077:
        detail = f"{home} is open to others (mode {mode:03o})"
        return Finding("home", Outcome.WARNING, detail, f"run `chmod 700 {home}`")
    return Finding("home", Outcome.PASSED, str(home))


def _check_workspace(configuration: Configuration) -> Finding:
    name, directory = "workspace", configuration.data_directory / "workspace"
    if not directory.exists():
        return Finding(name, Outcome.PASSED, f"{directory} (made at the first start)")
    try:
        with tempfile.TemporaryFile(dir=directory):
            owners = {path.stat().st_uid for path in (directory, *directory.iterdir())}
    except OSError as error:
        detail = f"{directory} cannot be written to: {error.strerror}"
        return Finding(name, Outcome.FAILED, detail, f"run `sudo chown -R $USER {directory}`")
    if not owners <= {os.getuid(), _user_of_containers(configuration)}:
        detail = f"{directory} holds files of others, which agents may not change"
        return Finding(name, Outcome.WARNING, detail, f"run `sudo chown -R $USER {directory}`")
    return Finding(name, Outcome.PASSED, str(directory))


def _user_of_containers(configuration: Configuration) -> int:
    plan = read_plan(configuration)
    return os.getuid() if plan is None or plan.other_user is None else plan.other_user


def _check_versions(status: StackStatus) -> Finding:
    ours = program_version()
    parts = {one.name: one.version for one in status.components if one.version and one.name != TEMPORAL}
    if status.container is not None and status.container.image_version is not None:
        parts["image"] = status.container.image_version
    detail = ", ".join([f"stigmer {ours}", *(f"{name} {version}" for name, version in parts.items())])
    if all(is_compatible(ours, version) for version in parts.values()):
        return Finding("versions", Outcome.PASSED, detail)
    remedy = "run `stigmer server restart`, which starts what goes with this version"
    return Finding("versions", Outcome.FAILED, f"{detail}, which do not go together", remedy)


def _check_disk(configuration: Configuration) -> Finding:
    folder = next(f for f in (configuration.home, *configuration.home.parents) if f.exists())
    free_bytes = shutil.disk_usage(folder).free
    detail = f"{free_bytes / 1e9:.1f} GB free at {folder}"
    if free_bytes < NEEDED_BYTES:
        return Finding("disk", Outcome.FAILED, detail, "make room, or set STIGMER_HOME to another disk")
    if free_bytes < LOW_BYTES:
        return Finding("disk", Outcome.WARNING, detail, "make room before long runs")
    return Finding("disk", Outcome.PASSED, detail)


def _check_temporal(configuration: Configuration) -> Finding:
    name = "temporal program"
    if configuration.temporal_address is None:
        try:
            return Finding(name, Outcome.PASSED, str(find_temporal()))
        except ProgramMissing as error:
            return Finding(name, Outcome.FAILED, error.message, error.hint)
    address = configuration.temporal_address
    health = component_probe(TEMPORAL, address, is_external=True)()
    if health.ready:
        return Finding("temporal address", Outcome.PASSED, f"{address} answers")
    detail = f"{address}: {health.reason}"
    return Finding(
        "temporal address", Outcome.FAILED, detail, "start that Temporal, or unset `temporal.address`"
    )


def _check_ports(configuration: Configuration, status: StackStatus) -> list[Finding]:
    if status.running:
        return []  # the components hold them; whether they answer is checked for each
    ports = {SERVER: configuration.server_port, RUNNER: configuration.runner_health_port}
    settings = {SERVER: "server.port", RUNNER: "runner.healthPort", TEMPORAL: "temporal.port"}
    if configuration.temporal_address is None:
        ports = {TEMPORAL: configuration.temporal_port, **ports}
    findings: list[Finding] = []
    for component, port in ports.items():
        name = f"port {port} ({component})"
        if is_free(LOOPBACK, port):
            findings.append(Finding(name, Outcome.PASSED, "free"))
        else:
            detail = f"held by {find_holder(port) or 'another program'}"
            remedy = f"stop that program, or run `stigmer config set {settings[component]} PORT`"
            findings.append(Finding(name, Outcome.FAILED, detail, remedy))
    return findings


def _check_isolation(component: ComponentStatus) -> Finding:
    name, detail = "isolation of commands", f"level {component.isolation}"
    if component.bubblewrap is not None:
        detail += f", {component.bubblewrap}"
    if component.isolation in ENOUGH:
        return Finding(name, Outcome.PASSED, detail)
    detail = "; ".join([detail, *component.isolation_findings])
    remedy = "run the runner in its container on Linux 5.13 or newer; docs/concepts/isolation.md says more"
    return Finding(name, Outcome.WARNING, detail, remedy)


def _check_elsewhere(server: ComponentStatus) -> Finding:
    if server.ready:
        return _check_component(server, StackStatus(True, True, False, None, None, None, (server,)))
    detail = f"{server.address}: {server.reason}"
    remedy = "start that server, or unset `server.endpoint` to use a stack of this machine"
    return Finding(server.name, Outcome.FAILED, detail, remedy)


def _check_component(component: ComponentStatus, status: StackStatus) -> Finding:
    if component.ready:
        version = f", version {component.version}" if component.version else ""
        if component.warnings:
            detail = f"ready at {component.address}{version}; {'; '.join(component.warnings)}"
            return Finding(component.name, Outcome.WARNING, detail, "make room before it is used up")
        return Finding(component.name, Outcome.PASSED, f"ready at {component.address}{version}")
    if not status.running:
        detail = component.reason or "not running"
        return Finding(component.name, Outcome.WARNING, detail, f"{_START}; `stigmer run` does so by itself")
    detail = f"{component.phase}: {component.reason or 'no reason given'}"
    restart = component.phase is ComponentPhase.FAILED
    remedy = f"run `stigmer server logs --{component.name}`" + (", then `stigmer server restart`" * restart)
    return Finding(component.name, Outcome.FAILED, detail, remedy)
