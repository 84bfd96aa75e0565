"""Fetches packages of npm with all that they need, for servers that are started from them, and keeps them.

By the person's own `npm`, which checks what it fetches against the registry's hashes; no script of a package
runs. What was fetched once is not asked for again: another version of a dependency is another agent's.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from stigmer_cli.commands.packed_files import FilesRefused
from stigmer_cli.config import load_configuration

if TYPE_CHECKING:
    from stigmer_contract.manifest_packages import FetchedPackage
    from stigmer_contract.packs import PackedFile

FETCHED_PACKAGES: Final = "packages"
"""In STIGMER_HOME: a folder for each package and version, with its packs by their digests."""
MAX_KEPT: Final = 50
_MODULES: Final = "node_modules"
_LISTED: Final = "fetched.json"
_TIMEOUT_SECONDS: Final = 600
_OPTIONS: Final = ("--ignore-scripts", "--allow-git=none", "--no-audit", "--no-fund", "--omit=dev")
"""No hash stands for what comes from Git, and a `.npmrc` in it can name the program that runs as `git`. An
npm that does not know the option passes it over."""
_ERROR_LINE: Final = re.compile(r"npm (?:error|ERR!) (?P<said>.*\S)")
"""As npm 10 and later write it, and those before."""
_NOT_RUN: Final = (".d.ts", ".d.mts", ".d.cts", ".map")
"""Endings of files that no program reads when it runs."""


@dataclass(frozen=True)
class PackedPackage:
    """A package and the packs that its files are in."""

    fetched: "FetchedPackage"
    packs: Sequence[bytes]


def pack_package(package: str) -> PackedPackage:
    """The package that `npm:NAME@VERSION` names, as it was fetched first.

    Raises:
        FilesRefused: it cannot be had, or cannot be packed.
    """
    key = hashlib.sha256(package.encode()).hexdigest()
    kept = load_configuration(os.environ).home / FETCHED_PACKAGES / key
    known = _read(kept)
    if known is not None:
        return known
    with tempfile.TemporaryDirectory(prefix="stigmer-package-") as directory:
        made = _fetch(package, Path(directory))
    _keep(kept, made)
    return made


def _fetch(package: str, directory: Path) -> PackedPackage:
    from stigmer_contract.errors import PackError
    from stigmer_contract.manifest_packages import MAX_PACKAGE_BYTES, FetchedPackage, read_package
    from stigmer_contract.packs import write_pack

    named = read_package(package)
    (directory / "package.json").write_text('{"private": true}', encoding="utf-8")
    _npm(directory, f"{named.name}@{named.version}")
    program = _program_of(directory / _MODULES / named.name, named.name)
    too_large = FilesRefused(f"{package} has more than {MAX_PACKAGE_BYTES >> 20} MiB with what it needs")
    if sum(entry.stat().st_size for _, entry in _entries(directory / _MODULES, "")) > MAX_PACKAGE_BYTES:
        raise too_large  # before any of it is read
    packs = dict[str, bytes]()
    try:
        for folder, files in _divided(directory / _MODULES, _MODULES):
            packs[folder] = write_pack(files)
    except PackError as error:
        raise FilesRefused(f"{package} cannot be packed: {error}") from error
    if sum(map(len, packs.values())) > MAX_PACKAGE_BYTES:
        raise too_large
    references = {folder: f"sha256:{hashlib.sha256(pack).hexdigest()}" for folder, pack in packs.items()}
    try:
        fetched = FetchedPackage(program=f"{_MODULES}/{named.name}/{program}", packs=references)
    except ValueError as error:
        raise FilesRefused(f"{package} cannot be packed: it has too many folders, or odd names") from error
    return PackedPackage(fetched, list(dict.fromkeys(packs.values())))


def _npm(directory: Path, wanted: str) -> None:
    try:
        completed = subprocess.run(
            ["npm", "install", *_OPTIONS, "--", wanted],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise FilesRefused("packages of npm are fetched with the program `npm`, which is not here") from error
    except subprocess.TimeoutExpired as error:
        raise FilesRefused(f"`npm install {wanted}` took more than {_TIMEOUT_SECONDS} s") from error
    if completed.returncode:
        raise FilesRefused(f"`npm install {wanted}` failed: {_reason(completed)[:300]}")


def _reason(completed: "subprocess.CompletedProcess[str]") -> str:
    """The first line of an error that says something to a person; what npm warns of comes before it."""
    found = map(_ERROR_LINE.match, completed.stderr.splitlines())
    said = [each["said"] for each in found if each is not None]
    told = (line for line in said if not line.startswith(("code ", "A complete log")))
    return next(told, f"exit code {completed.returncode}")


def _program_of(folder: Path, name: str) -> str:
    """The file that the package's command is, relative to the package."""
    try:
        about = cast("object", json.loads((folder / "package.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        raise FilesRefused(f"{name} has no package.json that can be read") from error
    own = name.rpartition("/")[2]
    given = cast("Mapping[str, object]", about).get("bin") if isinstance(about, dict) else None
    named: Mapping[str, object] = cast("Mapping[str, object]", given) if isinstance(given, dict) else {}
    commands = {own: given} if isinstance(given, str) else named
    chosen = commands.get(own) or (next(iter(commands.values())) if len(commands) == 1 else None)
    if not isinstance(chosen, str):
        known = ", ".join(sorted(commands)) or "none"
        raise FilesRefused(f"{name} has no command of its own name to be started by (it has: {known})")
    file = Path(os.path.normpath(folder / chosen))
    if not file.is_relative_to(folder) or not file.is_file():
        raise FilesRefused(f"the command of {name} is not among its files")
    return file.relative_to(folder).as_posix()


def _divided(folder: Path, name: str) -> "Iterator[tuple[str, list[PackedFile]]]":
    """The files of a folder in as few packs as hold them, each with the folder that it belongs into."""
    from stigmer_contract.packs import MAX_PACK_BYTES, MAX_PACK_FILES

    files = list(_files(folder, ""))
    if len(files) <= MAX_PACK_FILES and sum(len(file.content) for file in files) <= MAX_PACK_BYTES:
        if files:
            yield name, files
        return
    own = [file for file in files if "/" not in file.path]
    if own:
        yield name, own
    for each in sorted({file.path.partition("/")[0] for file in files if "/" in file.path}):
        yield from _divided(folder / each, f"{name}/{each}")


def _files(folder: Path, prefix: str) -> "Iterator[PackedFile]":
    from stigmer_contract.packs import PackedFile

    for path, entry in _entries(folder, prefix):
        content = Path(entry.path).read_bytes()
        yield PackedFile(path, content, bool(entry.stat().st_mode & 0o100))


def _entries(folder: Path, prefix: str) -> "Iterator[tuple[str, os.DirEntry[str]]]":
    """The files that are packed, each with its path."""
    for entry in sorted(os.scandir(folder), key=lambda each: each.name):
        path = f"{prefix}{entry.name}"
        if entry.is_symlink() or entry.name.startswith("."):
            continue  # commands of packages, and what npm keeps for itself
        if entry.is_dir():
            yield from _entries(Path(entry.path), f"{path}/")
        elif entry.is_file() and not entry.name.endswith(_NOT_RUN):
            yield path, entry


# --- what is kept -----------------------------------------------------------------------------


def _read(kept: Path) -> PackedPackage | None:
    """What was kept, whole and as it was; else None."""
    from stigmer_contract.manifest_packages import FetchedPackage

    try:
        fetched = FetchedPackage.model_validate_json((kept / _LISTED).read_bytes())
        digests = dict.fromkeys(reference.removeprefix("sha256:") for reference in fetched.packs.values())
        packs = [(kept / digest).read_bytes() for digest in digests]
        os.utime(kept)
    except (OSError, ValueError):
        return None
    if any(hashlib.sha256(pack).hexdigest() != digest for pack, digest in zip(packs, digests, strict=True)):
        return None
    return PackedPackage(fetched, packs)


def _keep(kept: Path, made: PackedPackage) -> None:
    """Keep it as a whole or not at all, beside others that do the same; what was used longest ago goes."""
    new: Path | None = None
    try:
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(dir=kept.parent, prefix=".new-"))
        for pack in made.packs:
            (new / hashlib.sha256(pack).hexdigest()).write_bytes(pack)
        (new / _LISTED).write_text(made.fetched.model_dump_json(by_alias=True), encoding="utf-8")
        shutil.rmtree(kept, ignore_errors=True)
        new.rename(kept)
    except OSError:  # it is fetched again then
        if new is not None:
            shutil.rmtree(new, ignore_errors=True)
        return
    used = dict[Path, float]()
    for path in kept.parent.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another one has renamed or removed it meanwhile
            used[path] = path.stat().st_mtime
    for old in sorted(used, key=used.__getitem__, reverse=True)[MAX_KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
