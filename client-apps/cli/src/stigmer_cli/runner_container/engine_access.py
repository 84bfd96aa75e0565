"""Opens the engine that the configuration asks for, and tells its failures as the command line does."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from stigmer_cli.config import Configuration
from stigmer_cli.containers import Engine, EngineKind, find_engine
from stigmer_cli.containers.errors import (
    ContainersError,
    DiskFull,
    EngineUnusable,
    ImageError,
    ImageNotFound,
    MountRefused,
    RateLimited,
    RegistryDenied,
    RegistryUnreachable,
)
from stigmer_cli.errors import EngineNotReady, ImageUnavailable, StigmerError, UsageError

_OFFLINE = (
    "check the network and the proxy variables; without a registry, use "
    "`stigmer server start --image-archive FILE`, or `--native`"
)
_IMAGE_HINTS: dict[type[ImageError], str] = {
    ImageNotFound: "build it with `make build-image` and pass --use-local-image, set `runner.image`, "
    "or pass --native to run without a container",
    RegistryUnreachable: _OFFLINE,
    RateLimited: "wait and try again, or log in to the registry, which mostly allows more",
    DiskFull: "make room on the engine's disk, for example with `{engine} image prune`, and try again",
}


def open_engine(
    configuration: Configuration, kind: EngineKind | None, service_directory: Path | None = None
) -> Engine:
    """The wanted engine, or the first that can be used; a service for it serves in the run directory.

    Raises:
        EngineUnusable: there is none; the subclass tells why.
    """
    configured = configuration.runner_engine
    if kind is None and configured not in ("auto", "none"):
        kind = EngineKind(configured)
    return find_engine(configuration.environment, service_directory or configuration.run_directory, kind)


@contextmanager
def told_to_the_person(engine: str = "docker") -> Generator[None]:
    """Turns errors of engines into those of the command line; `engine` is the program that hints name."""
    try:
        yield
    except ContainersError as error:
        raise explain(error, engine) from error


def explain(error: ContainersError, engine: str = "docker") -> StigmerError:
    """The command line's error for an engine's."""
    match error:
        case EngineUnusable():
            return EngineNotReady(
                str(error), f"{error.remedy}; or pass --native to run the runner without a container"
            )
        case MountRefused():
            return UsageError(str(error), "name a directory that exists and that you can read")
        case RegistryDenied():
            registry = error.reference.partition("/")[0]
            return ImageUnavailable(str(error), f"run `{engine} login {registry}`", can_retry=False)
        case ImageError():
            hint = _IMAGE_HINTS.get(type(error))
            hint = hint.format(engine=engine) if hint else None
            return ImageUnavailable(str(error), hint, can_retry=error.can_retry)
        case _:
            return EngineNotReady(str(error), f"run `{engine} info` to see how the engine is")
