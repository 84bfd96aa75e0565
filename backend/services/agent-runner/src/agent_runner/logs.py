"""Which log lines the runner writes, to standard error. Their form is the contract's.

Callers log ids, counts and codes. Prompts, answers, tool output and keys are never passed to a logger.
"""

import logging
import sys
from collections.abc import Callable

from stigmer_contract.environment import LogLevel
from stigmer_contract.log_lines import LogFormat, log_formatter, take_all_lines


def configure_logging(level: LogLevel, form: LogFormat, mask: Callable[[str], str]) -> None:
    """Set up the root logger. Libraries speak only from `warning` up.

    `mask` takes secrets out of each line.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Masked(log_formatter(form), mask))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("agent_runner").setLevel(level.upper())
    take_all_lines(form, logging.getLogger("agent_runner"))
    if form == "json":
        _take_lines_of_temporal()


def _take_lines_of_temporal() -> None:
    """Temporal's own part is not Python's, and would write lines of its own form."""
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


class _Masked(logging.Formatter):
    def __init__(self, formatter: logging.Formatter, mask: Callable[[str], str]) -> None:
        super().__init__()
        self._formatter = formatter
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        return self._mask(self._formatter.format(record))
