"""Options of commands that may pull the runner's image."""

from __future__ import annotations

from typing import Literal, get_args

import click

Verify = Literal["auto", "require", "off"]

verify_option = click.option(
    "--verify",
    type=click.Choice(get_args(Verify)),
    help="Whether a pulled image must be signed; else as `runner.verify` says.",
)
