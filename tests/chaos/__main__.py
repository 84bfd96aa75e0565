"""`python -m chaos`: runs it, prints the figures, and exits with 1 where an invariant was broken."""

import argparse
import secrets
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import NoReturn

from chaos.plan import FaultKind, Plan, Shape, make_plan, make_recovery_plan
from chaos.run import run_chaos
from postgres_server import find_postgres_binaries


def main() -> int:
    """Run once."""
    parser = argparse.ArgumentParser(
        prog="chaos", description="Let everything go wrong, and look what holds."
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="how long faults come (default: 1)")
    parser.add_argument("--seed", type=int, help="replays a schedule (default: another one each time)")
    parser.add_argument(
        "--recoveries",
        type=int,
        metavar="STRIKES",
        help="in place of all faults: so many known deaths, unknown ones and hangs, one after the other",
    )
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--home", type=Path, help="an empty directory for the logs of all programs")
    options = parser.parse_args()
    # Whoever ends the run early is to find nothing left of it, so it ends as by an error.
    signal.signal(signal.SIGTERM, _end)
    binaries = find_postgres_binaries()
    if binaries is None:
        print("error: PostgreSQL is missing; on Debian: apt-get install postgresql", file=sys.stderr)
        return 3
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    home: Path = (options.home or Path(tempfile.mkdtemp(prefix="stigmer-chaos-home-"))).resolve()
    home.mkdir(parents=True, exist_ok=True)
    print(f"seed {seed}, logs in {home}", file=sys.stderr, flush=True)
    strikes: int | None = options.recoveries
    minutes: float = options.minutes

    def make(kinds: frozenset[FaultKind]) -> Plan:
        return (
            make_plan(seed, Shape.of(minutes), kinds)
            if strikes is None
            else make_recovery_plan(seed, strikes)
        )

    report = run_chaos(make, binaries, home, lambda line: print(line, file=sys.stderr, flush=True))
    if options.json is not None:
        report.write(options.json)
    print("\n".join(report.lines()), flush=True)
    return 1 if report.broken else 0


def _end(signal_number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + signal_number)


if __name__ == "__main__":
    sys.exit(main())
