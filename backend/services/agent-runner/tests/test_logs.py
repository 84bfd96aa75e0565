"""What the log lines look like: an entry is an entry, whatever text is in it."""

import json
import subprocess
import sys

import pytest

HOSTILE = "cut\r\n2026-01-01T00:00:00.000Z INFO forged: all is well\x1b[2J\x9b\u202e"
PROGRAM = """
import logging
from %(module)s import configure_logging
configure_logging(%(level)r, %(form)r, str)
try:
    raise ValueError(%(hostile)r)
except ValueError:
    logging.getLogger("%(package)s").exception("tried %%s", %(hostile)r, extra={"execution_id": %(hostile)r})
"""


def log_lines(form: str) -> list[str]:
    """What one entry with a traceback becomes, its texts all hostile."""
    program = PROGRAM % {
        "module": "agent_runner.logs",
        "package": "agent_runner",
        "level": "info",
        "form": form,
        "hostile": HOSTILE,
    }
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)
    return ended.stderr.decode().splitlines()


@pytest.mark.parametrize("form", ["text", "json"])
def test_text_in_an_entry_neither_steers_a_terminal_nor_forges_an_entry(form: str) -> None:
    first, *rest = log_lines(form)
    assert not set("\x1b\x9b\u202e\r") & set(first + "".join(rest))
    if form == "json":
        assert rest == []
        assert json.loads(first)["message"] == f"tried {HOSTILE}"
    else:
        assert "tried cut" in first
        assert len(rest) > 2
        assert all(line.startswith("    ") for line in rest)
