"""Checks the files in which the local stack keeps everything: damage, and what there is room for."""

import contextlib
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path

from stigmer_cli.config import Configuration
from stigmer_cli.stack.finding import Finding, Outcome
from stigmer_cli.stack.temporal_database import KEPT_ASIDE
from stigmer_contract.sqlite_damage import DamageSearch

CHECK_SECONDS = 3.0
"""How long a file is looked through: some hundred megabytes."""
MEASURE_SECONDS = 1.0


def check_databases(configuration: Configuration) -> list[Finding]:
    """A finding for each file; of a database elsewhere its server tells."""
    findings: list[Finding] = []
    data = configuration.data_directory
    if configuration.server_database_url is None:
        remedy = (
            "run `stigmer server stop`, then put a backup in its place, or recover what can be read: "
            "`sqlite3 stigmer.db .recover | sqlite3 recovered.db`"
        )
        findings += _check("database", data / "stigmer.db", remedy)
    if configuration.temporal_address is None:
        remedy = "run `stigmer server restart`, which moves it aside; every execution goes on from the log"
        findings += _check("temporal's database", data / "temporal.db", remedy)
        if aside := sorted(data.glob(f"temporal.db{KEPT_ASIDE}*")):
            detail = f"{aside[-1]} was damaged and moved aside; executions went on from the log"
            findings.append(
                Finding("temporal's database", Outcome.WARNING, detail, "delete it when nobody needs it")
            )
    if data.exists():
        findings.append(_measure(data))
    return findings


def _measure(data: Path) -> Finding:
    """What the stack's files take; of many only those that are seen in a second are counted."""
    end = time.monotonic() + MEASURE_SECONDS
    parts = {
        "log": data.glob("stigmer.db*"),
        "blobs": (data / "blobs").rglob("*"),
        "Temporal": data.glob("temporal.db*"),
        "sessions' folders": (data / "workspace").rglob("*"),
    }
    said = [f"{name} {_total(files, end)}" for name, files in parts.items()]
    return Finding("sizes", Outcome.PASSED, ", ".join(said))


def _total(files: Iterable[Path], end: float) -> str:
    total, is_all = 0, True
    with contextlib.suppress(OSError):  # something that is just being removed
        for file in files:
            total += file.lstat().st_size
            if time.monotonic() > end:
                is_all = False
                break
    return f"{'' if is_all else 'more than '}{total / 1e6:.1f} MB"


def _check(name: str, path: Path, remedy: str) -> list[Finding]:
    if not path.exists():
        return []
    search = DamageSearch(path, CHECK_SECONDS)
    try:
        found = search.run()
    except sqlite3.Error as error:
        return [Finding(name, Outcome.WARNING, f"{path} cannot be read now: {error}", "try it again later")]
    if found is not None:
        return [Finding(name, Outcome.FAILED, f"{path} is damaged: {found}", remedy)]
    part = "" if search.is_done else ", as far as was looked in some seconds"
    return [Finding(name, Outcome.PASSED, f"{path} is sound{part}")]
