"""What has the system start the stack: a user's systemd unit, or a launchd agent on macOS. Runs no program.

Both call `stigmer server start`, which waits for its engine: a system's Docker is no concern of a user's
systemd, so that no order between the two can be written down.
"""

import plistlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stigmer_cli.config import Configuration, settings_by_field

UNIT: Final = "stigmer.service"
LABEL: Final = "dev.stigmer.stack"
ENGINE_SECONDS: Final = 600
"""How long a start at boot waits for an engine and an image."""

_OWN: Final = ("STIGMER_", "TEMPORAL_", "OTEL_", "PG", "DOCKER_", "CONTAINER_", "CONTAINERS_")
_OWN_NAMES: Final = frozenset(
    {
        *("LOG_FORMAT", "LOG_LEVEL", "REGISTRY_AUTH_FILE", "SSL_CERT_FILE", "SSL_CERT_DIR"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    }
)
_OF_THE_SHELL: Final = frozenset({"STIGMER_HOME", "STIGMER_DEBUG", "STIGMER_TOKEN", "STIGMER_TOKEN_FILE"})
"""The first stands in the unit, and the others say nothing of a stack here."""


@dataclass(frozen=True)
class FoundSettings:
    """What holds in this shell, and would not in a start by the system."""

    settings: Mapping[str, str]
    """Of config.yaml, by key; no secrets."""
    variables: Mapping[str, str]
    """All else: keys, and what config.yaml has no key for."""


def find_settings(configuration: Configuration, environ: Mapping[str, str]) -> FoundSettings:
    """The settings that stand only in the environment."""
    settings: dict[str, str] = {}
    variables: dict[str, str] = {}
    by_variable = {setting.variable: setting for setting in settings_by_field().values()}
    keys = set(configuration.endpoint_keys)
    for name, value in sorted(environ.items()):
        plain_name = name.removesuffix("_FILE")
        setting = by_variable.get(name) or by_variable.get(plain_name)
        if not value.strip() or name in _OF_THE_SHELL:
            continue
        if setting is not None and not setting.is_secret:
            if name == setting.variable:
                settings[setting.key] = value.strip()
        elif setting is not None or plain_name in keys or name in _OWN_NAMES or name.startswith(_OWN):
            variables[name] = value
    return FoundSettings(settings, variables)


def render_unit(configuration: Configuration, path: str) -> str:
    """The systemd unit (systemd.service(5) and systemd.unit(5), version 252). It holds no settings.

    `path`: the PATH that agents' commands find programs by, where the runner is a plain process.
    """
    # The colon: no `$` in them means a variable. (A doubled one would be none in the program's own name.)
    program, *arguments = _program()
    command = [_quoted(f":{program}"), *map(_quoted, arguments)]
    start = " ".join([*command, "server", "start", "--timeout", str(ENGINE_SECONDS)])
    return f"""\
# Written by `stigmer server install`; `stigmer server uninstall` removes it.
[Unit]
Description=Stigmer's local stack: runs AI agents that finish
After=podman.socket docker.service

[Service]
# The stack's own supervisor restarts its parts, and goes on when the command has ended.
Type=oneshot
RemainAfterExit=yes
Environment={_quoted(f"STIGMER_HOME={configuration.home}")}
Environment={_quoted(f"PATH={path}")}
ExecStart={start}
ExecStop={" ".join([*command, "server", "stop"])}
Restart=on-failure
RestartSec=30

[Install]
WantedBy=default.target
"""


def render_agent(configuration: Configuration, path: str) -> str:
    """The launchd agent (launchd.plist(5), macOS 15), as a property list."""
    return plistlib.dumps(
        {
            "Label": LABEL,
            "ProgramArguments": [*_program(), "server", "start", "--timeout", str(ENGINE_SECONDS)],
            "RunAtLoad": True,
            # Else launchd would end the stack with the command that started it.
            "AbandonProcessGroup": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ThrottleInterval": 30,
            "EnvironmentVariables": {"STIGMER_HOME": str(configuration.home), "PATH": path},
            "StandardErrorPath": str(configuration.log_directory / "launchd.log"),
        }
    ).decode()


def unit_file(environ: Mapping[str, str]) -> Path:
    """Where systemd looks for units of this user."""
    configured = environ.get("XDG_CONFIG_HOME")
    folder = Path(configured) if configured else Path("~/.config").expanduser()
    return folder / "systemd/user" / UNIT


def agent_file() -> Path:
    """Where launchd looks for agents of this user."""
    return Path("~/Library/LaunchAgents").expanduser() / f"{LABEL}.plist"


def _program() -> list[str]:
    return [sys.executable, "-P", "-m", "stigmer_cli"]


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("\n", "\\n")
    return f'"{escaped}"'
