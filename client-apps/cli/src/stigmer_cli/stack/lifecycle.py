"""Starts and stops the stack on behalf of a command. The supervisor does the work; this waits and explains.

Safe to call by several commands at once: one changes, the others wait for it.
"""

import contextlib
import os
import signal
import time
from pathlib import Path

from stigmer_cli.config import Configuration, Connection, prepare_home, replace_file
from stigmer_cli.errors import (
    ComponentFailed,
    ConfigurationError,
    EngineNotReady,
    HomeUnusable,
    NotReadyInTime,
    PortTaken,
)
from stigmer_cli.processes.identity import end_processes
from stigmer_cli.program_version import is_newer, program_version
from stigmer_cli.runner.choice import (
    PlainRunner,
    PlannedRunner,
    Report,
    apply_plan,
    has_plan,
    is_plan_outdated,
    plan_runner,
    remove_left_containers,
)
from stigmer_cli.runner.wish import RunnerWish, keep_wish, kept_wish, wish_after_crash
from stigmer_cli.stack.database_backup import back_up, note_version, require_room
from stigmer_cli.stack.engine_wait import plan_when_there
from stigmer_cli.stack.locks import hold, is_locked
from stigmer_cli.stack.readiness import START_TIMEOUT_SECONDS, wait_until_ready
from stigmer_cli.stack.state import (
    COMPONENT_NAMES,
    LOOPBACK,
    RUNNER,
    SERVER,
    TEMPORAL,
    StackFiles,
    read_state,
    running_version,
)
from stigmer_cli.stack.supervisor_start import run_starter

DEFAULT_GRACE_SECONDS = 600.0
"""How long a runner may finish what it has in hand, where a restart does not say."""
ENGINE_TIMEOUT_SECONDS = 60.0
"""How long a start waits for an engine that is installed and does not run: it may be starting, too."""
SUPERVISOR_TIMEOUT_SECONDS = 30.0
STOP_TIMEOUT_SECONDS = 9.5
_KILL_TIMEOUT_SECONDS = 5.0
"""For the kernel to end a process that was killed."""
CHANGE_TIMEOUT_SECONDS = 45.0
_POLL_SECONDS = 0.02


def ensure_running(configuration: Configuration, *, report: Report, wait: bool = True) -> Connection:
    """Makes sure that a server answers; starts the local stack where none is named and none runs.

    Of a stack that runs the server is enough: an execution waits for its runner, and says so.

    Raises:
        ConfigurationError: `server.endpoint` is set without its token.
        EnvironmentNotReady: as `start`.
    """
    if configuration.server_endpoint is not None:
        return _remote_connection(configuration, configuration.server_endpoint)
    start(configuration, report=report, wait=wait, needed_where_it_runs=(SERVER,))
    return _local_connection(configuration, StackFiles(configuration))


def find_running(configuration: Configuration) -> Connection | None:
    """The server that runs already, local or named; None where none does. Starts and writes nothing.

    Raises:
        ConfigurationError: `server.endpoint` is set without its token.
    """
    if configuration.server_endpoint is not None:
        return _remote_connection(configuration, configuration.server_endpoint)
    files = StackFiles(configuration)
    if running_version(configuration) is None or not files.token.is_file():
        return None
    return _local_connection(configuration, files)


def start(
    configuration: Configuration,
    *,
    report: Report,
    wait: bool = True,
    wait_seconds: float = START_TIMEOUT_SECONDS,
    runner: RunnerWish | None = None,
    planned: PlannedRunner | PlainRunner | None = None,
    needed_where_it_runs: tuple[str, ...] = COMPONENT_NAMES,
    engine_seconds: float = ENGINE_TIMEOUT_SECONDS,
) -> bool:
    """Starts the local stack where it does not run, and waits until all of it is ready.

    Answers whether it had to be started; where it runs, nothing is changed. `runner` says how the
    runner shall run where it has to be started, by a caller that refreshes the one that runs; `planned`, what
    that leads to, where that is known already. An engine that is needed and away is waited for,
    `engine_seconds` at most.

    Raises:
        EnvironmentNotReady: the stack cannot be started, or a component of it has failed.
        NotReadyInTime: it is not ready after `wait_seconds`; the message says what is not, and why.
    """
    prepare_home(configuration)
    files = StackFiles(configuration)
    token, runner_token = ensure_token(files.token), ensure_token(files.runner_token)
    started = False
    wish = runner or RunnerWish()
    is_stopped = not is_locked(files.supervisor_lock)
    if is_stopped:
        from stigmer_cli.stack.local_components import require_programs

        require_programs(configuration)
    if is_stopped and planned is None and files.state.exists():  # a stop in good order takes it away
        wish = wish_after_crash(configuration, wish, report)
    # Before the lock is held, since a pull takes its time.
    if is_stopped and planned is None:
        planned = plan_when_there(configuration, wish, runner_token, report, engine_seconds)
    with hold(files.change_lock, CHANGE_TIMEOUT_SECONDS):  # a stop that is under way comes first
        if not is_locked(files.supervisor_lock):
            planned = planned or plan_runner(configuration, wish, runner_token, report)
            _start_supervisor(configuration, files, wish, planned, report)
            started = True
    if not started:
        _report_differences(
            configuration, files, token, runner_token, report, is_refreshed=runner is not None
        )
    if wait:
        try:
            needed = COMPONENT_NAMES if started else needed_where_it_runs
            tells = started and not wish.is_quiet
            wait_until_ready(
                files,
                report,
                announce=tells,
                tells_reasons=not wish.is_quiet,
                timeout_seconds=wait_seconds,
                needed=needed,
            )
        except (ComponentFailed, NotReadyInTime):
            if started:  # half a stack would be in the way of the next start
                stop(configuration)
            raise
    return started


def restart(
    configuration: Configuration,
    *,
    report: Report,
    wait: bool = True,
    wait_seconds: float = START_TIMEOUT_SECONDS,
    runner: RunnerWish,
    grace_seconds: float = DEFAULT_GRACE_SECONDS,
) -> bool:
    """Stops the stack and starts it with the settings of now, and as the last start was told where `runner`
    says nothing else.

    The runner finishes the steps that it has in hand, within `grace_seconds`: beside the next one where it is
    a plain process, before that where it is in a container. 0: it drops them after some seconds. Where the
    next one cannot be had, the stack that runs goes on. Answers as `start`; raises as `start` and `stop`.
    """
    prepare_home(configuration)
    wish = kept_wish(configuration).changed_by(runner)
    if kept := [flag for flag in wish.flags if flag not in runner.flags]:
        report(f"as the stack was started: {', '.join(kept)}")
    planned = plan_runner(configuration, wish, ensure_token(StackFiles(configuration).runner_token), report)
    require_room(configuration)
    if not (grace_seconds and _hand_over(configuration, grace_seconds, report)):
        stop(configuration)
    return start(
        configuration, report=report, wait=wait, wait_seconds=wait_seconds, runner=wish, planned=planned
    )


def stop(configuration: Configuration) -> bool:
    """Ends the stack in good order, within 10 s; False where it did not run.

    Raises:
        EnvironmentNotReady: another command has been changing the stack for too long.
        EngineNotReady: all has ended, but the runner's container could not be removed.
    """
    files = StackFiles(configuration)
    if not configuration.run_directory.is_dir():
        return False
    with hold(files.change_lock, CHANGE_TIMEOUT_SECONDS):
        was_running = is_locked(files.supervisor_lock)
        drainings = files.drainings()
        for supervisor in drainings.values():  # now, while the server takes what their runners hand back
            supervisor.send(signal.SIGTERM)
        state = read_state(files.state)
        if was_running and state is not None:
            state.supervisor.send(signal.SIGTERM)
            if not _is_released(files.supervisor_lock, STOP_TIMEOUT_SECONDS):
                state.supervisor.send(signal.SIGKILL)
                _is_released(files.supervisor_lock, _KILL_TIMEOUT_SECONDS)  # else its leftovers are not ours
        was_running = _end_draining(files) or bool(drainings) or was_running
        _end_leftovers(configuration, files, grace_seconds=0.0 if was_running else 2.0)
    return was_running


def _hand_over(configuration: Configuration, grace_seconds: float, report: Report) -> bool:
    """Has the supervisor make room for the next one, while the runner finishes; False where it cannot."""
    files = StackFiles(configuration)
    with hold(files.change_lock, CHANGE_TIMEOUT_SECONDS):
        state = read_state(files.state)
        if state is None or not state.can_hand_over or not is_locked(files.supervisor_lock):
            return False
        waited_for = grace_seconds if has_plan(configuration) else 0.0
        if waited_for:
            report(f"the runner finishes the steps it has in hand, within {grace_seconds:.0f} s")
        replace_file(files.grace, f"{grace_seconds}\n")
        state.supervisor.send(signal.SIGUSR1)
        if not _is_released(files.supervisor_lock, waited_for + 2 * STOP_TIMEOUT_SECONDS):
            return False
        if files.drainings():
            report("the runner before finishes the steps it has in hand, beside the new one")
    return True


def _is_released(lock: Path, timeout_seconds: float) -> bool:
    """Whether nobody holds the lock, after a while at most."""
    deadline = time.monotonic() + timeout_seconds
    while is_locked(lock):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _end_draining(files: StackFiles) -> bool:
    """Ends what earlier supervisors wait for; whether there was any."""
    found = files.drainings()
    for supervisor in found.values():
        supervisor.send(signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
    for path, supervisor in found.items():
        while supervisor.is_alive() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        supervisor.send(signal.SIGKILL)  # its guard ends the runner
        path.unlink(missing_ok=True)
    return bool(found)


def ensure_token(path: Path) -> str:
    """A token of the local server; made where there is none yet. Readable by its owner only.

    Raises:
        HomeUnusable: it cannot be read or written.
    """
    try:
        token = path.read_text(encoding="ascii").strip() if path.exists() else ""
        if token:
            return token
        import secrets  # 25 ms, once in a lifetime

        # Linked into place: of two commands that make one at once, both get the first's.
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        replace_file(draft, secrets.token_urlsafe(32))
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            if not path.read_text(encoding="ascii").strip():
                draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise HomeUnusable(path, str(error)) from error


def _local_connection(configuration: Configuration, files: StackFiles) -> Connection:
    return Connection(f"http://{LOOPBACK}:{configuration.server_port}", ensure_token(files.token))


def _remote_connection(configuration: Configuration, endpoint: str) -> Connection:
    if configuration.server_token is None:
        raise ConfigurationError(
            "server.endpoint",
            f"{endpoint!r} is set without a token",
            "set STIGMER_TOKEN or STIGMER_TOKEN_FILE",
        )
    return Connection(endpoint, configuration.server_token.reveal(), configuration.ca_bundle)


def _start_supervisor(
    configuration: Configuration,
    files: StackFiles,
    wish: RunnerWish,
    planned: PlannedRunner | PlainRunner,
    report: Report,
) -> None:
    with contextlib.suppress(EngineNotReady):  # who looks after the next container tries again
        _end_leftovers(configuration, files, grace_seconds=2.0)
    _check_ports(configuration)
    back_up(configuration, report)
    note_version(configuration)
    if not wish.is_quiet:
        report("starting the local stack")
    for made_earlier in configuration.data_directory.glob("temporal.db*"):
        made_earlier.chmod(0o600)
    apply_plan(configuration, planned, report)
    keep_wish(configuration, wish, planned.image)
    log_path = configuration.log_directory / "supervisor.log"
    log_path.touch(mode=0o600)
    try:
        exit_code = run_starter(configuration, log_path, SUPERVISOR_TIMEOUT_SECONDS)
    except TimeoutError as error:
        reason = f"it did not answer within {SUPERVISOR_TIMEOUT_SECONDS:.0f} s"
        raise ComponentFailed("supervisor", reason) from error
    if exit_code != 0:
        last_lines = log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
        raise ComponentFailed("supervisor", "it ended at once", tuple(last_lines))


def _end_leftovers(configuration: Configuration, files: StackFiles, grace_seconds: float) -> None:
    """Ends what a supervisor that is no more has left behind. Only while no supervisor runs."""
    state = read_state(files.state)
    if state is not None and not is_locked(files.supervisor_lock):
        end_processes(dict.fromkeys(state.processes, grace_seconds))
    if not is_locked(files.supervisor_lock):
        files.state.unlink(missing_ok=True)
        remove_left_containers(configuration)


def _check_ports(configuration: Configuration) -> None:
    from stigmer_cli.processes.ports import find_holder, is_free

    needed = [
        (SERVER, configuration.server_port, "server.port"),
    ]
    if not StackFiles(configuration).drainings():  # else the runner before may have it, and another is taken
        needed.append((RUNNER, configuration.runner_health_port, "runner.healthPort"))
    if configuration.temporal_address is None:
        needed.insert(0, (TEMPORAL, configuration.temporal_port, "temporal.port"))
        if configuration.temporal_ui_port is not None:
            needed.append((TEMPORAL, configuration.temporal_ui_port, "temporal.uiPort"))
    for component, port, setting in needed:
        if not is_free(LOOPBACK, port):
            raise PortTaken(component, port, find_holder(port), setting)


def _report_differences(
    configuration: Configuration,
    files: StackFiles,
    token: str,
    runner_token: str,
    report: Report,
    *,
    is_refreshed: bool,
) -> None:
    """Says what a restart would change; of a container's environment only where nobody refreshes it."""
    from stigmer_cli.stack.model_settings import model_fingerprint

    state = read_state(files.state)
    if state is None:
        return
    if state.version != program_version():
        help_of_it = (
            "install that version, too"
            if is_newer(state.version)
            else "run `stigmer server restart`, which keeps a copy of its database first"
        )
        ours = program_version()
        report(f"note: the running stack is version {state.version}, and this is {ours}; {help_of_it}")
    if has_plan(configuration):
        is_changed = not is_refreshed and is_plan_outdated(configuration, runner_token)
    else:
        is_changed = state.model_fingerprint != model_fingerprint(configuration, token)
    if is_changed:
        report(
            "note: the model settings have changed since the stack was started; "
            "run `stigmer server restart` to use them"
        )
