"""Which log lines the process writes, to stderr. Their form is the contract's."""

import logging

from stigmer_contract.environment import LogLevel
from stigmer_contract.log_lines import LogFormat, log_formatter, take_all_lines


def configure_logging(level: LogLevel, form: LogFormat) -> None:
    """Set the process's logging up, the libraries' included."""
    handler = logging.StreamHandler()
    handler.setFormatter(log_formatter(form))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    take_all_lines(form, logging.getLogger("stigmer_server"))
    # Uvicorn says at INFO what `server` says itself; Alembic tells of every step.
    for name in ("uvicorn.error", "alembic", "sqlalchemy", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING if level != "debug" else logging.INFO)


def take_lines_of_temporal() -> None:
    """Temporal's own part is not Python's, and would write lines of its own form."""
    # Not above: it takes a while, and what is wrong with the environment is told before.
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
