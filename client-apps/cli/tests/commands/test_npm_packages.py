"""Packages of npm that servers are started from: fetched once by the person's `npm`, packed, and kept."""

import hashlib
import stat
import sys
from pathlib import Path

import pytest

from stigmer_cli.commands.agent_packs import pack_agents
from stigmer_cli.commands.manifest_files import ManifestFile
from stigmer_cli.commands.npm_packages import FETCHED_PACKAGES, pack_package
from stigmer_cli.commands.packed_files import FilesRefused
from stigmer_cli.errors import ManifestInvalid
from stigmer_contract.manifest_reader import read_manifests
from stigmer_contract.packs import MAX_PACK_FILES, read_pack

PACKAGE = "npm:@shop/stock@1.2.3"
NPM = f"""#!{sys.executable}
import json, pathlib, sys
with open(pathlib.Path(__file__).parent / "asked", "a") as asked:
    print(*sys.argv[1:], file=asked)
assert json.load(open("package.json")) == {{"private": True}}
def write(path, text):
    file = pathlib.Path("node_modules", path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
if sys.argv[-1].endswith("@9.9.9"):
    print("npm warn deprecated old@1.0.0: use another", file=sys.stderr)
    print("npm error code ETARGET\\nnpm error notarget No matching version found.", file=sys.stderr)
    sys.exit(1)
names = {{"@9.0.1": {{"a": "main.js", "b": "main.js"}}, "@9.0.2": "../outside.js"}}
command = names.get(sys.argv[-1][-6:], {{"stock-server": "main.js"}})
write("@shop/stock/package.json", json.dumps({{"bin": command}}))
write("@shop/stock/main.js", "start()")
write("@shop/stock/main.d.ts", "types")
write("@shop/stock/node_modules/inner/index.js", "inner")
write("prices/index.js", "prices")
write(".package-lock.json", "{{}}")
if sys.argv[-1].endswith("@3.0.0"):
    with open("node_modules/prices/large", "wb") as large:
        large.truncate((256 << 20) + 1)  # takes no place
for n in range(MANY if sys.argv[-1].endswith("@2.0.0") else 0):
    write(f"many/{{n % 3}}/{{n}}.js", "")
pathlib.Path("node_modules/.bin").mkdir()
pathlib.Path("node_modules/.bin/stock-server").symlink_to("../@shop/stock/main.js")
""".replace("MANY", str(2 * MAX_PACK_FILES))


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `npm` was asked for, one line each; the home is empty."""
    programs = tmp_path / "bin"
    programs.mkdir()
    npm = programs / "npm"
    npm.write_text(NPM, encoding="utf-8")
    npm.chmod(npm.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("STIGMER_HOME", str(tmp_path / "home"))
    return programs / "asked"


def lines(asked: Path) -> list[str]:
    return asked.read_text(encoding="utf-8").splitlines() if asked.exists() else []


def test_a_package_is_packed_with_what_it_needs_and_without_what_does_not_run(asked: Path) -> None:
    packed = pack_package(PACKAGE)

    assert packed.fetched.program == "node_modules/@shop/stock/main.js"
    [pack] = packed.packs
    assert packed.fetched.packs == {"node_modules": f"sha256:{hashlib.sha256(pack).hexdigest()}"}
    assert [file.path for file in read_pack(pack)] == [
        "@shop/stock/main.js",
        "@shop/stock/node_modules/inner/index.js",
        "@shop/stock/package.json",
        "prices/index.js",
    ]
    options = "--ignore-scripts --allow-git=none --no-audit --no-fund --omit=dev"
    assert lines(asked) == [f"install {options} -- @shop/stock@1.2.3"]


def test_what_was_fetched_once_is_not_asked_for_again(asked: Path) -> None:
    assert pack_package(PACKAGE) == pack_package(PACKAGE)
    assert len(lines(asked)) == 1


def test_what_was_kept_and_is_damaged_is_fetched_again(asked: Path, tmp_path: Path) -> None:
    first = pack_package(PACKAGE)
    [kept] = (tmp_path / "home" / FETCHED_PACKAGES).iterdir()
    for file in kept.iterdir():
        file.write_bytes(b"{}")
    assert pack_package(PACKAGE) == first
    assert len(lines(asked)) == 2


def test_a_package_that_cannot_be_kept_can_be_used(asked: Path, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("in the way", encoding="utf-8")
    assert pack_package(PACKAGE).fetched.program == "node_modules/@shop/stock/main.js"


def test_a_package_of_many_files_is_divided_by_its_folders(asked: Path) -> None:
    packed = pack_package("npm:@shop/stock@2.0.0")
    folders = sorted(packed.fetched.packs)
    assert folders == [
        "node_modules/@shop",
        "node_modules/many/0",
        "node_modules/many/1",
        "node_modules/many/2",
        "node_modules/prices",
    ]
    packs = {hashlib.sha256(pack).hexdigest(): pack for pack in packed.packs}
    named = [reference.removeprefix("sha256:") for reference in packed.fetched.packs.values()]
    assert sum(len(read_pack(packs[digest])) for digest in named) == 4 + 2 * MAX_PACK_FILES


@pytest.mark.parametrize(
    ("version", "why"),
    [
        ("3.0.0", "has more than 256 MiB with what it needs"),
        ("9.9.9", "failed: notarget No matching version found."),
        ("9.0.1", "has no command of its own name to be started by (it has: a, b)"),
        ("9.0.2", "is not among its files"),
    ],
)
def test_a_package_that_cannot_be_started_is_refused_in_one_line(asked: Path, version: str, why: str) -> None:
    with pytest.raises(FilesRefused) as refused:
        pack_package(f"npm:@shop/stock@{version}")
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)


def test_without_npm_the_manifests_field_and_the_program_are_named(
    asked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (asked.parent / "npm").unlink()
    text = (
        "apiVersion: agentic.stigmer.ai/v1\nkind: Agent\nmetadata: {name: a}\nspec:\n  instructions: Work.\n"
        f'  mcpServers: [{{name: stock, package: "{PACKAGE}"}}]\n'
    )
    [manifest] = read_manifests(text.encode(), "agent.yaml")
    with pytest.raises(ManifestInvalid):
        pack_agents([ManifestFile(manifest, "agent.yaml", tmp_path)])
    where = "agent.yaml: spec.mcpServers[0].package: "
    told = "packages of npm are fetched with the program `npm`, which is not here"
    assert where + told in capsys.readouterr().err
