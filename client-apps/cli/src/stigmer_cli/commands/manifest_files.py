"""Finds and reads manifests and the cassettes they name. Everything is checked before anything starts."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stigmer_cli.commands.shared_files import read_file
from stigmer_cli.errors import ManifestInvalid, NotYet, UsageError
from stigmer_cli.output import print_note
from stigmer_cli.rendering.quantities import plural
from stigmer_contract.errors import CassetteError, ManifestError, ManifestProblem

if TYPE_CHECKING:
    from stigmer_contract.manifest import AgentManifest

MANIFEST_NAME = "agent.yaml"
MANIFEST_NAMES = (MANIFEST_NAME, "agent.yml")
STDIN = "-"
_FILE_MODEL = "replay:"
_BLOB_MODEL = "replay:sha256:"


@dataclass(frozen=True)
class ManifestFile:
    """One manifest and where it was found."""

    manifest: "AgentManifest"
    source: str
    """The file as the person named it; `-` for standard input."""
    folder: Path
    """What paths in the manifest are relative to."""


@dataclass(frozen=True)
class CassetteFile:
    """The file behind a model `replay:FILE`."""

    path: Path
    content: bytes


def names_a_path(agent: str) -> bool:
    """Whether the AGENT of `run` means a file or a folder, not an applied agent."""
    path = Path(agent)
    return (
        agent in (STDIN, ".", "..")
        or "/" in agent
        or path.suffix in {".yaml", ".yml"}
        or _manifest_of_folder(path) is not None
    )


def read_agent(path: str) -> ManifestFile:
    """The only manifest of a file, or of the `agent.yaml` of a folder.

    Raises:
        UsageError: there is no such file, or it holds several agents.
        ManifestInvalid: it has problems, which have been printed.
    """
    file = Path(path)
    if path != STDIN and file.is_dir():
        found_file = _manifest_of_folder(file)
        if found_file is None:
            raise UsageError(
                f"could not run {path!r}: the folder has no {MANIFEST_NAME}",
                "name a manifest's file, or run `stigmer init` to write a first one",
            )
        file = found_file
    found = read_manifest_files([str(file) if path != STDIN else STDIN])
    if len(found) > 1:
        names = ", ".join(one.manifest.metadata.name for one in found)
        raise UsageError(
            f"could not choose an agent: {path!r} holds several ({names})",
            f"run `stigmer apply -f {path}`, then `stigmer run NAME`",
        )
    return found[0]


def find_all_manifest_files(paths: Sequence[str]) -> list[str]:
    """The files that all `-f` mean, each once, in the order given.

    Raises:
        UsageError: a folder has none.
    """
    if list(paths).count(STDIN) > 1:
        raise UsageError("could not read standard input twice")
    return list(dict.fromkeys(file for path in paths for file in find_manifest_files(path)))


def check_supported(file: ManifestFile, verb: str) -> None:
    """Refuse what this version cannot run.

    Raises:
        NotYet: the manifest uses a field of a later version.
    """
    from stigmer_contract.manifest import unsupported_fields

    unsupported = unsupported_fields(file.manifest.spec)
    if unsupported:
        raise NotYet(f"could not {verb} {file.source!r}: {unsupported[0]} is not supported yet")


def find_manifest_files(path: str) -> list[str]:
    """The files that `-f PATH` means.

    A folder means every `agent.yaml` in it and below; without one, the YAML files that are directly in it.

    Raises:
        UsageError: the folder has none.
    """
    folder = Path(path)
    if path == STDIN or not folder.is_dir():
        return [path]
    named = [
        file
        for name in MANIFEST_NAMES
        for file in folder.rglob(name)
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]
    found = named or [
        file for file in folder.iterdir() if file.suffix in {".yaml", ".yml"} and file.is_file()
    ]
    if not found:
        raise UsageError(
            f"could not find a manifest in the folder {path!r}", "run `stigmer init` to write a first one"
        )
    return [str(file) for file in sorted(found)]


def read_manifest_files(sources: Sequence[str]) -> list[ManifestFile]:
    """The manifests of all files.

    Raises:
        UsageError: a file cannot be read, or two files name the same agent.
        ManifestInvalid: there are problems, which have all been printed.
    """
    from stigmer_contract.manifest_reader import read_manifests  # with YAML, which an agent's name needs not

    found: list[ManifestFile] = []
    problems: list[ManifestProblem] = []
    for source in sources:
        content = _read_content(source)
        folder = Path.cwd() if source == STDIN else Path(source).absolute().parent
        try:
            manifests = read_manifests(content, source)
        except ManifestError as error:
            problems += error.problems
        else:
            found += [ManifestFile(manifest, source, folder) for manifest in manifests]
    if problems:
        _print_problems(problems)
        places = ", ".join(dict.fromkeys(repr(problem.source) for problem in problems))
        raise ManifestInvalid(f"{plural(len(problems), 'problem')} in {places}")
    _check_names(found)
    return found


def read_cassette(model: str | None, folder: Path) -> CassetteFile | None:
    """The cassette of a model `replay:FILE`; None for any other model.

    Raises:
        UsageError: the file cannot be read.
    """
    if model is None or not model.startswith(_FILE_MODEL) or model.startswith(_BLOB_MODEL):
        return None
    path = folder / Path(model.removeprefix(_FILE_MODEL)).expanduser()
    try:
        return CassetteFile(path, read_file(path))
    except OSError as error:
        raise UsageError(f"could not read the cassette {str(path)!r}: {error.strerror}") from error


def check_cassette(file: ManifestFile) -> CassetteFile | None:
    """The cassette that a manifest names, its content checked; None where it names none.

    `run` leaves the check to the runner, which makes it anyway: importing what it takes is slow.

    Raises:
        UsageError: the file cannot be read, or is no cassette.
    """
    cassette = read_cassette(file.manifest.spec.model, file.folder)
    if cassette is None:
        return None
    from stigmer_contract.cassette import load_cassette

    try:
        load_cassette(cassette.content)
    except CassetteError as error:
        raise UsageError(f"{cassette.path}: {error}") from error
    return cassette


def _manifest_of_folder(folder: Path) -> Path | None:
    return next((folder / name for name in MANIFEST_NAMES if (folder / name).is_file()), None)


def _read_content(source: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if source == STDIN else read_file(Path(source))
    except OSError as error:
        raise UsageError(f"could not read the manifest {source!r}: {error.strerror}") from error


def _check_names(files: Sequence[ManifestFile]) -> None:
    sources: dict[str, str] = {}
    for file in files:
        name = file.manifest.metadata.name
        if name in sources:
            raise UsageError(f"{sources[name]!r} and {file.source!r} both name the agent {name!r}")
        sources[name] = file.source


def _print_problems(problems: Sequence[ManifestProblem]) -> None:
    for problem in problems:
        print_note(str(problem))
        if problem.hint:
            print_note(f"  hint: {problem.hint}")


def names_files(manifest: "AgentManifest") -> bool:
    """Whether a manifest names files or packages that are to be packed with it."""
    spec = manifest.spec
    has_packages = any(server.package is not None for server in spec.mcp_servers)
    return bool(spec.scripts or spec.skills or spec.openapi or has_packages)


def with_spec(manifest: "AgentManifest", **changes: object) -> "AgentManifest":
    """The manifest with other values in its spec."""
    return manifest.model_copy(update={"spec": manifest.spec.model_copy(update=changes)})


def with_model(manifest: "AgentManifest", model: str) -> "AgentManifest":
    """The manifest with another model."""
    return with_spec(manifest, model=model)
