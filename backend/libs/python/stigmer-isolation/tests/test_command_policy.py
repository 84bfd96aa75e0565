"""What commands may read: planted links widen nothing, own state is never in it, usual installations work."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from stigmer_isolation import system_programs
from stigmer_isolation.bubblewrap import Bubblewrap
from stigmer_isolation.canaries import find_open_places
from stigmer_isolation.command_policy import command_policy, program_directories, withhold
from stigmer_isolation.errors import IsolationError
from stigmer_isolation.launcher import CommandLauncher
from stigmer_isolation.system_programs import find_system_program, is_out_of_others_reach
from stigmer_isolation.zygote.landlock import abi_version

needs_landlock = pytest.mark.skipif(not abi_version(), reason="this kernel has no Landlock")
SCRIPT = "#!/bin/sh\necho it works\n"


@dataclass
class Person:
    """A home directory with a session's workspace in it."""

    home: Path

    def write(self, path: str, text: str = SCRIPT, mode: int = 0o755) -> Path:
        """A file in the home, with its parents."""
        file = self.home / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        file.chmod(mode)
        return file

    def link(self, path: str, target: str) -> Path:
        """A link in the home."""
        link = self.home / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
        return link


@pytest.fixture
def person(tmp_path: Path) -> Person:
    """With keys, and one directory for a session."""
    person = Person(tmp_path / "ann")
    person.write(".ssh/id_ed25519", "canary", 0o600)
    person.write(".aws/bin/helper", "canary", 0o755)
    (person.home / "proj").mkdir()
    return person


async def outcome(
    argv: Sequence[str], person: Person, path: Sequence[str], *, withheld: Sequence[Path] = ()
) -> str:
    """What a command of another session says; `refused` where it cannot be executed, or read the file."""
    variable = ":".join([*(str(person.home / one) for one in path), "/usr/bin", "/bin"])
    policy = command_policy(variable, home=person.home, withheld=withheld)
    own = person.home / "own"
    own.mkdir(exist_ok=True)
    directory = os.open(own, os.O_RDONLY | os.O_DIRECTORY)
    try:
        async with CommandLauncher({"PATH": variable}, policy=policy) as launcher:
            result = await launcher.run(argv, directory=directory, environment={}, timeout_seconds=30)
    finally:
        os.close(directory)
    return result.stdout.strip() if result.exit_code == 0 else "refused"


# --- attacks ------------------------------------------------------------------------------------


PLANTED = [
    ("proj/.venv/bin/x", "../../../.ssh/id_ed25519"),  # a file that is no program
    ("proj/.venv/bin/x", "../../../.ssh"),  # a directory
    ("proj/.venv/share", "../../.ssh"),  # a part of an installation
    ("proj/.venv/bin", "../../.ssh"),  # the directory on PATH itself
    ("proj/.venv/lib", "../../.ssh"),
    ("proj/.venv/bin/x", "../../../.aws/bin/helper"),  # something like an installation
]


@needs_landlock
@pytest.mark.parametrize(("link", "target"), PLANTED)
@pytest.mark.parametrize("is_known", [True, False], ids=["known session", "before the upgrade"])
async def test_a_planted_link_on_path_opens_nothing(
    link: str, target: str, is_known: bool, person: Person
) -> None:
    person.link(link, target)
    if not (person.home / "proj/.venv/bin").is_symlink():
        person.write("proj/.venv/bin/tool")
    withheld = [person.home / "proj"] if is_known else []
    for secret in (".ssh/id_ed25519", *([".aws/bin/helper"] if is_known else [])):
        read = ["cat", str(person.home / secret)]
        assert await outcome(read, person, ["proj/.venv/bin"], withheld=withheld) == "refused"


@needs_landlock
async def test_what_a_session_can_write_no_other_session_executes(person: Person) -> None:
    program = person.write("proj/.venv/bin/tool")
    assert await outcome(["tool"], person, ["proj/.venv/bin"]) == "it works"
    for writable in ("proj", "proj/.venv", "proj/.venv/bin"):
        known = [person.home / writable]
        assert await outcome(["tool"], person, ["proj/.venv/bin"], withheld=known) == "refused"
        assert await outcome([str(program)], person, ["proj/.venv/bin"], withheld=known) == "refused"


@needs_landlock
async def test_a_name_planted_on_path_stands_before_no_program_of_other_sessions(person: Person) -> None:
    person.write("proj/.venv/bin/cat")
    known, own = [person.home / "proj"], person.write("own/file", "read")
    read = ["sh", "-c", f"cat {own}"]
    assert await outcome(read, person, ["proj/.venv/bin"], withheld=known) == "read"
    assert await outcome(read, person, ["proj/.venv/bin/"], withheld=known) == "read"
    # What a session has planted in its own directory, it finds there.
    person.write("own/bin/cat")
    assert await outcome(read, person, ["own/bin"], withheld=[person.home / "own"]) == "it works"


@needs_landlock
async def test_a_directory_that_becomes_a_workspace_is_withheld_from_the_next_command_on(
    person: Person,
) -> None:
    person.write("proj/.venv/bin/tool")
    path = f"{person.home}/proj/.venv/bin:/usr/bin:/bin"
    directory = os.open(person.home / "proj", os.O_RDONLY | os.O_DIRECTORY)
    other = os.open(person.home, os.O_RDONLY | os.O_DIRECTORY)
    try:
        async with CommandLauncher({"PATH": path}, policy=command_policy(path, home=person.home)) as launcher:

            async def run(where: int) -> int:
                done = await launcher.run(["tool"], directory=where, environment={}, timeout_seconds=30)
                return done.exit_code

            (person.home / "elsewhere").mkdir()
            elsewhere = os.open(person.home / "elsewhere", os.O_RDONLY | os.O_DIRECTORY)
            assert await run(elsewhere) == 0
            launcher.withhold(str(person.home / "proj"))
            assert await run(elsewhere) != 0
            assert await run(directory) == 0  # in its own workspace it is the session's own
            os.close(elsewhere)
    finally:
        os.close(directory)
        os.close(other)


def test_a_directory_that_everybody_can_write_to_is_no_installation(person: Person) -> None:
    person.write("open/bin/tool")
    (person.home / "open").chmod(0o777)
    assert not any("open" in part for part in program_directories(f"{person.home}/open/bin", person.home))
    (person.home / "open").chmod(0o755)
    assert f"{person.home}/open/bin" in program_directories(f"{person.home}/open/bin", person.home)


@needs_landlock
@pytest.mark.parametrize("state", ["", "stigmer", "stigmer/home", "a/b/c"])
async def test_own_state_within_what_is_granted_is_closed(state: str, tmp_path: Path) -> None:
    granted, outside = tmp_path / "opt", tmp_path / "sessions"
    home = granted / state
    home.mkdir(parents=True)
    outside.mkdir()
    (granted / "tools").mkdir(exist_ok=True)
    (granted / "tools" / "run").write_text(SCRIPT, encoding="utf-8")
    (granted / "tools" / "run").chmod(0o755)
    policy = command_policy("/usr/bin:/bin", readable=[granted], withheld=[home, outside])
    async with CommandLauncher(policy=policy) as launcher:
        assert await find_open_places(launcher, outside, [home]) == []
        directory = os.open(outside, os.O_RDONLY | os.O_DIRECTORY)
        run = await launcher.run(
            [str(granted / "tools" / "run")], directory=directory, environment={}, timeout_seconds=30
        )
        os.close(directory)
        # All but the way to the state goes on being there.
        assert (run.exit_code == 0) == bool(state)
        launcher.policy = command_policy("/usr/bin:/bin", readable=[granted])
        assert await find_open_places(launcher, outside, [home]) == [home]


@pytest.fixture(params=["/opt", "/usr", "/usr/local/share"])
def state_in_the_system(request: pytest.FixtureRequest) -> Iterator[Path]:
    """State among what every command may read."""
    place: str = request.param
    if not os.access(place, os.W_OK):
        pytest.skip("only root can put its state there")
    with tempfile.TemporaryDirectory(dir=place, prefix="stigmer-test-") as home:
        yield Path(home)


@needs_landlock
async def test_own_state_among_the_systems_programs_is_closed(
    state_in_the_system: Path, tmp_path: Path
) -> None:
    policy = command_policy("/usr/bin:/bin", withheld=[state_in_the_system, tmp_path])
    async with CommandLauncher(policy=policy) as launcher:
        assert await find_open_places(launcher, tmp_path, [state_in_the_system]) == []
        launcher.bubblewrap = Bubblewrap.find()
        with contextlib.suppress(IsolationError):  # where namespaces are forbidden
            assert await find_open_places(launcher, tmp_path, [state_in_the_system]) == []


def test_withholding_keeps_all_that_is_beside(tmp_path: Path) -> None:
    for name in ("a/x", "a/y/z", "b"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a" / "link").symlink_to("y")
    policy = command_policy("")._replace(readable=(str(tmp_path),), executable=(str(tmp_path / "a"),))
    kept = withhold(policy, [str(tmp_path / "a" / "y")])
    assert set(kept.readable) == {str(tmp_path / "a" / "x"), str(tmp_path / "b")}
    assert kept.executable == (str(tmp_path / "a" / "x"),)
    assert withhold(policy, [str(tmp_path)])._replace(readable=(), executable=()) == policy._replace(
        readable=(), executable=()
    )
    assert withhold(policy, [str(tmp_path)]).readable == ()
    assert withhold(policy, [str(tmp_path / "missing")]).executable == policy.executable


def test_programs_that_hold_others_in_are_the_systems_own(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = person.write("proj/.venv/bin/bwrap")
    person.write("proj/.venv/bin/sh")
    monkeypatch.setenv("PATH", f"{planted.parent}:{os.environ['PATH']}")
    monkeypatch.chdir(planted.parent)
    found = find_system_program("sh")
    assert found is not None
    assert found.startswith(("/usr/", "/bin/"))
    bubblewrap = find_system_program("bwrap")
    assert bubblewrap is None or bubblewrap.startswith(("/usr/", "/bin/"))
    assert find_system_program("../../../tmp/x") is None


def test_a_program_that_somebody_else_could_have_changed_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program"
    program.write_text(SCRIPT, encoding="utf-8")
    assert is_out_of_others_reach(os.path.realpath("/usr/bin/env"))

    def with_own_parent(path: str) -> list[str]:
        return [path, str(tmp_path)]  # what is above may be in everybody's reach, as /tmp is

    monkeypatch.setattr(system_programs, "with_parents", with_own_parent)
    modes = {(0o755, 0o755): True, (0o775, 0o755): False, (0o757, 0o755): False, (0o755, 0o777): False}
    for (mode, above), is_fine in modes.items():
        program.chmod(mode)
        tmp_path.chmod(above)
        assert is_out_of_others_reach(str(program)) is is_fine
    tmp_path.chmod(0o755)
    if os.getuid() == 0:
        os.chown(program, 12345, 0)
        assert not is_out_of_others_reach(str(program))


# --- what must go on working --------------------------------------------------------------------


@needs_landlock
async def test_usual_installations_work(person: Person) -> None:
    write, link = person.write, person.link
    library = '#!/bin/sh\n. "$(dirname "$(readlink -f "$0")")/../lib/code"\n'
    # A checkout's virtual environment on a Python of pyenv's or uv's: links to a program elsewhere.
    write(".pyenv/versions/3.11.7/bin/python3.11", library)
    write(".pyenv/versions/3.11.7/lib/code", "echo it works", 0o644)
    link("checkout/.venv/bin/python", f"{person.home}/.pyenv/versions/3.11.7/bin/python3.11")
    write("checkout/.venv/pyvenv.cfg", "", 0o644)
    write("checkout/.venv/bin/tool")
    link("checkout/.venv/lib64", "lib")
    # pyenv's shims.
    write(".pyenv/libexec/pyenv")
    write(".pyenv/shims/python3", f"#!/bin/sh\nexec {person.home}/.pyenv/versions/3.11.7/bin/python3.11\n")
    # uv and pipx: links in ~/.local/bin to installations in ~/.local/share, which itself stays closed.
    write(".local/share/uv/python/cpython-3.12/bin/python3.12", library)
    write(".local/share/uv/python/cpython-3.12/lib/code", "echo it works", 0o644)
    link(".local/bin/python3.12", "../share/uv/python/cpython-3.12/bin/python3.12")
    write(".local/share/pipx/venvs/black/bin/black", library)
    write(".local/share/pipx/venvs/black/lib/code", "echo it works", 0o644)
    link(".local/bin/black", f"{person.home}/.local/share/pipx/venvs/black/bin/black")
    write(".local/share/single/versions/1.0")
    link(".local/bin/single", "../share/single/versions/1.0")
    write(".local/share/keyrings/login", "canary", 0o600)
    # nvm: on PATH by itself, with links into its own library.
    write(".nvm/versions/node/v20/lib/node_modules/npm/bin/npm-cli.js")
    link(".nvm/versions/node/v20/bin/npm", "../lib/node_modules/npm/bin/npm-cli.js")
    # Homebrew: links from bin to Cellar, and from opt.
    write("brew/Cellar/jq/1.7/bin/jq", library)
    write("brew/Cellar/jq/1.7/lib/code", "echo it works", 0o644)
    link("brew/bin/jq", "../Cellar/jq/1.7/bin/jq")
    link("brew/opt/jq", "../Cellar/jq/1.7")
    write(".cargo/bin/cargo")
    write(".cargo/credentials.toml", "canary", 0o600)
    # A directory on PATH that is a link itself, as fnm makes one for each shell.
    write("fnm/node-versions/v22/installation/bin/node", library)
    write("fnm/node-versions/v22/installation/lib/code", "echo it works", 0o644)
    link("shells/1", "../fnm/node-versions/v22/installation")
    path = [
        *("checkout/.venv/bin", ".pyenv/shims", ".local/bin", ".nvm/versions/node/v20/bin", "brew/bin"),
        *(".cargo/bin", "shells/1/bin"),
    ]
    for program in (
        "python",
        "tool",
        "python3",
        "python3.12",
        "black",
        "single",
        "npm",
        "jq",
        "cargo",
        "node",
    ):
        found = await outcome([program], person, path, withheld=[person.home / "proj"])
        assert (program, found) == (program, "it works")
    for secret in (".local/share/keyrings/login", ".cargo/credentials.toml", ".ssh/id_ed25519"):
        read = ["cat", str(person.home / secret)]
        assert await outcome(read, person, path, withheld=[person.home / "proj"]) == "refused"


@needs_landlock
async def test_the_interpreter_of_the_tests_works(person: Person) -> None:
    found = await outcome([sys.executable, "-I", "-c", "import json; print('it works')"], person, [])
    assert found == "it works"
