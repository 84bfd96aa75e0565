"""Reads the configuration once: environment over config.yaml over what `server install` stored over default.

Writes only on `set_value` and `unset_value`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stigmer_cli.config.catalogue import Configuration, Setting, settings_by_field
from stigmer_cli.errors import ConfigurationError, HomeUnusable, UsageError
from stigmer_contract.environment import Environment, VariableWrong, under_present_names
from stigmer_contract.isolation_words import FORMER_VARIABLES

if TYPE_CHECKING:
    from stigmer_cli.config.config_file import ConfigFile

DEFAULT_HOME = "~/.stigmer"


def load_configuration(environ: Mapping[str, str]) -> Configuration:
    """Reads every setting. An empty variable counts as unset.

    Raises:
        ConfigurationError: a value is wrong, or config.yaml has an unknown key; names the place.
    """
    from stigmer_cli.config.config_file import ConfigFile
    from stigmer_cli.config.stored_environment import read_stored_environment, with_stored

    environ = _under_present_names(environ)
    environment = Environment(environ)
    home = _find_home(environment)
    stored = _under_present_names(read_stored_environment(home))
    path = home / "config.yaml"
    file = _read_file(path) if os.path.lexists(path) else ConfigFile(path, "", {}, {})
    values: dict[str, Any] = {}  # each parser returns its field's type
    sources: dict[str, str] = {}
    try:
        for name, setting in settings_by_field().items():
            values[name], sources[setting.key] = _read_setting(setting, environment, file, stored)
        every = with_stored(environ, stored)
        configuration = Configuration(home=home, sources=sources, environment=every, **values)
        _ = configuration.endpoint_keys  # a file of a key that cannot be read is told here
    except VariableWrong as error:
        raise ConfigurationError(error.variable, error.problem) from error
    _check_ports(configuration)
    return configuration


def _under_present_names(variables: Mapping[str, str]) -> dict[str, str]:
    try:
        return under_present_names(variables, FORMER_VARIABLES)
    except VariableWrong as error:
        raise ConfigurationError(error.variable, error.problem) from error


def set_value(configuration: Configuration, key: str, text: str) -> Path:
    """Sets one value in config.yaml, keeping comments and order; answers the file's path.

    Raises:
        UsageError: the key is unknown.
        ConfigurationError: the value is wrong, or config.yaml is.
        HomeUnusable: the file cannot be written.
    """
    from stigmer_cli.config.config_file import parse_config_text

    settings = _known_settings(key)
    _parse(settings[key], text, f"`{key}`")
    path = configuration.config_file
    new_text = _read_file(path).with_value(key, text)
    # What was written must be read back as it was meant, else the file stays as it is.
    refusal = ConfigurationError(str(path), f"could not set `{key}` in the file", "edit the file by hand")
    try:
        read_back = parse_config_text(path, new_text, settings).values.get(key)
    except ConfigurationError as error:
        raise refusal from error
    if read_back is None or read_back.text != text:
        raise refusal
    prepare_home(configuration)
    replace_file(path.resolve(), new_text)  # a link to the file stays a link
    return path


def unset_value(configuration: Configuration, key: str) -> Path | None:
    """Takes one value out of config.yaml; answers the file's path, or None where it was not there.

    Raises:
        UsageError: the key is unknown.
        ConfigurationError: config.yaml is wrong.
        HomeUnusable: the file cannot be written.
    """
    from stigmer_cli.config.config_file import parse_config_text

    settings = _known_settings(key)
    path = configuration.config_file
    file = _read_file(path)
    if key not in file.values:
        return None
    new_text = file.without_value(key)
    if key in parse_config_text(path, new_text, settings).values:
        raise ConfigurationError(str(path), f"could not take `{key}` out of the file", "edit it by hand")
    replace_file(path.resolve(), new_text)
    return path


def _known_settings(key: str) -> dict[str, Setting]:
    from stigmer_cli.config.config_file import unknown_key_hint

    settings = {setting.key: setting for setting in settings_by_field().values()}
    if key not in settings:
        raise UsageError(f"unknown key `{key}`", unknown_key_hint(key, settings))
    return settings


def prepare_home(configuration: Configuration) -> None:
    """Makes the state folder and its parts, for their owner only; those that exist stay as they are.

    Raises:
        HomeUnusable: a folder cannot be made or written to.
    """
    home = configuration.home
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (
            configuration.data_directory,
            configuration.log_directory,
            configuration.run_directory,
        ):
            folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise HomeUnusable(home, error.strerror or str(error)) from error
    for folder in (
        home,
        configuration.data_directory,
        configuration.log_directory,
        configuration.run_directory,
    ):
        if not os.access(folder, os.W_OK | os.X_OK):
            raise HomeUnusable(folder, "Permission denied")
        _check_others(folder)


def _check_others(folder: Path) -> None:
    """See that nobody else can put a token, a database or a program's state there.

    Raises:
        HomeUnusable: somebody can.
    """
    import stat

    status = folder.stat()
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise HomeUnusable(folder, "others can write to it", f"run `chmod 700 {folder}`")
    if os.getuid() not in (status.st_uid, 0):
        raise HomeUnusable(folder, "it is another user's")
    for parent in folder.resolve().parents:
        mode = parent.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:  # in a sticky one, as /tmp, to each the own
            raise HomeUnusable(folder, f"others can put another in its place, in {str(parent)!r}")


def replace_file(path: Path, text: str) -> None:
    """Writes a file that only its owner may read, in one step: readers see the old text or the new.

    Raises:
        HomeUnusable: the file cannot be written.
    """
    import tempfile

    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as stream:
                stream.write(text)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise HomeUnusable(path, error.strerror or str(error)) from error


def _find_home(environment: Environment) -> Path:
    text = environment.text("STIGMER_HOME") or DEFAULT_HOME
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:  # the home directory is unknown
        raise ConfigurationError("STIGMER_HOME", f"could not tell what {text!r} means: {error}") from error


def _read_file(path: Path) -> ConfigFile:
    from stigmer_cli.config.config_file import read_config_file

    settings = settings_by_field().values()
    mappings = {setting.key for setting in settings if setting.is_mapping}
    return read_config_file(path, {setting.key for setting in settings}, mappings)


def _read_setting(
    setting: Setting, environment: Environment, file: ConfigFile, stored: Mapping[str, str]
) -> tuple[object, str]:
    text, source = _read_variable(setting, environment)
    if text is not None:
        return _parse(setting, text, source), source
    if (found := file.values.get(setting.key)) is not None and found.text:
        value = _parse(setting, found.text, str(found.place), f"`{setting.key}`: ")
        return value, f"{found.place.path}:{found.place.line}"
    text, source = _read_variable(setting, Environment(stored)) if stored else (None, "")
    if text is not None:
        return _parse(setting, text, source), f"{source}, stored by `stigmer server install`"
    return None if setting.default is None else setting.parse(setting.default), "default"


def _read_variable(setting: Setting, environment: Environment) -> tuple[str | None, str]:
    name = setting.variable
    if setting.is_secret:
        return environment.secret_text(name), environment.source_of_secret(name)
    return environment.text(name), name


def _parse(setting: Setting, text: str, where: str, prefix: str = "") -> object:
    try:
        return setting.parse(text)
    except ValueError as error:
        raise ConfigurationError(where, f"{prefix}{error}") from error


def _check_ports(configuration: Configuration) -> None:
    ports = {
        "server.port": configuration.server_port,
        "runner.healthPort": configuration.runner_health_port,
        "temporal.uiPort": configuration.temporal_ui_port,
    }
    if configuration.temporal_address is None:
        ports["temporal.port"] = configuration.temporal_port
    taken: dict[int, str] = {}
    for key, port in ports.items():
        if port is None:
            continue
        if port in taken:
            raise ConfigurationError(
                configuration.sources[key], f"`{key}` and `{taken[port]}` are both {port}; ports must differ"
            )
        taken[port] = key
