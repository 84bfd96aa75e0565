"""Damages files of SQLite's as a bad disk would."""

import sqlite3
from contextlib import closing
from pathlib import Path


def damage_table(database: Path, table: str) -> None:
    """Overwrite a table's root page on disk, also of a database that is in use."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
        query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        (page,) = connection.execute(query, (table,)).fetchone()
    with database.open("r+b") as file:
        file.seek((page - 1) * page_size)
        file.write(b"\xee" * page_size)


def forget_pages(database: Path, table: str, column: str) -> None:
    """Change nothing in a table, by which every other connection forgets the pages that it holds."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute(f"UPDATE {table} SET {column} = {column}")  # noqa: S608 - names of a test's own
