"""Exit codes by which processes that we start tell their supervisor more than that they have ended."""

EXIT_AWAY = 75
"""What it needs is away for the moment (EX_TEMPFAIL of sysexits.h): it is no fault of its own."""
