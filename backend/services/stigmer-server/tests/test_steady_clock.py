"""The steady clock over the processes and starts of a machine."""

from datetime import timedelta
from pathlib import Path

from sqlalchemy import make_url

from stigmer_server.database.sqlite import SqliteDatabase
from stigmer_server.steady_clock import SteadyClock
from stigmer_server.tables import metadata


async def test_processes_of_one_start_of_a_machine_have_one_clock_and_the_next_start_another(
    tmp_path: Path,
) -> None:
    database = SqliteDatabase(make_url(f"sqlite:///{tmp_path}/x.db"))
    try:
        await database.write(metadata.create_all)
        first = SteadyClock(database, lambda: 1_000.0, "one")
        second = SteadyClock(database, lambda: 4_600.0, "one")
        after_restart = SteadyClock(database, lambda: 5.0, "two")
        for clock in (first, second, after_restart):
            await clock.load()

        assert second.now() - first.now() == timedelta(hours=1)
        # By the wall clock once more: near what the first one believes, whatever the seconds since the start.
        assert abs(after_restart.now() - first.now()) < timedelta(minutes=30)
    finally:
        await database.close()
