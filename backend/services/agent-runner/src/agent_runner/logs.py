"""How the runner logs: one line an event on standard error, as text or JSON, ids as fields.

Callers log ids, counts and codes. Prompts, answers, tool output and keys are never passed to a logger.
"""

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime

from agent_runner.settings import LogFormat, LogLevel
from stigmer_contract.untrusted_text import escape_controls, escape_json

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure_logging(level: LogLevel, form: LogFormat, mask: Callable[[str], str]) -> None:
    """Set up the root logger. Libraries speak only from `warning` up.

    `mask` takes secrets out of each line.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Masked(_JsonFormatter() if form == "json" else _TextFormatter(), mask))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("agent_runner").setLevel(level.upper())


def _fields(record: logging.LogRecord) -> dict[str, str]:
    return {name: str(value) for name, value in vars(record).items() if name not in _STANDARD}


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


class _Masked(logging.Formatter):
    def __init__(self, formatter: logging.Formatter, mask: Callable[[str], str]) -> None:
        super().__init__()
        self._formatter = formatter
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        return self._mask(self._formatter.format(record))


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        text = f"{_time(record)} {record.levelname:<7} {record.name}: {record.getMessage()}{fields}"
        if record.exc_info:
            text += f"\n{self.formatException(record.exc_info)}"
        return escape_controls(text)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["stack"] = self.formatException(record.exc_info)
        return escape_json(json.dumps(line, ensure_ascii=False))
