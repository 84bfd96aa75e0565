"""`stigmer config`: shows every setting with its source, and sets one in config.yaml."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import cast

import click

from stigmer_cli.commands.completions import complete_keys

_MASK = "********"


@click.group("config", epilog="Example: stigmer config set llm.model gpt-5")
def config_group() -> None:
    """Show and set configuration."""


@config_group.command(epilog="Example: stigmer config show --json")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(as_json: bool) -> None:
    """Show every setting, its value and where the value comes from."""
    from stigmer_cli.config import load_configuration, settings_by_field
    from stigmer_cli.output import print_json, print_line

    configuration = load_configuration(os.environ)
    settings = settings_by_field()
    values = {name: _shown(getattr(configuration, name)) for name in settings}
    if as_json:
        entries = {
            setting.key: {
                "value": values[name],
                "source": configuration.sources[setting.key],
                "variable": setting.variable,
                "description": setting.description,
            }
            for name, setting in settings.items()
        }
        print_json({"home": str(configuration.home), "settings": entries})
        return
    rows = [
        ("home", str(configuration.home), "STIGMER_HOME" if os.environ.get("STIGMER_HOME") else "default")
    ]
    rows += [
        (setting.key, "-" if values[name] is None else str(values[name]), configuration.sources[setting.key])
        for name, setting in settings.items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for key, value, source in rows:
        print_line(f"{key:<{widths[0]}}  {value:<{widths[1]}}  {source}")


@config_group.command("set", epilog="Example: stigmer config set llm.model gpt-5")
@click.argument("key", shell_complete=complete_keys)
@click.argument("value")
def set_(key: str, value: str) -> None:
    """Set KEY to VALUE in config.yaml.

    With `-` as VALUE the value is read from stdin, which keeps a secret out of the shell's history.
    """
    from stigmer_cli.config import load_configuration, set_value
    from stigmer_cli.output import print_note

    if value == "-":
        value = _read_stdin(key)
    configuration = load_configuration(os.environ)
    path = set_value(configuration, key, value)
    print_note(f"set {key} in {path}; a running stack uses it after `stigmer server restart`")


@config_group.command("get", epilog="Example: stigmer config get llm.model")
@click.argument("key", shell_complete=complete_keys)
def get(key: str) -> None:
    """Print the value of KEY that is in force, wherever it comes from; a secret is masked."""
    from stigmer_cli.config import load_configuration, settings_by_field
    from stigmer_cli.config.config_file import unknown_key_hint
    from stigmer_cli.errors import StigmerError, UsageError
    from stigmer_cli.output import print_line

    fields = {setting.key: name for name, setting in settings_by_field().items()}
    if key not in fields:
        raise UsageError(f"unknown key `{key}`", unknown_key_hint(key, fields))
    value = _shown(getattr(load_configuration(os.environ), fields[key]))
    if value is None:
        raise StigmerError(f"`{key}` is not set", f"run `stigmer config set {key} VALUE`")
    print_line(str(value))


@config_group.command("unset", epilog="Example: stigmer config unset llm.model")
@click.argument("key", shell_complete=complete_keys)
def unset(key: str) -> None:
    """Take KEY out of config.yaml, so that its default holds again."""
    from stigmer_cli.config import load_configuration, unset_value
    from stigmer_cli.output import print_note

    path = unset_value(load_configuration(os.environ), key)
    if path is None:
        print_note(f"{key} is not set in config.yaml")
    else:
        print_note(f"took {key} out of {path}; a running stack follows after `stigmer server restart`")


def _read_stdin(key: str) -> str:
    import sys

    from stigmer_cli.output import is_terminal

    if is_terminal(sys.stdin):
        answer: str = click.prompt(key, hide_input=True, err=True)
        return answer.strip()
    return sys.stdin.read().strip()


def _shown(value: object) -> str | int | float | None:
    from stigmer_cli.config import Secret

    if isinstance(value, Secret):
        return _MASK
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, timedelta):
        from stigmer_cli.config.values import written_duration

        return written_duration(value)
    if isinstance(value, tuple):
        return ",".join(cast("tuple[str, ...]", value)) or "none"
    return value if isinstance(value, str | int | float) else None
