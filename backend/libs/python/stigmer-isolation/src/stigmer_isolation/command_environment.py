"""Decides what of its starter's environment a command may see: where programs are and how text is read."""

from collections.abc import Mapping
from typing import Final

PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
"""Copied from the starter's environment. Everything else stays out: any other variable may be a secret."""

_DEFAULTS: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
}


def command_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What commands get of `environ`, with defaults for what is missing or empty."""
    return {**_DEFAULTS, **{name: environ[name] for name in PASSED_ON if environ.get(name)}}
