"""Reads a saved image from standard input: how large it is and what of, and whether it holds a secret.

Knows nothing of engines; known vulnerabilities are a scanner's business.
"""

import argparse
import json
import re
import sys
import tarfile
import tempfile
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

MEGABYTE: Final = 1_000_000
LARGEST: Final = 10
CHUNK_BYTES: Final = 1 << 20
GZIP_LEVEL: Final = 6
"""What engines compress layers with when they push them."""

GZIP_MAGIC: Final = b"\x1f\x8b"
ELF_MAGIC: Final = b"\x7fELF"

PRIVATE_KEY: Final = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=\s]{64}")
ASSIGNED_SECRET: Final = re.compile(r"(?i)\b\w*(token|password|passwd|secret|api_?key)\w*=\S+")


@dataclass
class Contents:
    """What the layers of one image hold."""

    compressed_bytes: int = 0
    uncompressed_bytes: int = 0
    """What the files of all layers take, as `docker images` tells it; an archive pads them, by some 6 %."""
    files: dict[str, int] = field(default_factory=dict[str, int])
    """Path to size in bytes."""
    packages: dict[str, str] = field(default_factory=dict[str, str])
    """Path to the Debian package that it belongs to."""
    private_keys: list[str] = field(default_factory=list[str])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--max-compressed-mb", type=float, required=True)
    parser.add_argument("--max-uncompressed-mb", type=float, required=True)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as image,
    ):
        image.extractall(directory, filter="data")
        configuration, contents = read_image(Path(directory))
    print(report(contents))
    complaints = secrets_in(configuration, contents)
    for what, size, limit in (
        ("compressed", contents.compressed_bytes, arguments.max_compressed_mb),
        ("uncompressed", contents.uncompressed_bytes, arguments.max_uncompressed_mb),
    ):
        if size > limit * MEGABYTE:
            complaints.append(f"{what} it has {size / MEGABYTE:.1f} MB, the budget is {limit:g} MB")
    for complaint in complaints:
        print(f"error: {complaint}", file=sys.stderr)
    return 1 if complaints else 0


def read_image(directory: Path) -> tuple[dict[str, Any], Contents]:
    """The configuration and the contents of an unpacked `docker save` archive."""
    [manifest] = json.loads((directory / "manifest.json").read_text("utf-8"))
    configuration = json.loads((directory / manifest["Config"]).read_text("utf-8"))
    contents = Contents()
    for layer in manifest["Layers"]:
        path = directory / layer
        contents.compressed_bytes += compressed_size_of(path)
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile() and (stream := archive.extractfile(member)) is not None:
                    read_file(member.name, member.size, stream, contents)
    return configuration, contents


def read_file(name: str, size: int, stream: IO[bytes], contents: Contents) -> None:
    path = PurePosixPath("/", name)
    contents.files[str(path)] = size
    contents.uncompressed_bytes += size
    content = stream.read()
    if path.is_relative_to("/var/lib/dpkg/info") and path.suffix == ".list":
        package = path.stem.partition(":")[0]
        contents.packages |= dict.fromkeys(content.decode("utf-8").splitlines(), package)
    # Libraries carry keys for their self-tests.
    if not content.startswith(ELF_MAGIC) and PRIVATE_KEY.search(content):
        contents.private_keys.append(str(path))


def compressed_size_of(layer: Path) -> int:
    """Newer engines save what they pulled, which may be compressed already."""
    with layer.open("rb") as stream:
        if stream.read(2) == GZIP_MAGIC:
            return layer.stat().st_size
        stream.seek(0)
        compressor = zlib.compressobj(GZIP_LEVEL, wbits=31)
        pieces = iter(lambda: stream.read(CHUNK_BYTES), b"")
        compressed = sum(len(compressor.compress(piece)) for piece in pieces)
    return compressed + len(compressor.flush())


def report(contents: Contents) -> str:
    """The sizes, and the largest parts: Python packages, Debian packages, Python itself."""
    parts = Counter[str]()
    for path, size in contents.files.items():
        parts[part_of(path, contents.packages)] += size
    lines = [
        f"compressed {contents.compressed_bytes / MEGABYTE:.1f} MB,"
        f" uncompressed {contents.uncompressed_bytes / MEGABYTE:.1f} MB; the largest parts, uncompressed:"
    ]
    lines += [f"  {size / MEGABYTE:6.1f} MB  {part}" for part, size in parts.most_common(LARGEST)]
    return "\n".join(lines)


def part_of(path: str, packages: dict[str, str]) -> str:
    _, separator, inside = path.partition("/site-packages/")
    if separator:
        return f"{inside.partition('/')[0]} (Python package)"
    if path.startswith("/usr/local/"):
        return "Python"
    # Debian's older packages still name /lib and /bin, which are links into /usr.
    owner = packages.get(path) or packages.get(path.removeprefix("/usr"))
    return f"{owner} (Debian package)" if owner else "other"


def secrets_in(configuration: dict[str, Any], contents: Contents) -> list[str]:
    """What looks like a secret, in the environment, the history and the files."""
    said = list(configuration["config"].get("Env") or [])
    said += [step.get("created_by", "") for step in configuration.get("history", [])]
    found = [
        f"a secret in its configuration: {match.group()!r}"
        for text in said
        for match in ASSIGNED_SECRET.finditer(text)
    ]
    return found + [f"a private key in {path}" for path in contents.private_keys]


if __name__ == "__main__":
    sys.exit(main())
