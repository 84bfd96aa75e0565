"""Debian packages as files under a directory: adds some with what they need, drops what nobody needs.

Starts no program of the target, which may be of another architecture; so maintainer scripts do not run.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

LeftOut = Mapping[str, frozenset[str]]
"""Package name, or "*" for every package, to the names of dependencies that it is good enough without."""


class PackageTree:
    """A root file system with dpkg's database of what is in it."""

    def __init__(self, root: Path, left_out: LeftOut) -> None:
        self._root = root
        self._left_out = left_out
        self._left_out_of_all = left_out.get("*", frozenset[str]())
        self._status_file = root / "var/lib/dpkg/status"
        self._info = root / "var/lib/dpkg/info"
        self._stanzas: dict[str, str] = {}
        self._choices: list[tuple[str, str]] = []
        """Of packages that were added: paths that a maintainer script would make, and where they lead."""
        for stanza in self._status_file.read_text("utf-8").strip().split("\n\n"):
            if "install ok installed" in stanza:
                self._stanzas[field(stanza, "Package")] = stanza
        self.architecture = field(self._stanzas["libc6"], "Architecture")

    def add(self, names: Iterable[str]) -> None:
        """Download packages with all that they depend on, unpack and register them."""
        missing = [name for name in names if name not in self._stanzas]
        if not missing:
            return
        with tempfile.TemporaryDirectory() as directory:
            apt = _Apt(Path(directory), self._status_file, self.architecture)
            apt.update()
            wanted: list[str] = []
            for name in missing:
                if name in self._left_out:
                    apt.download(name)
                    depends = field(apt.control(name), "Depends")
                    wanted += [d for [d, *_] in _alternatives(depends) if d not in self._not_followed(name)]
                else:
                    wanted.append(name)
            apt.download_with_dependencies(wanted)
            for archive in apt.archives():
                self._unpack(archive)
        self._write_status()

    def keep_only(self, names: Iterable[str]) -> None:
        """Drop every package that is neither named nor needed by one that is."""
        kept = self._with_dependencies(names)
        kept_files = {path for name in kept for path in self._files(name)}
        for name in sorted(self._stanzas.keys() - kept):
            for path in sorted(set(self._files(name)) - kept_files, reverse=True):
                self._remove(path)
            del self._stanzas[name]
        lists = {self._list_file(name) for name in self._stanzas}
        for info_file in list(self._info.iterdir()):
            if info_file not in lists:
                info_file.unlink()
        self._write_status()

    def link_choices(self) -> None:
        """Link to programs that are one of several (update-alternatives(1)), where nothing is there."""
        for link, program in self._choices:
            path = self._root / link.lstrip("/")
            is_free = path.parent.is_dir() and not path.is_symlink() and not path.exists()
            if is_free and (self._root / program.lstrip("/")).exists():
                path.symlink_to(program)

    def files_only_of(self, names: Iterable[str], others: Iterable[str]) -> set[str]:
        """Absolute paths of what comes with these packages and what they need, but not with the others."""
        kept = self._with_dependencies(others)
        return {path for name in self._with_dependencies(names) - kept for path in self._files(name)}

    def owners_of_libraries(self, sonames: Iterable[str]) -> set[str]:
        """The packages that hold these libraries; names that no package holds are passed over."""
        wanted = set(sonames)
        return {
            name
            for name in self._stanzas
            if any(path.rpartition("/")[2] in wanted for path in self._files(name) if ".so" in path)
        }

    def _with_dependencies(self, names: Iterable[str]) -> set[str]:
        providers = {
            provided.split()[0]: name
            for name, stanza in self._stanzas.items()
            for provided in field(stanza, "Provides").split(",")
            if provided.strip()
        }
        kept: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name in kept or name not in self._stanzas:
                continue
            kept.add(name)
            stanza = self._stanzas[name]
            for kind in ("Depends", "Pre-Depends"):
                for alternatives in _alternatives(field(stanza, kind)):
                    if self._not_followed(name).isdisjoint(alternatives):
                        waiting += [
                            providers.get(a, a) if a not in self._stanzas else a for a in alternatives
                        ]
        return kept

    def _not_followed(self, name: str) -> frozenset[str]:
        return self._left_out.get(name, frozenset()) | self._left_out_of_all

    def _files(self, name: str) -> list[str]:
        return self._list_file(name).read_text("utf-8").splitlines()

    def _list_file(self, name: str) -> Path:
        file = self._info / f"{name}:{self.architecture}.list"
        return file if file.exists() else self._info / f"{name}.list"

    def _remove(self, path: str) -> None:
        file = self._root / path.lstrip("/")
        if file.is_symlink() or file.is_file():
            file.unlink()
        elif file.is_dir() and not any(file.iterdir()):
            file.rmdir()

    def _unpack(self, archive: Path) -> None:
        stanza = run("dpkg-deb", "--field", str(archive))
        name = field(stanza, "Package")
        content = subprocess.run(
            ["dpkg-deb", "--fsys-tarfile", str(archive)], check=True, stdout=subprocess.PIPE
        )
        # Debian's /bin and /lib are links into /usr, which older packages name as directories.
        extract = [
            "tar",
            "--extract",
            "--verbose",
            "--keep-directory-symlink",
            "--directory",
            str(self._root),
        ]
        listing = subprocess.run(extract, input=content.stdout, stdout=subprocess.PIPE, check=True).stdout
        paths = [path.removeprefix(".").rstrip("/") or "/." for path in listing.decode("utf-8").splitlines()]
        self._list_file(name).write_text("\n".join(paths) + "\n", "utf-8")
        self._choices += _choices_of(archive)
        first_line, _, rest = stanza.strip().partition("\n")
        self._stanzas[name] = f"{first_line}\nStatus: install ok installed\n{rest}"

    def _write_status(self) -> None:
        self._status_file.write_text("\n\n".join(self._stanzas.values()) + "\n", "utf-8")


class _Apt:
    """apt, resolving against the target's database and architecture instead of this machine's."""

    def __init__(self, directory: Path, status_file: Path, architecture: str) -> None:
        self._archives = directory / "archives"
        (self._archives / "partial").mkdir(parents=True)
        (directory / "lists/partial").mkdir(parents=True)
        self._options = [
            "-qq",
            f"-oAPT::Architecture={architecture}",
            f"-oAPT::Architectures={architecture}",
            "-oAPT::Sandbox::User=root",
            "-oAPT::Install-Recommends=false",
            "-oAcquire::Languages=none",
            "-oAcquire::Retries=3",
            f"-oDir::State={directory}",
            f"-oDir::State::status={status_file}",
            f"-oDir::Cache={directory}",
            "-oDebug::NoLocking=true",
        ]

    def update(self) -> None:
        run("apt-get", *self._options, "update")

    def download(self, name: str) -> None:
        run("apt-get", *self._options, "download", name, cwd=self._archives)

    def download_with_dependencies(self, names: list[str]) -> None:
        run("apt-get", *self._options, "--yes", "--download-only", "install", *names)

    def control(self, name: str) -> str:
        [archive] = self._archives.glob(f"{name}_*.deb")
        return run("dpkg-deb", "--field", str(archive))

    def archives(self) -> list[Path]:
        return sorted(self._archives.glob("*.deb"))


def _choices_of(archive: Path) -> list[tuple[str, str]]:
    """What a package's script would give update-alternatives, as far as it is plainly written there."""
    told = subprocess.run(
        ["dpkg-deb", "--info", str(archive), "postinst"], capture_output=True, check=False
    ).stdout.decode("utf-8", errors="replace")
    calls = told.replace("\\\n", " ")
    return re.findall(r"update-alternatives\s.*?--install\s+(/[\w./+-]+)\s+[\w.+-]+\s+(/[\w./+-]+)\s", calls)


def field(stanza: str, name: str) -> str:
    """A one-line field of a control stanza; empty where it is missing."""
    prefix = f"{name}: "
    return next((line.removeprefix(prefix) for line in stanza.splitlines() if line.startswith(prefix)), "")


def _alternatives(depends: str) -> list[list[str]]:
    """'a (>= 1) | b, c:any' as [['a', 'b'], ['c']]."""
    return [
        [alternative.split()[0].partition(":")[0] for alternative in group.split("|")]
        for group in depends.split(",")
        if group.strip()
    ]


def run(*command: str, cwd: Path | None = None) -> str:
    """A program's standard output; ends the build where it fails."""
    return subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.PIPE, text=True).stdout
