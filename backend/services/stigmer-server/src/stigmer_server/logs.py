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
