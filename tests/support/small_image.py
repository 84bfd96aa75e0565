"""A small image for tests: a shell and a few programs of this machine, as `docker save` writes it.

Needs no registry and no builder; Linux with shared libraries only.
"""

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

PROGRAMS = ("sh", "cat", "echo", "env", "false", "id", "ls", "sleep", "touch", "true")


def write_image_archive(
    path: Path,
    reference: str,
    *,
    labels: Mapping[str, str] | None = None,
    entrypoint: Sequence[str] = (),
    contents: Mapping[str, bytes] | None = None,
    created_by: str = "a test",
) -> Path:
    """Writes the archive; `contents` are executables by their path, `created_by` stands in the history."""
    layer = _layer(contents or {})
    config = {
        "architecture": _architecture(),
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": {
            "Env": ["PATH=/bin"],
            "Labels": dict(labels or {}),
            "Entrypoint": list(entrypoint) or None,
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        "history": [{"created": "2026-01-01T00:00:00Z", "created_by": created_by}],
    }
    config_bytes = json.dumps(config).encode()
    config_name = f"{hashlib.sha256(config_bytes).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [reference], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as archive:
        _add(archive, "layer.tar", layer)
        _add(archive, config_name, config_bytes)
        _add(archive, "manifest.json", json.dumps(manifest).encode())
    return path


def _layer(contents: Mapping[str, bytes]) -> bytes:
    programs = {name: found for name in PROGRAMS if (found := shutil.which(name))}
    files = {f"bin/{name}": Path(found).read_bytes() for name, found in programs.items()}
    listed = subprocess.run(["ldd", *programs.values()], capture_output=True, text=True, check=True).stdout
    for word in listed.split():
        if word.startswith("/") and not word.endswith(":"):
            files[word.lstrip("/")] = Path(word).read_bytes()
    files |= {name.lstrip("/"): content for name, content in contents.items()}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        for directory in ("tmp", "workspace"):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777
            layer.addfile(entry)
        for name, content in sorted(files.items()):
            _add(layer, name, content)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o755
    archive.addfile(entry, io.BytesIO(content))


def _architecture() -> str:
    import platform

    return {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
