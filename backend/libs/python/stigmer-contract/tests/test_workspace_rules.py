"""Directories that no agent may be given: each row of the table, generated trees, what stays allowed."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from needed import skip_outside_ci
from stigmer_contract.workspace_directories import (
    Identity,
    LinkOnTheWay,
    judge,
    look_at,
    look_through_no_link,
    opened,
    surroundings_here,
    surroundings_in_text,
)
from stigmer_contract.workspace_rules import (
    ROOT,
    RULES,
    Kind,
    Place,
    Step,
    Surroundings,
    is_within,
    refuse,
)


def places(*paths: str) -> tuple[Place, ...]:
    return tuple(Place.of_text(path) for path in paths)


SELF, OTHER = 1001, 1002

MACHINE = Surroundings(
    state=places("/home/ann/.stigmer", "/data/sessions"),
    sessions=places("/home/ann/.stigmer/data/workspace", "/data/sessions"),
    programs=places("/home/ann/code/stigmer/.venv", "/home/ann/code/stigmer/cli/src", "/usr"),
    system=places("/", "/dev", "/etc", "/opt", "/usr", "/var/lib"),
    homes=places("/home/ann", "/root", "/var/lib/build"),
    home_parents=places("/home"),
    temporary=places("/tmp", "/var/tmp", "/dev/shm"),
    searched=places("/srv/tools/bin"),
    activated=places("/srv/site/.venv/bin"),
    users=frozenset([SELF]),
)

REFUSED = {
    "/": Kind.HOME,
    "/home": Kind.HOME,
    "/home/ann": Kind.HOME,
    "/home/bob": Kind.HOME,
    "/root": Kind.HOME,
    "/home/ann/.ssh": Kind.HIDDEN,
    "/home/ann/.config/gcloud/configurations": Kind.HIDDEN,
    "/home/ann/Library/Keychains": Kind.HIDDEN,
    "/home/bob/.aws": Kind.HIDDEN,
    "/home/ann/.stigmer": Kind.STATE,
    "/home/ann/.stigmer/run": Kind.STATE,
    "/home/ann/.stigmer/data": Kind.STATE,
    "/home/ann/.stigmer/data/workspace": Kind.SESSION,
    "/home/ann/.stigmer/data/workspace/ses_1/src": Kind.SESSION,
    "/data": Kind.STATE,
    "/data/sessions/ses_2": Kind.SESSION,
    "/home/ann/code": Kind.PROGRAM,
    "/home/ann/code/stigmer": Kind.PROGRAM,
    "/home/ann/code/stigmer/.venv": Kind.PROGRAM,
    "/home/ann/code/stigmer/.venv/bin": Kind.PROGRAM,
    "/home/ann/code/stigmer/cli/src/stigmer_cli": Kind.PROGRAM,
    "/home/ann/code/stigmer/cli": Kind.PROGRAM,
    "/usr/local/share/project": Kind.PROGRAM,
    "/etc/project": Kind.SYSTEM,
    "/opt/project": Kind.SYSTEM,
    "/dev/mapper": Kind.SYSTEM,
    "/var/lib/postgresql": Kind.SYSTEM,
    "/var/lib/build": Kind.HOME,
    "/var/lib/build/.cache": Kind.HIDDEN,
    "/tmp": Kind.TEMPORARY,
    "/var/tmp": Kind.TEMPORARY,
    "/dev/shm": Kind.TEMPORARY,
    f"/tmp/stigmer-{'0a' * 16}": Kind.COMMAND,
    f"/tmp/stigmer-enclosure-{'0a' * 16}/x": Kind.COMMAND,
    "/tmp/stigmer-temporary-0a0a0a0a/0b0b": Kind.COMMAND,
    "/srv/project/.git": Kind.GIT,
    "/srv/project/.GIT/hooks": Kind.GIT,
    "/srv/tools/bin": Kind.SEARCHED,
    "/srv/tools/bin/x": Kind.SEARCHED,
    "/srv/tools": Kind.SEARCHED,
    "/srv/site/.venv/bin": Kind.SEARCHED,
    "/srv/site/.venv/bin/x": Kind.SEARCHED,
}
ALLOWED = (
    "/home/ann/notes",
    "/home/ann/code/other",
    "/home/ann/code/stigmer/examples/report",
    "/home/ann/code/site/.github",
    "/home/bob/shared",
    "/srv/project",
    "/srv/project/refs",
    "/srv/project/.github",
    "/srv/tools/docs",
    "/srv/site",
    "/mnt/usb/photos",
    "/tmp/tmp4x_8a",
    "/tmp/stigmer-notes",
    "/dev/shm/scratch",
    "/var/lib/build/jobs/7",
    "/var/www/site",
    "/database",
)


@pytest.mark.parametrize(("path", "kind"), REFUSED.items())
def test_what_no_agent_may_be_given_is_refused_with_a_reason_and_a_remedy(path: str, kind: Kind) -> None:
    refusal = refuse(Place.of_text(path), MACHINE)
    assert refusal is not None
    assert (refusal.kind, refusal.remedy) == (kind, RULES[kind].remedy)
    assert refusal.reason.endswith(RULES[kind].what)


@pytest.mark.parametrize("path", ALLOWED)
def test_a_persons_own_directories_are_allowed(path: str) -> None:
    assert refuse(Place.of_text(path), MACHINE) is None


def test_every_row_of_the_table_is_tried() -> None:
    assert {*REFUSED.values(), Kind.FOREIGN} == set(RULES) == set(Kind)


@pytest.mark.parametrize(
    ("own", "above", "is_refused"),
    [
        (Step("d", SELF), Step("a", SELF), False),
        (Step("d", SELF), Step("a", ROOT), False),  # as an engine makes the way to a mount
        (Step("d", OTHER), Step("a", SELF), True),
        (Step("d", ROOT), Step("a", ROOT), True),
        (Step("d", SELF, others_may_write=True), Step("a", SELF), True),
        (Step("d", SELF), Step("a", OTHER), True),
        (Step("d", SELF), Step("a", ROOT, others_may_write=True), True),
    ],
)
def test_among_everybodys_files_only_what_is_ones_own_is_allowed(
    own: Step, above: Step, is_refused: bool
) -> None:
    place = Place("/tmp/a/d", (own, above, *Place.of_text("/tmp").steps))
    refusal = refuse(place, MACHINE)
    assert (refusal is not None and refusal.kind is Kind.FOREIGN) == is_refused
    elsewhere = Place("/srv/a/d", (own, above, *Place.of_text("/srv").steps))
    assert refuse(elsewhere, MACHINE) is None  # a team's directory


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("project", "the path is not absolute"),
        ("", "the path is not absolute"),
        ("/srv/../etc", "the path leads through `..`"),
        ("/srv/..", "the path leads through `..`"),
        ("/a\0b", "the path holds a null character"),
        ("/\ud800", "the path is not valid text"),
        ("/a" * 3000, "the path has 4096 bytes or more"),
    ],
)
def test_a_path_that_cannot_be_judged_is_refused(path: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Place.of_text(path)


names = st.sampled_from(["a", "b", "home", "tmp", ".ssh", "src"])
paths = st.lists(names, max_size=5).map(lambda parts: "/" + "/".join(parts))


def lies_in(inner: str, outer: str) -> bool:
    return outer == "/" or inner == outer or inner.startswith(f"{outer}/")


@given(path=paths, state=paths, program=paths)
def test_whatever_is_holds_or_lies_in_state_or_programs_is_refused(
    path: str, state: str, program: str
) -> None:
    around = Surroundings(state=places(state), programs=places(program))
    # Nothing but the machine itself lies in "/", where an installation with that prefix would be.
    protected = [one for one in (state, program) if one != "/"]
    related = any(lies_in(path, one) or lies_in(one, path) for one in protected)
    refusal = refuse(Place.of_text(path), around)
    assert (refusal is not None) == (related or (path == "/" and "/" in (state, program)))


@given(path=paths, home=paths)
def test_of_a_home_all_that_is_visible_is_allowed_and_nothing_else(path: str, home: str) -> None:
    refusal = refuse(Place.of_text(path), Surroundings(homes=places(home)))
    below = path.removeprefix(home).lstrip("/") if lies_in(path, home) else None
    is_allowed = not below.startswith(".") and bool(below) if below is not None else not lies_in(home, path)
    assert (refusal is None) == is_allowed


@given(path=paths, roots=st.lists(paths, max_size=3))
def test_what_is_within_roots_is_told_by_whole_names(path: str, roots: list[str]) -> None:
    expected = any(lies_in(path, root) for root in roots)
    assert is_within(Place.of_text(path), places(*roots)) == expected


@given(path=paths, junk=st.sampled_from(["/./", "//", "/"]))
def test_how_a_path_is_spelled_changes_nothing(path: str, junk: str) -> None:
    spelled = path.replace("/", junk) + junk
    assert Place.of_text(spelled) == Place.of_text(path)


# --- on real directories ------------------------------------------------------------------------


tree = st.lists(
    st.tuples(
        st.lists(st.sampled_from("abc"), min_size=1, max_size=3),
        st.none() | st.lists(st.sampled_from("abc"), max_size=3),
    ),
    max_size=8,
)
"""Directories, and links that lead to another path of the tree."""


@given(laid_out=tree, state=st.lists(st.sampled_from("abc"), min_size=1, max_size=2))
def test_no_link_leads_past_the_rules(
    laid_out: list[tuple[list[str], list[str] | None]], state: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(os.path.realpath(scratch), "tree")
        (root / Path(*state)).mkdir(parents=True)
        for parts, target in laid_out:
            path = root / Path(*parts)
            if os.path.lexists(path) or not os.path.realpath(path.parent).startswith(str(root)):
                continue
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.mkdir() if target is None else path.symlink_to(root / Path(*target))
            except OSError:  # a loop of links, or a file system that has had enough
                continue
        protected = look_at(str(root / Path(*state)))
        around = Surroundings(state=(protected,))
        for folder, folders, _ in os.walk(root):
            for path in (folder, *(f"{folder}/{name}" for name in folders)):
                real = os.path.realpath(path)
                try:
                    is_allowed = judge(path, around) is None
                except OSError:  # a link on the way, which is refused whatever it leads to
                    assert real != path
                    continue
                assert real == path
                assert is_allowed == (not lies_in(real, protected.path) and not lies_in(protected.path, real))
                looked = refuse(look_at(path), around) is None
                assert looked == is_allowed


def test_a_link_on_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    for path in (tmp_path / "link", tmp_path / "link" / "deep"):
        with pytest.raises(LinkOnTheWay) as caught, opened(str(path)):
            pass
        assert caught.value.link == str(tmp_path / "link")


def test_a_directory_is_recognised_by_what_it_is_and_not_by_its_name(tmp_path: Path) -> None:
    here = tmp_path / "project"
    here.mkdir()
    with opened(str(here)) as directory:
        first = directory.identity
    assert Identity.parse(str(first)) == first
    here.rename(tmp_path / "moved")
    with opened(str(tmp_path / "moved")) as directory:
        assert directory.identity == first
    here.mkdir()
    with opened(str(here)) as directory:
        assert directory.identity != first


def test_state_is_protected_before_it_is_made(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "later"):
        directory.mkdir(exist_ok=True)
        around = surroundings_here(state=[tmp_path / "later" / "state"], sessions=[])
        assert getattr(judge(str(directory), around), "kind", None) is Kind.STATE
    (tmp_path / "beside").mkdir()
    assert judge(str(tmp_path / "beside"), around) is None


def test_this_machine_keeps_its_own(tmp_path: Path) -> None:
    around = surroundings_here(state=[tmp_path / "home"], sessions=[tmp_path / "home/data/workspace"])
    for path in (
        "/etc",
        "/usr/lib",
        "/",
        str(Path.home()),
        tempfile.gettempdir(),
        str(Path(os.__file__).parent),
    ):
        assert refuse(look_at(path), around) is not None, path
    with tempfile.TemporaryDirectory() as scratch:
        assert judge(os.path.realpath(scratch), around) is None


def test_a_directory_of_everybodys_that_others_can_write_is_not_ones_own(tmp_path: Path) -> None:
    around = surroundings_here(state=[], sessions=[])
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "open" / "below").mkdir(mode=0o700)
    around = replace(around, temporary=(look_at(str(tmp_path)),))
    for path in (tmp_path / "open", tmp_path / "open" / "below"):
        assert getattr(judge(str(path), around), "kind", None) is Kind.FOREIGN


def test_a_server_elsewhere_judges_by_text_alone() -> None:
    around = surroundings_in_text(state=["/data/stigmer"])
    for path in ("/etc/x", "/home/ann", "/home/ann/.ssh", "/tmp", "/data", "/data/stigmer/run", "/"):
        assert refuse(Place.of_text(path), around) is not None, path
    for path in ("/home/ann/notes", "/srv/project", "/tmp/scratch", "/w"):
        assert refuse(Place.of_text(path), around) is None, path


def test_a_folder_on_path_is_nobodys_to_write_nor_where_a_link_to_it_stands(tmp_path: Path) -> None:
    for folder in ("tools/bin", "links", "later", "site/.venv/bin", "beside"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "links" / "bin").symlink_to(tmp_path / "tools" / "bin")
    (tmp_path / "site" / ".venv" / "pyvenv.cfg").touch()
    folders = [tmp_path / "links" / "bin", tmp_path / "later" / "bin", tmp_path / "site" / ".venv" / "bin"]
    path = ":".join([*map(str, folders), "", ".", "beside", "/"])

    around = surroundings_here(state=[], sessions=[], environment={"PATH": path})

    for folder in ("tools/bin", "tools", "links", "later", "site/.venv/bin"):
        assert getattr(judge(str(tmp_path / folder), around), "kind", None) is Kind.SEARCHED, folder
    for folder in ("site", "beside"):
        assert judge(str(tmp_path / folder), around) is None, folder


def test_a_git_directory_is_known_by_what_it_holds_and_not_by_its_name(tmp_path: Path) -> None:
    around = surroundings_here(state=[], sessions=[], environment={})
    for name, entries in {
        "bare": ("objects", "refs", "hooks"),
        "worktree": ("commondir",),
        "plain": ("refs",),
    }.items():
        for entry in entries:
            (tmp_path / name / entry).mkdir(parents=True)
        (tmp_path / name / "HEAD").symlink_to("refs/heads/unborn")
    for name in ("bare", "bare/hooks", "worktree"):
        assert getattr(judge(str(tmp_path / name), around), "kind", None) is Kind.GIT, name
    for name in ("", "plain", "plain/refs"):
        assert judge(str(tmp_path / name), around) is None, name


def test_what_is_missing_of_a_path_is_taken_by_its_text_and_a_link_on_it_is_not(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("gone")
    later = look_through_no_link(str(tmp_path / "real" / "later" / "on"))
    assert later.path == str(tmp_path / "real" / "later" / "on")
    assert later.height_of(look_at(str(tmp_path / "real"))) == 2
    with pytest.raises(LinkOnTheWay):
        look_through_no_link(str(tmp_path / "link" / "later"))


BIND_MOUNTS = """
import json, os, subprocess, sys
from pathlib import Path
from stigmer_contract.workspace_directories import judge, surroundings_here

base = Path(sys.argv[1])
state, home = base / "state", base / "ann"
for path in (state / "data/workspace/ses_x", state / "run", home / ".ssh/keys", home / "notes"):
    path.mkdir(parents=True)
os.environ["HOME"] = str(home)
sources = {
    "state": state, "data": state / "data", "sessions": state / "data/workspace", "run": state / "run",
    "above": base, "home": home, "ssh": home / ".ssh", "keys": home / ".ssh/keys",
    "etc": Path("/etc"), "programs": Path(sys.prefix), "notes": home / "notes",
}
told = {}
for name, source in sources.items():
    for target in (base / "mounted" / name, base / "holding" / name / "within"):
        target.mkdir(parents=True)
        subprocess.run(["mount", "--bind", source, target], check=True)
around = surroundings_here(state=[state], sessions=[state / "data/workspace"])
for name in sources:
    for place in (base / "mounted" / name, base / "holding" / name):
        refusal = judge(str(place), around)
        told[f"{place.parent.name} {name}"] = None if refusal is None else refusal.kind
print(json.dumps(told))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has bind mounts")
def test_what_a_mount_shows_elsewhere_is_known_for_what_it_is(tmp_path: Path) -> None:
    # In a mount namespace of its own, so that nothing is mounted for anybody else.
    argv = ["unshare", "--map-root-user", "--mount", sys.executable, "-c", BIND_MOUNTS, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=100)
    if done.returncode != 0 and "unshare" in done.stderr:
        skip_outside_ci(f"this machine forbids namespaces: {done.stderr}")
    assert done.returncode == 0, done.stderr
    kinds = {
        "state": Kind.STATE, "data": Kind.STATE, "sessions": Kind.STATE, "run": Kind.STATE,
        "above": Kind.HOME, "home": Kind.HOME, "ssh": Kind.HIDDEN, "keys": Kind.HIDDEN,
        "etc": Kind.SYSTEM, "programs": Kind.PROGRAM, "notes": None,
    }  # fmt: skip
    expected = {f"{how} {name}": kind for name, kind in kinds.items() for how in ("mounted", "holding")}
    expected["mounted sessions"] = Kind.SESSION
    assert json.loads(done.stdout) == expected
