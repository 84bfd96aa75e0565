"""Opens the engine that the configuration asks for, and tells its failures as the command line does."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from stigmer_cli.config import Configuration
from stigmer_cli.containers import Engine, EngineKind, find_engine
from stigmer_cli.containers.errors import (
    ContainersError,
    DiskFull,
    EngineNotRunning,
    EngineSilent,
    EngineUnusable,
    ImageError,
    ImageNotFound,
    MountRefused,
    RateLimited,
    RegistryDenied,
    RegistryUnreachable,
    RegistryUntrusted,
)
from stigmer_cli.containers.finding import ANSWER_SECONDS
from stigmer_cli.errors import EngineNotReady, ImageUnavailable, StigmerError, UsageError

_IMAGE_HINTS: dict[type[ImageError], str] = {
    ImageNotFound: "build it with `make build-image` and pass --use-local-image, or set `runner.image`",
    RegistryDenied: "run `{engine} login {registry}`",
    RegistryUnreachable: "check the network and the proxy variables; where there is no registry, use "
    "`stigmer server start --image-archive FILE`",
    RegistryUntrusted: "give the certificate of its authority to {engine}, as "
    "/etc/{folder}/certs.d/{registry}/ca.crt, and to stigmer: `stigmer config set caBundle FILE`",
    RateLimited: "wait and try again, or log in to the registry, which mostly allows more",
    DiskFull: "make room on the engine's disk, for example with `{engine} image prune`, and try again",
}
_NONE = (EngineUnusable, ImageNotFound, RegistryDenied)
"""There is no engine for this person, or no such image: waiting brings none."""
_UNCONTAINED = (
    "; or run it without a container: `stigmer server start --native`, or STIGMER_ENGINE=none for one command"
)


def open_engine(
    configuration: Configuration,
    kind: EngineKind | None,
    service_directory: Path | None = None,
    answer_seconds: float = ANSWER_SECONDS,
) -> Engine:
    """The wanted engine, or the first that can be used; a service for it serves in the run directory.

    `answer_seconds`: how long one is waited for that says nothing.

    Raises:
        EngineUnusable: there is none; the subclass tells why.
    """
    configured = configuration.runner_engine
    environ = configuration.environment
    if configuration.ca_bundle is not None:  # a service of ours pulls by it, since Go's programs read this
        environ = {**environ, "SSL_CERT_FILE": str(configuration.ca_bundle)}
    if kind is None and configured not in ("auto", "none"):
        kind = EngineKind(configured)
    return find_engine(environ, service_directory or configuration.run_directory, kind, answer_seconds)


@contextmanager
def told_to_the_person(engine: str = "docker", *, is_asked_for: bool = True) -> Generator[None]:
    """Turns errors of engines into those of the command line.

    `engine` is the program that hints name; where no container is asked for, they need not say how to do
    without.
    """
    try:
        yield
    except ContainersError as error:
        raise _explain(error, engine, is_asked_for) from error


def _explain(error: ContainersError, engine: str, is_asked_for: bool) -> StigmerError:
    """The command line's error for an engine's."""
    has_none = isinstance(error, _NONE) and not isinstance(error, EngineSilent)
    # What may be there is an error also where no container is asked for: luck must not decide.
    otherwise = _UNCONTAINED if is_asked_for or not has_none else ""
    match error:
        case EngineUnusable():
            is_away = isinstance(error, EngineNotRunning)
            return EngineNotReady(str(error), error.remedy + otherwise, has_none=has_none, is_away=is_away)
        case MountRefused():
            return UsageError(str(error), "name a directory that exists and that you can read")
        case ImageError():
            registry = error.reference.partition("/")[0]
            hint = _IMAGE_HINTS.get(type(error))
            folder = "docker" if engine == EngineKind.DOCKER else "containers"
            told = {"engine": engine, "registry": registry, "folder": folder}
            hint = hint.format_map(told) + otherwise if hint else None
            return ImageUnavailable(str(error), hint, can_retry=error.can_retry, has_none=has_none)
        case _:
            return EngineNotReady(str(error), f"run `{engine} info` to see how the engine is{otherwise}")
