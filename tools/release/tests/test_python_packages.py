"""The Python packages of a release: each alone, bound to its image, and installed by the formula."""

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from needed import skip_outside_ci
from scratch_checkout import ScratchCheckout
from stigmer_release.packages import PACKAGES
from stigmer_release.python_packages import build_packages, try_package

MODULES = (
    "stigmer_contract",
    "stigmer_isolation",
    "agent_runner",
    "stigmer_server",
    "stigmer_cli",
    "stigmer_agents",
)
DIGEST = f"sha256:{'ab' * 32}"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> ScratchCheckout:
    """A clone at v7.8.9, whose command line pulls a given digest."""
    checkout = ScratchCheckout(tmp_path_factory.mktemp("packages") / "checkout")
    checkout.make("release", "VERSION=7.8.9")
    checkout.release_tools("set-image-digest", DIGEST)
    build_packages(checkout.root, checkout.root / "dist")
    return checkout


def test_a_release_has_a_source_archive_and_a_wheel_of_each_package(checkout: ScratchCheckout) -> None:
    names = {name.replace("-", "_") for name in PACKAGES}

    assert {file.name for file in (checkout.root / "dist").iterdir() if file.suffix in (".whl", ".gz")} == {
        *(f"{name}-7.8.9-py3-none-any.whl" for name in names),
        *(f"{name}-7.8.9.tar.gz" for name in names),
    }


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "module"),
    list(zip(PACKAGES, MODULES, strict=True)),
)
def test_a_package_that_is_installed_alone_has_all_that_its_modules_import(
    checkout: ScratchCheckout, tmp_path: Path, name: str, module: str
) -> None:
    assert try_package(checkout.root, checkout.root / "dist", name, tmp_path) == module
    if name == "stigmer-agents":
        said = subprocess.run(
            [tmp_path / name / "bin/stigmer", "version"],
            env={"PATH": os.defpath, "STIGMER_HOME": str(tmp_path / "home")},
            capture_output=True,
            encoding="utf-8",
            check=True,
        ).stdout
        assert re.search(r"^stigmer +7\.8\.9$", said, re.MULTILINE)
        assert re.search(
            rf"^runner-image +ghcr\.io/stigmer/agent-runner:7\.8\.9@{DIGEST}$", said, re.MULTILINE
        )


def test_the_formula_is_ruby_and_names_what_it_installs_by_hash(checkout: ScratchCheckout) -> None:
    checkout.release_tools("formula", "v7.8.9", "dist")
    dist = checkout.root / "dist"
    formula = (dist / "stigmer.rb").read_text("utf-8")
    requirements = (dist / "stigmer-7.8.9-requirements.txt").read_text("utf-8")

    def sha256(name: str) -> str:
        return hashlib.sha256((dist / name).read_bytes()).hexdigest()

    assert f'sha256 "{sha256("stigmer_agents-7.8.9.tar.gz")}"' in formula
    assert f'sha256 "{sha256("stigmer-7.8.9-requirements.txt")}"' in formula
    assert f"--hash=sha256:{sha256('stigmer_server-7.8.9-py3-none-any.whl')}" in requirements
    for line in requirements.replace("\\\n", " ").splitlines():
        assert re.match(r"[\w.-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line), line
    ruby = shutil.which("ruby")
    if ruby is None:
        skip_outside_ci("ruby is not installed")
    done = subprocess.run(
        [ruby, "-wc", "stigmer.rb"], cwd=dist, capture_output=True, encoding="utf-8", check=False
    )
    assert (done.stdout, done.stderr) == ("Syntax OK\n", "")
