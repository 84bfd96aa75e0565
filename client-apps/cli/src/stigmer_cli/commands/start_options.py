"""The options of commands that start the stack, and what they say of the runner."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

from stigmer_cli.commands.completions import complete_files
from stigmer_cli.commands.image_options import Verify, verify_option
from stigmer_cli.errors import UsageError

if TYPE_CHECKING:
    from stigmer_cli.config import Configuration
    from stigmer_cli.stack import RunnerWish

THIS_CHECKOUT = ""
"""What `--use-local-image` says without a name."""

FunctionT = TypeVar("FunctionT", bound=Callable[..., object])


def start_options(function: FunctionT) -> FunctionT:
    """Of `server start` and `server restart`."""
    for option in (
        click.option(
            "--timeout",
            type=click.FloatRange(min=0.1),
            metavar="SECONDS",
            help="Wait so long at most; else say for what (default 120, for an engine 60).",
        ),
        click.option("--wait/--no-wait", default=True, help="Wait until all of it is ready (default)."),
        click.option("--quiet", is_flag=True, help="Show no progress."),
        click.option(
            "--image-archive",
            metavar="FILE",
            help="Load the runner's image from a file.",
            shell_complete=complete_files,
        ),
        click.option(
            "--use-local-image",
            is_flag=False,
            flag_value=THIS_CHECKOUT,
            metavar="[=REF]",
            help="Use the image that was built here of this checkout, or the one that is named.",
        ),
        verify_option,
        click.option("--engine", type=click.Choice(["docker", "podman"]), help="Use this engine, or fail."),
        click.option("--native", is_flag=True, help="Run the runner as a plain process, uncontained."),
    ):
        function = option(function)
    return function


def local_configuration(what: str) -> Configuration:
    """The configuration, where the stack is this machine's. `what`: such as `stop`.

    Raises:
        UsageError: `server.endpoint` names another.
    """
    from stigmer_cli.config import load_configuration

    configuration = load_configuration(os.environ)
    if configuration.server_endpoint is not None:
        raise UsageError(
            f"could not {what} a local stack: the server is {configuration.server_endpoint}",
            "unset STIGMER_BACKEND_ENDPOINT, or run `stigmer config unset server.endpoint`",
        )
    return configuration


def grace_seconds(grace: str | None, *, is_now: bool) -> float:
    """For how long a runner may finish the steps it has in hand.

    Raises:
        UsageError: the options contradict each other, or the duration is none.
    """
    from stigmer_cli.stack.lifecycle import DEFAULT_GRACE_SECONDS

    if grace is None:
        return 0.0 if is_now else DEFAULT_GRACE_SECONDS
    if is_now:
        raise UsageError("`--now` cannot go with `--grace`", "pass one of them")
    from stigmer_contract.manifest_parts import parse_duration

    try:
        return parse_duration(grace).total_seconds()
    except ValueError as error:
        raise UsageError(f"--grace: {error}", "write it like 90s, 10m or 1h") from error


def runner_wish(
    native: bool,
    engine: str | None,
    use_local_image: str | None,
    image_archive: str | None,
    verify: Verify | None,
    quiet: bool,
) -> RunnerWish:
    """What these options say.

    Raises:
        UsageError: two of them contradict each other.
    """
    from pathlib import Path

    from stigmer_cli.stack import RunnerWish

    if native and (engine or use_local_image is not None or image_archive):
        raise UsageError(
            "`--native` runs no container, so it cannot go with "
            "`--engine`, `--use-local-image` or `--image-archive`"
        )
    if use_local_image is not None and image_archive:
        raise UsageError("`--use-local-image` and `--image-archive` name two images", "pass one of them")
    archive = Path(image_archive).expanduser().absolute() if image_archive else None
    return RunnerWish(
        native,
        engine,
        use_local_image is not None,
        None if use_local_image == THIS_CHECKOUT else use_local_image,
        archive,
        verify=verify,
        is_quiet=quiet,
    )
