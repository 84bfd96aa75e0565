"""What the log lines look like: an entry is an entry, whatever text is in it."""

import io
import json
import logging
import subprocess
import sys

import pytest

from stigmer_contract.log_lines import LogFormat, log_formatter, print_failure

HOSTILE = "cut\r\n2026-01-01T00:00:00.000Z info forged: all is well\x1b[2J\x9b\u202e"


def entry(form: LogFormat) -> list[str]:
    """The lines of one entry with a traceback, its texts all hostile."""
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        record = logging.makeLogRecord(
            {
                "name": "some.program",
                "levelname": "ERROR",
                "msg": "tried %s",
                "args": (HOSTILE,),
                "created": 1_700_000_000.25,
                "exc_info": sys.exc_info(),
                "execution_id": HOSTILE,
            }
        )
    return log_formatter(form).format(record).splitlines()


def test_text_neither_steers_a_terminal_nor_forges_an_entry() -> None:
    first, *rest = entry("text")
    assert not set("\x1b\x9b\u202e\r") & set(first + "".join(rest))
    assert first.startswith("2023-11-14T22:13:20.250Z error some.program: tried cut")
    assert len(rest) > 2
    assert all(line.startswith("    ") for line in rest)


def test_json_is_one_line_that_holds_the_text_as_it_was() -> None:
    [line] = entry("json")
    assert not set("\x1b\x9b\u202e\r") & set(line)
    fields = json.loads(line)
    assert fields.pop("exception").startswith("Traceback")
    assert fields == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "error",
        "logger": "some.program",
        "message": f"tried {HOSTILE}",
        "execution_id": HOSTILE,
    }


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_plain_entry_is_one_line(form: LogFormat) -> None:
    record = logging.makeLogRecord({"name": "program", "levelname": "INFO", "msg": "started"})
    assert len(log_formatter(form).format(record).splitlines()) == 1


PROGRAM = """
import logging, sys, threading, warnings
from stigmer_contract.log_lines import log_formatter, take_all_lines
handler = logging.StreamHandler()
handler.setFormatter(log_formatter("json"))
logging.basicConfig(handlers=[handler])
take_all_lines("json", logging.getLogger("program"))
warnings.warn("old", DeprecationWarning, stacklevel=1)
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
raise RuntimeError("the end")
"""


def test_warnings_and_what_nobody_caught_are_lines_of_json_too() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", PROGRAM], capture_output=True, encoding="utf-8", check=False
    )

    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["level"], line["logger"]) for line in lines] == [
        ("warning", "py.warnings"),
        ("critical", "program"),
        ("critical", "program"),
    ]
    assert "ZeroDivisionError" in lines[1]["exception"]
    assert "RuntimeError: the end" in lines[2]["exception"]


@pytest.mark.parametrize("form", ["json", " JSON ", "text", "", "xml"])
def test_a_failure_is_told_as_the_environment_says(form: str) -> None:
    stream = io.StringIO()

    print_failure("it\x1b[1m broke", {"LOG_FORMAT": form}, stream, "program")

    text = stream.getvalue()
    assert "\x1b" not in text
    if form.strip().lower() == "json":
        line = json.loads(text)
        assert (line["level"], line["logger"]) == ("error", "program")
    else:
        assert text.startswith("error: it")
