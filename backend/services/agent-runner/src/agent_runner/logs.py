"""Which log lines the runner writes, to standard error. Their form is the contract's.

Callers log ids, counts and codes. Prompts, answers, tool output and keys are never passed to a logger.
"""

import logging
import sys
from collections.abc import Callable

from stigmer_contract.environment import LogLevel
from stigmer_contract.log_lines import LogFormat, log_formatter, take_all_lines, take_lines_of_temporal


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
        take_lines_of_temporal()


class _Masked(logging.Formatter):
    def __init__(self, formatter: logging.Formatter, mask: Callable[[str], str]) -> None:
        super().__init__()
        self._formatter = formatter
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        return self._mask(self._formatter.format(record))
