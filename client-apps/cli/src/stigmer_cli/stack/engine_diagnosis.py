"""Checks what the runner's container needs: an engine, its limits, and the image."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path

from stigmer_cli.config import Configuration
from stigmer_cli.containers import Engine, EngineKind, ImageReference
from stigmer_cli.containers.credentials import find_credentials
from stigmer_cli.containers.errors import (
    ContainersError,
    EngineNotInstalled,
    EngineUnusable,
    ImageError,
    ImageNotFound,
    RegistryDenied,
)
from stigmer_cli.containers.registry import describe_image
from stigmer_cli.errors import ImageIncompatible
from stigmer_cli.runner.choice import UNCONTAINED_NOTE
from stigmer_cli.runner.engine_access import open_engine
from stigmer_cli.runner.inspection import ANSWER_SECONDS
from stigmer_cli.runner.plan import read_plan
from stigmer_cli.runner.pull_report import LOOK_SECONDS
from stigmer_cli.runner.resolution import (
    ChosenImage,
    check_image,
    check_labels,
    find_image,
    wanted_reference,
)
from stigmer_cli.stack.clock_diagnosis import ClockReading
from stigmer_cli.stack.finding import Finding, Outcome

_ENGINE, _IMAGE, _LIMITS = "container engine", "runner image", "container limits"
_BUILD = "run `make build-image` and pass --use-local-image, or set `runner.image`"
_MIN_OPEN_FILES = 4096
_CONTAIN = "install Docker or Podman, or pass --engine to be told what is wrong with it"


def check_engine(configuration: Configuration) -> tuple[list[Finding], list[ClockReading]]:
    """The engine that a start would use, and what it lacks; and its clock, where it has one of its own."""
    if configuration.runner_engine == "none":
        detail = f"`runner.engine` is none: {UNCONTAINED_NOTE}"
        remedy = "run `stigmer config set runner.engine auto`"
        return [Finding(_ENGINE, Outcome.WARNING, detail, remedy)], []
    with tempfile.TemporaryDirectory(prefix="stigmer-") as directory:  # the home may not exist yet
        return _check(configuration, Path(directory))


def _check(configuration: Configuration, service_directory: Path) -> tuple[list[Finding], list[ClockReading]]:
    plan = read_plan(configuration)  # the stack's own engine, whatever else there is
    try:
        kind = None if plan is None else plan.engine
        engine = open_engine(configuration, kind, service_directory, ANSWER_SECONDS)
    except EngineUnusable as error:
        is_wanted = configuration.runner_engine != "auto" or plan is not None
        outcome = Outcome.FAILED if is_wanted else Outcome.WARNING
        detail = str(error) if is_wanted else f"{error}; {UNCONTAINED_NOTE}"
        remedy = _CONTAIN if isinstance(error, EngineNotInstalled) and not is_wanted else error.remedy
        return [Finding(_ENGINE, outcome, detail, remedy)], []
    with engine:
        found = Finding(_ENGINE, Outcome.PASSED, engine.traits.title)
        findings = [found, *_check_limits(engine), _check_image(engine, configuration)]
        return findings, _read_clock(engine)


def _read_clock(engine: Engine) -> list[ClockReading]:
    """Virtual machines fall behind while a laptop sleeps."""
    if not engine.traits.is_virtual:
        return []
    try:
        return [ClockReading(engine.traits.title, engine.read_clock(), datetime.now(UTC))]
    except (ContainersError, ValueError):
        return []


def _check_limits(engine: Engine) -> list[Finding]:
    findings: list[Finding] = []
    if not engine.traits.has_limits:
        detail = "rootless on cgroup v1, so memory and processes of agents are not limited"
        findings.append(Finding(_LIMITS, Outcome.WARNING, detail, "boot with cgroup v2"))
    if engine.traits.kind is EngineKind.PODMAN:
        import resource

        # crun of 2023 asks for more than a low hard limit allows, and fails.
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY and hard < _MIN_OPEN_FILES:
            detail = f"at most {hard} open files are allowed, and Podman may ask for more"
            remedy = 'set `default_ulimits = ["nofile=…"]` in containers.conf to what is allowed'
            findings.append(Finding(_LIMITS, Outcome.WARNING, detail, remedy))
    return findings


def _check_image(engine: Engine, configuration: Configuration) -> Finding:
    text = wanted_reference(configuration)
    try:
        reference = ImageReference.parse(text)
        image = find_image(engine, reference)
    except ValueError as error:
        return Finding(_IMAGE, Outcome.FAILED, str(error), "correct `runner.image`")
    except ContainersError as error:
        return Finding(_IMAGE, Outcome.FAILED, str(error), f"run `{engine.traits.kind} info`")
    if image is not None:
        try:
            check_image(ChosenImage(text, image), engine)
        except ImageIncompatible as error:
            return Finding(_IMAGE, Outcome.FAILED, error.message, error.hint)
        return Finding(_IMAGE, Outcome.PASSED, f"{text} is here")
    if configuration.runner_pull_policy == "never":
        detail = f"{text} is not here, and `runner.pullPolicy` is never"
        return Finding(_IMAGE, Outcome.FAILED, detail, "run `stigmer runner pull`")
    return _check_registry(engine, configuration, reference)


def _check_registry(engine: Engine, configuration: Configuration, reference: ImageReference) -> Finding:
    credentials = find_credentials(reference.registry, configuration.environment)
    try:
        told = describe_image(reference, engine.traits.architecture, credentials, LOOK_SECONDS)
        if told.labels is not None:
            check_labels(str(reference), told.labels)
    except ImageIncompatible as error:
        return Finding(_IMAGE, Outcome.FAILED, error.message, error.hint)
    except ImageError as error:
        is_wanted = configuration.runner_image is not None or configuration.runner_engine != "auto"
        if not isinstance(error, ImageNotFound | RegistryDenied):
            return Finding(
                _IMAGE, Outcome.WARNING, f"{error}; a start fails by that, but with --native", _BUILD
            )
        if is_wanted:
            return Finding(_IMAGE, Outcome.FAILED, str(error), "set `runner.image` to one that can be had")
        return Finding(_IMAGE, Outcome.WARNING, f"{error}; {UNCONTAINED_NOTE}", _BUILD)
    detail = (
        f"{reference} is not here; the first start pulls it ({sum(told.layer_bytes.values()) / 1e6:.1f} MB)"
    )
    return Finding(_IMAGE, Outcome.WARNING, detail, "run `stigmer runner pull`")
