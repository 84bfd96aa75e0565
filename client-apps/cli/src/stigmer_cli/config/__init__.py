"""The command line's configuration: what can be set, and reading it once from environment and config.yaml."""

from stigmer_cli.config.catalogue import Configuration, Connection, Setting, Verify, settings_by_field
from stigmer_cli.config.reader import load_configuration, prepare_home, replace_file, set_value, unset_value
from stigmer_cli.config.values import Secret

__all__ = [
    "Configuration",
    "Connection",
    "Secret",
    "Setting",
    "Verify",
    "load_configuration",
    "prepare_home",
    "replace_file",
    "set_value",
    "settings_by_field",
    "unset_value",
]
