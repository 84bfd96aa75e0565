"""What root gives to the user of its containers, and what it finds closed to that user."""

import os
import subprocess
from pathlib import Path

import pytest

from containers_user import CONTAINERS_USER, give_to_containers
from stigmer_cli.config import load_configuration
from stigmer_cli.errors import UsageError
from stigmer_cli.runner.belongings import can_write, give
from stigmer_cli.runner.placement import check_directory
from stigmer_contract.workspace_directories import judge, surroundings_here
from stigmer_contract.workspace_rules import Kind

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has containers of another user")

DEPTH = 3000


def test_all_in_a_directory_is_given_at_any_depth_and_nothing_that_a_link_leads_to(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    given = tmp_path / "given"
    (given / "session").mkdir(parents=True)
    (given / "session" / "file").write_bytes(b"")
    (given / "session" / os.fsdecode(b"\xff -R\n")).write_bytes(b"")
    (given / "session" / "link").symlink_to(kept)
    descriptor = os.open(given / "session", os.O_DIRECTORY)
    for _ in range(DEPTH):
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", os.O_DIRECTORY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below

    try:
        give([given], CONTAINERS_USER)

        assert os.fstat(descriptor).st_uid == CONTAINERS_USER
        for path in (given, given / "session", *(given / "session").iterdir()):
            assert path.lstat().st_uid == CONTAINERS_USER
        assert kept.stat().st_uid == os.getuid()
    finally:
        os.close(descriptor)
        subprocess.run(["rm", "-rf", str(given)], check=True)  # too deep for Python's own


@pytest.mark.parametrize(
    ("owner", "mode", "is_open"),
    [
        (CONTAINERS_USER, 0o700, True),
        (CONTAINERS_USER, 0o500, False),
        (CONTAINERS_USER, 0o600, False),
        (0, 0o700, False),
        (0, 0o755, False),
        (0, 0o777, True),
    ],
)
def test_a_directory_is_open_to_whom_its_mode_lets_in(
    owner: int, mode: int, is_open: bool, tmp_path: Path
) -> None:
    directory = tmp_path / "work"
    directory.mkdir()
    os.chown(directory, owner, owner)
    directory.chmod(mode)
    assert can_write(str(directory), CONTAINERS_USER) is is_open


def test_a_directory_that_is_closed_to_the_containers_user_is_refused_with_what_opens_it(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    configuration = load_configuration({"STIGMER_HOME": str(tmp_path), "PATH": "/bin"})
    directory = tmp_path_factory.mktemp("with space") / "it's mine"
    directory.mkdir()
    with pytest.raises(UsageError) as raised:
        check_directory(configuration, str(directory), CONTAINERS_USER)
    assert raised.value.hint is not None
    assert f"`chown -R {CONTAINERS_USER}:{CONTAINERS_USER} '{directory.parent}/it'" in raised.value.hint
    give_to_containers(directory)
    assert check_directory(configuration, str(directory), CONTAINERS_USER)


def test_among_everybodys_files_the_containers_users_are_roots_own_only_where_a_container_works(
    tmp_path: Path,
) -> None:
    give_to_containers(tmp_path)
    assert judge(str(tmp_path), surroundings_here(state=[], sessions=[], may_be_contained=True)) is None
    refusal = judge(str(tmp_path), surroundings_here(state=[], sessions=[]))
    assert refusal is not None
    assert refusal.kind is Kind.FOREIGN
