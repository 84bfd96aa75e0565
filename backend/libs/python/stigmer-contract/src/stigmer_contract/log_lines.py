"""The form of a log line, the same in all programs, which people read merged: text or JSON, ids as fields."""

import json
import logging
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Literal, TextIO

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


def take_all_lines(form: LogFormat, logger: logging.Logger) -> None:
    """Has warnings of Python, and of JSON lines also what nobody caught, written as entries, too."""
    logging.captureWarnings(capture=True)
    if form != "json":
        return

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        logger.critical("the program ends: nobody caught this", exc_info=(kind, error, trace))

    def tell_of_thread(ended: threading.ExceptHookArgs) -> None:
        if ended.exc_value is not None:
            exc_info = (ended.exc_type, ended.exc_value, ended.exc_traceback)
            logger.critical("a thread ends: nobody caught this", exc_info=exc_info)

    sys.excepthook, threading.excepthook = tell, tell_of_thread


def take_lines_of_temporal() -> None:
    """Has lines of Temporal's own part, which is not Python's, written as entries, too.

    For programs that have its SDK. It takes a while: call it when the environment was found right.
    """
    from temporalio.runtime import (
        LogForwardingConfig,
        LoggingConfig,
        Runtime,
        TelemetryConfig,
        TelemetryFilter,
    )

    lines = LoggingConfig(
        filter=TelemetryFilter(core_level="WARN", other_level="ERROR"),
        forwarding=LogForwardingConfig(logger=logging.getLogger("temporalio")),
    )
    Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=lines)), error_if_already_set=False)


def print_failure(message: str, environ: Mapping[str, str], stream: TextIO, program: str) -> None:
    """Says why a program ends, also where its logging could not be set up: as LOG_FORMAT has it, else a line
    `error: …`."""
    if environ.get("LOG_FORMAT", "").strip().lower() != "json":
        print(f"error: {escape_controls(message)}", file=stream)
        return
    record = logging.LogRecord(program, logging.ERROR, "", 0, message, None, None)
    print(_JsonFormatter().format(record), file=stream)


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
