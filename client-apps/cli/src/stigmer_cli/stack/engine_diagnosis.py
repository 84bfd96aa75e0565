"""Checks what the runner's container needs: an engine, its limits, and the image."""

import tempfile
from pathlib import Path

from stigmer_cli.config import Configuration
from stigmer_cli.containers import Engine, EngineKind
from stigmer_cli.containers.errors import ContainersError, EngineNotInstalled, EngineUnusable
from stigmer_cli.runner_container.engine_access import open_engine
from stigmer_cli.runner_container.resolution import wanted_reference
from stigmer_cli.stack.model_access import Finding, Outcome
from stigmer_cli.stack.runner_choice import UNCONTAINED_NOTE

_ENGINE, _IMAGE, _LIMITS = "container engine", "runner image", "container limits"
_MIN_OPEN_FILES = 4096
_CONTAIN = "install Docker or Podman, or pass --engine to be told what is wrong with it"


def check_engine(configuration: Configuration) -> list[Finding]:
    """The engine that a start would use, and what it lacks."""
    if configuration.runner_engine == "none":
        detail = f"`runner.engine` is none: {UNCONTAINED_NOTE}"
        return [Finding(_ENGINE, Outcome.WARNING, detail, "run `stigmer config set runner.engine auto`")]
    with tempfile.TemporaryDirectory(prefix="stigmer-") as directory:  # the home may not exist yet
        return _check(configuration, Path(directory))


def _check(configuration: Configuration, service_directory: Path) -> list[Finding]:
    try:
        engine = open_engine(configuration, None, service_directory)
    except EngineUnusable as error:
        is_wanted = configuration.runner_engine != "auto"
        outcome = Outcome.FAILED if is_wanted else Outcome.WARNING
        detail = str(error) if is_wanted else f"{error}; {UNCONTAINED_NOTE}"
        remedy = _CONTAIN if isinstance(error, EngineNotInstalled) and not is_wanted else error.remedy
        return [Finding(_ENGINE, outcome, detail, remedy)]
    with engine:
        found = Finding(_ENGINE, Outcome.PASSED, engine.traits.title)
        return [found, *_check_limits(engine), _check_image(engine, configuration)]


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
    reference = wanted_reference(configuration)
    try:
        image = engine.images.find(reference)
    except ContainersError as error:
        return Finding(_IMAGE, Outcome.FAILED, str(error), f"run `{engine.traits.kind} info`")
    if image is not None:
        return Finding(_IMAGE, Outcome.PASSED, f"{reference} is here")
    if configuration.runner_pull_policy == "never":
        detail = f"{reference} is not here, and `runner.pullPolicy` is never"
        return Finding(_IMAGE, Outcome.FAILED, detail, "run `stigmer runner pull`")
    detail = f"{reference} is not here; the first start pulls it"
    return Finding(_IMAGE, Outcome.WARNING, detail, "run `stigmer runner pull`")
