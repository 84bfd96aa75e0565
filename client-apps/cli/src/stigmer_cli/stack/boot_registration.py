"""Registers the stack with the system's manager of services, systemd or launchd, and takes it out again."""

import os
import shutil
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stigmer_cli.config import Configuration, prepare_home, replace_file, set_value
from stigmer_cli.config.stored_environment import read_stored_environment, stored_environment_file
from stigmer_cli.errors import HomeUnusable, ServiceManagerFailed, StigmerError
from stigmer_cli.stack.boot_service import (
    LABEL,
    UNIT,
    FoundSettings,
    agent_file,
    render_agent,
    render_unit,
    unit_file,
)

_CALL_SECONDS: Final = 60.0


@dataclass(frozen=True)
class SystemdUser:
    """The systemd of this user."""

    environ: Mapping[str, str]

    @property
    def file(self) -> Path:
        """The unit."""
        return unit_file(self.environ)

    def render(self, configuration: Configuration, path: str) -> str:
        """The unit's text."""
        return render_unit(configuration, path)

    def require(self) -> None:
        """Whether it answers.

        Raises:
            ServiceManagerFailed: it does not.
        """
        self._call("show-environment")

    def enable(self) -> None:
        """Enables the unit, and starts it without waiting for it."""
        self._call("daemon-reload")
        self._call("enable", UNIT)
        self._call("start", "--no-block", UNIT)

    def disable(self) -> None:
        """Stops and forgets the unit; does nothing where it is not known."""
        self._call("disable", "--now", UNIT, is_needed=False)

    def when_started(self) -> str:
        """Depends on linger, which keeps a user's systemd without a log-in."""
        user = self.environ.get("USER") or str(os.getuid())
        asked = _run(["loginctl", "show-user", user, "--property=Linger", "--value"])
        if asked is not None and asked.returncode == 0 and asked.stdout.strip() == "yes":
            return "the stack starts with this machine"
        return (
            "the stack starts when you log in, and ends when you have logged out everywhere; "
            f"for a start with this machine run `loginctl enable-linger {user}`"
        )

    def _call(self, *arguments: str, is_needed: bool = True) -> None:
        done = _run(["systemctl", "--user", *arguments])
        if not is_needed:
            return
        if done is None:
            raise ServiceManagerFailed("systemd", "`systemctl` is not there or does not answer")
        if done.returncode != 0:
            raise ServiceManagerFailed("systemd", _said(done))


@dataclass(frozen=True)
class Launchd:
    """The launchd of this user's session."""

    @property
    def file(self) -> Path:
        """The agent."""
        return agent_file()

    def render(self, configuration: Configuration, path: str) -> str:
        """The agent's property list."""
        return render_agent(configuration, path)

    def require(self) -> None:
        """Nothing: it is the first process of that system."""

    def enable(self) -> None:
        """Loads the agent, which starts it."""
        self.disable()
        done = _run(["launchctl", "bootstrap", f"gui/{os.getuid()}", str(self.file)])
        if done is None or done.returncode != 0:
            raise ServiceManagerFailed("launchd", "`launchctl` is not there" if done is None else _said(done))

    def disable(self) -> None:
        """Unloads the agent; what it started goes on."""
        _run(["launchctl", "bootout", f"gui/{os.getuid()}/{LABEL}"])

    def when_started(self) -> str:
        """Agents belong to a log-in."""
        return "the stack starts when you log in"


def find_service_manager(environ: Mapping[str, str]) -> SystemdUser | Launchd:
    """That of this system.

    Raises:
        ServiceManagerFailed: it has none that is known.
    """
    if sys.platform == "darwin":
        return Launchd()
    if shutil.which("systemctl", path=environ.get("PATH")) is None:
        raise ServiceManagerFailed("systemd", "this machine has no `systemctl`")
    return SystemdUser(environ)


def _store_settings(configuration: Configuration, found: FoundSettings) -> None:
    """Keeps what would not hold without this shell: settings in config.yaml, all else where only their owner
    can read it.

    Raises:
        ConfigurationError, HomeUnusable: they cannot be written.
    """
    for key, text in found.settings.items():
        set_value(configuration, key, text)
    if found.variables:
        import json

        prepare_home(configuration)
        merged = read_stored_environment(configuration.home) | dict(found.variables)
        path = stored_environment_file(configuration.home)
        replace_file(path, json.dumps(merged, indent=2, sort_keys=True) + "\n")


def install(
    manager: SystemdUser | Launchd, configuration: Configuration, path: str, found: FoundSettings
) -> None:
    """Stores the settings, writes the file and has it read. Where that is refused, all is as it was before.

    Raises:
        ConfigurationError: settings cannot be stored.
        HomeUnusable: a file cannot be written.
        ServiceManagerFailed: it is refused.
    """
    prepare_home(configuration)
    stored = (configuration.config_file.resolve(), stored_environment_file(configuration.home))
    with _as_before_when_refused(*stored, manager.file):
        _store_settings(configuration, found)
        _register(manager, configuration, path)


@contextmanager
def _as_before_when_refused(*files: Path) -> Generator[None]:
    before = {file: file.read_text(encoding="utf-8") if file.is_file() else None for file in files}
    try:
        yield
    except StigmerError:
        for file, text in before.items():
            if text is None:
                file.unlink(missing_ok=True)
            elif file.read_text(encoding="utf-8") != text:
                replace_file(file, text)
        raise


def _register(manager: SystemdUser | Launchd, configuration: Configuration, path: str) -> None:
    try:
        manager.file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HomeUnusable(manager.file.parent, error.strerror or str(error)) from error
    replace_file(manager.file, manager.render(configuration, path))
    manager.enable()


def uninstall(manager: SystemdUser | Launchd, configuration: Configuration) -> bool:
    """Takes all of it back but settings in config.yaml; whether it was installed."""
    was_installed = manager.file.is_file()
    if was_installed:
        manager.disable()
        manager.file.unlink(missing_ok=True)
    stored_environment_file(configuration.home).unlink(missing_ok=True)
    return was_installed


def _run(command: list[str]) -> "subprocess.CompletedProcess[str] | None":
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_CALL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def _said(done: "subprocess.CompletedProcess[str]") -> str:
    lines = done.stderr.strip().splitlines() or [f"it ended with exit code {done.returncode}"]
    return lines[-1]
