"""The variant `full` of the image: what agents build software with, over the plain one, within its budget."""

import re
from collections.abc import Iterator

import pytest

from container_engine import Engine
from image_commands import run_as_agent

pytestmark = pytest.mark.parametrize("engine", ["docker"], indirect=True)

NAMED = {"IMAGE": "localhost/stigmer-tests/variants", "VERSION": "1.0.0", "VARIANT": "full"}
TAG = "localhost/stigmer-tests/variants:1.0.0-full"


@pytest.fixture(scope="module")
def full_image(engine: Engine) -> Iterator[str]:
    """Built once for the tests of this file."""
    engine.make("build-image", environment=NAMED)
    yield TAG
    engine.make("clean", environment=NAMED)


def test_an_agent_builds_software_with_it(engine: Engine, full_image: str) -> None:
    script = r"""
        set -e
        printf '#include <stdio.h>\nint main(void) { puts("from C"); }' >c.c
        printf '#include <iostream>\nint main() { std::cout << "from C++\\n"; }' >cc.cpp
        make --silent c cc && ./c && ./cc
        node -p '"from Node.js " + process.versions.node.split(".")[0]'
        npm --version >/dev/null && npx --version >/dev/null
        uv venv --quiet --offline venv && uv --version | cut -d' ' -f1
        pip --version | cut -d' ' -f1 && python3 -m pip --version >/dev/null
        id -un && git --version >/dev/null && rg --version >/dev/null
    """
    said = run_as_agent(engine, full_image, script, "--user=4321:4321")
    assert said.splitlines() == ["from C", "from C++", "from Node.js 24", "uv", "pip", "agent"]


def test_it_is_within_its_budget_and_has_the_plain_one_s_layers(
    engine: Engine, image: str, full_image: str
) -> None:
    done = engine.make("scan", environment=NAMED)
    assert re.match(r"compressed [0-9.]+ MB, uncompressed [0-9.]+ MB; the largest parts", done.stdout)
    layers = "{{json .RootFS.Layers}}"
    plain, full = (
        engine.output("image", "inspect", f"--format={layers}", one).strip("[]").split(",")
        for one in (image, full_image)
    )
    assert full[: len(plain)] == plain
    assert len(full) == len(plain) + 1
