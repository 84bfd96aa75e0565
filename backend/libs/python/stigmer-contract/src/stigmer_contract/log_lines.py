"""The form of a log line, the same in all programs, which people read merged: text or JSON, ids as fields."""

import json
import logging
from datetime import UTC, datetime
from typing import Final, Literal

from stigmer_contract.untrusted_text import escape_controls, escape_json

LogFormat = Literal["text", "json"]

_STANDARD_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
    "color_message",
}


def log_formatter(form: LogFormat) -> logging.Formatter:
    """Writes a record as one entry, whatever text is in it."""
    return _JsonFormatter() if form == "json" else _TextFormatter()


def _time_of(record: logging.LogRecord) -> str:
    time = datetime.fromtimestamp(record.created, UTC)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fields_of(record: logging.LogRecord) -> dict[str, str]:
    return {name: str(value) for name, value in vars(record).items() if name not in _STANDARD_FIELDS}


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in _fields_of(record).items())
        line = f"{_time_of(record)} {record.levelname.lower()} {record.name}: {record.getMessage()}{fields}"
        if record.exc_info:
            line += f"\n{self.formatException(record.exc_info)}"
        return escape_controls(line)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields_of(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return escape_json(json.dumps(line, ensure_ascii=False))
