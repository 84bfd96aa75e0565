"""Brings the runner's image without starting anything: for `runner pull` and `server update`."""

from dataclasses import replace

from stigmer_cli.config import Configuration, prepare_home
from stigmer_cli.containers import EngineKind
from stigmer_cli.errors import HomeUnusable
from stigmer_cli.runner.choice import Report
from stigmer_cli.runner.engine_access import open_engine, told_to_the_person
from stigmer_cli.runner.plan import read_plan
from stigmer_cli.runner.pull_report import ImagePuller
from stigmer_cli.runner.resolution import ChosenImage, ImageWish, choose_image


def pull_runner_image(
    configuration: Configuration, engine: str | None, report: Report, *, is_quiet: bool
) -> ChosenImage:
    """Pulls the image that a start would use, whatever the policy.

    Raises:
        HomeUnusable: the state folder cannot be made.
        EngineNotReady: there is no engine.
        HomeUnusable: the state folder cannot be made.
        ImageUnavailable, ImageIncompatible: the image cannot be had, or is not fit.
    """
    prepare_home(configuration)
    plan = read_plan(configuration)
    kind = EngineKind(engine) if engine else None if plan is None else plan.engine
    if configuration.runner_engine == "none":
        configuration = replace(configuration, runner_engine="auto")
    try:  # Podman's service serves there
        configuration.run_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise HomeUnusable(configuration.home, error.strerror or str(error)) from error
    with told_to_the_person():
        found = open_engine(configuration, kind)
    with found, told_to_the_person(found.traits.kind.value):
        puller = ImagePuller(configuration, report, is_quiet=is_quiet)
        return choose_image(found, configuration, ImageWish(must_pull=True), puller)
