"""Wall clocks that can be moved for one program alone, by a library of ours that is preloaded (`clock.c`)."""

import shutil
import struct
import subprocess
from pathlib import Path
from typing import Final

_SOURCE: Final = Path(__file__).with_name("clock.c")
_NANOSECONDS: Final = 1_000_000_000
_COMPILE_TIMEOUT_SECONDS: Final = 60.0


def build_library(directory: Path) -> Path | None:
    """Compile the library; None where there is no compiler, so that no clock can be moved."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    library = directory / "clock.so"
    arguments = ["-shared", "-fPIC", "-O2", "-o", str(library), str(_SOURCE), "-ldl"]
    subprocess.run([compiler, *arguments], check=True, timeout=_COMPILE_TIMEOUT_SECONDS)
    return library


class Clock:
    """The wall clock of one program."""

    def __init__(self, file: Path, library: Path | None) -> None:
        """It is right at first."""
        self._file = file
        self._library = library
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(struct.pack("=q", 0))

    @property
    def environment(self) -> dict[str, str]:
        """For the program."""
        if self._library is None:
            return {}
        return {"LD_PRELOAD": str(self._library), "CHAOS_CLOCK": str(self._file)}

    def set(self, seconds: float) -> None:
        """Let it differ from the machine's by so much. The program maps the file: it stays the same one."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("=q", round(seconds * _NANOSECONDS)))
