"""Stands in for the program of that name."""

from stand_in import run

run("server", "STIGMER_PORT")
