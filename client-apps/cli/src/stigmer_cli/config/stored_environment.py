"""Variables that `stigmer server install` found in the environment alone, kept for starts without that shell.

They count as if they were exported, behind what is. Only their owner can read the file.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from stigmer_cli.errors import ConfigurationError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FILE = "_FILE"
MAX_FILE_BYTES = 1_000_000


def stored_environment_file(home: Path) -> Path:
    """Where they are."""
    return home / "environment.json"


def read_stored_environment(home: Path) -> dict[str, str]:
    """The variables that are stored; none where there is no file.

    Raises:
        ConfigurationError: the file cannot be read, others can read it, or it is no mapping of texts.
    """
    path = stored_environment_file(home)
    if not os.path.lexists(path):
        return {}
    try:
        with path.open("rb") as stream:
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            content = stream.read(MAX_FILE_BYTES)
        if mode & 0o077:
            raise ConfigurationError(str(path), "others can read the keys in it", f"run `chmod 600 {path}`")
        document: object = json.loads(content)
    except OSError as error:
        raise ConfigurationError(str(path), f"could not read the file: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(str(path), f"the file is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ConfigurationError(str(path), "the file must map names of variables to texts")
    entries = cast("dict[str, object]", document)
    for name, value in entries.items():
        if not _NAME.fullmatch(name) or not isinstance(value, str) or "\0" in value:
            raise ConfigurationError(str(path), f"{name!r} is no variable with a text")
    return cast("dict[str, str]", entries)


def with_stored(environ: Mapping[str, str], stored: Mapping[str, str]) -> dict[str, str]:
    """The environment, with those stored variables that it has in neither form, `NAME` and `NAME_FILE`."""
    held = {name.removesuffix(_FILE) for name, value in environ.items() if value}
    kept = {name: value for name, value in stored.items() if name.removesuffix(_FILE) not in held}
    return dict(environ) | kept
