"""Where commands' temporary files go: to the system's place, or to a better one."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stigmer_isolation.temporary_root import find_temporary_place

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mounts tell their options on Linux only")


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A system's directory of some memory without programs, as container engines mount one."""
    place = tmp_path / "small"
    place.mkdir()
    options = "size=1m,noexec,mode=1777"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", str(place)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("this user can mount nothing")
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_the_system_s_place_is_kept_where_it_is_good_enough(tmp_path: Path) -> None:
    assert find_temporary_place(tmp_path / "roomier", 1) == tempfile.gettempdir()
    assert not (tmp_path / "roomier").exists()


def test_another_one_is_used_where_programs_cannot_be_executed(small: Path, tmp_path: Path) -> None:
    place = Path(find_temporary_place(tmp_path / "roomier", 1))
    assert place == tmp_path / f"roomier/.temporary-{os.getuid()}"
    assert (place.stat().st_mode & 0o777, list(place.iterdir())) == (0o700, [])


def test_nothing_is_put_where_somebody_else_was_first(small: Path, tmp_path: Path) -> None:
    planted = tmp_path / f".temporary-{os.getuid()}"
    planted.symlink_to("/var")
    assert find_temporary_place(tmp_path, 1) == str(small)
    planted.unlink()
    planted.mkdir()
    os.chown(planted, 4321, 4321)
    assert find_temporary_place(tmp_path, 1) == str(small)
