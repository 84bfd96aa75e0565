"""The images that builds start from: named alike everywhere, and by digest once Renovate has read one."""

import json
import re
from pathlib import Path

import pytest

from scratch_checkout import REPOSITORY
from stigmer_release.base_images import DOCKERFILE, base_images, digests

PLACES = (
    "backend/services/agent-runner/Dockerfile",
    "backend/services/agent-runner/image/build.sh",
    "backend/services/stigmer-server/Dockerfile",
    "docker-compose.yml",
)
NAMED = re.compile(r"(PYTHON|UV)_IMAGE(?:=|:-)([^\s${}]+)")
DIGEST = f"sha256:{'ab' * 32}"


def named_in(text: str) -> set[tuple[str, str]]:
    """Variables with the images that they stand for."""
    return {(match[1], match[2]) for match in NAMED.finditer(text)}


def test_every_build_starts_from_the_same_images_whose_suite_is_named() -> None:
    found = set[tuple[str, str]]().union(*(named_in((REPOSITORY / one).read_text("utf-8")) for one in PLACES))
    images = dict(found)

    assert len(found) == 2, found
    assert re.fullmatch(r"python:3\.11-slim-[a-z]+(@sha256:[0-9a-f]{64})?", images["PYTHON"])
    version = re.search(r"^UV_VERSION := (.+)$", (REPOSITORY / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert version is not None
    assert images["UV"].partition("@")[0] == f"ghcr.io/astral-sh/uv:{version[1]}"


@pytest.mark.parametrize("place", [place for place in PLACES if not place.endswith("Dockerfile")])
@pytest.mark.parametrize("digest", ["", f"@{DIGEST}"])
def test_renovate_reads_images_also_where_it_knows_no_such_file(place: str, digest: str) -> None:
    settings = json.loads((REPOSITORY / ".github/renovate.json").read_text("utf-8"))
    [manager] = [one for one in settings["customManagers"] if one.get("datasourceTemplate") == "docker"]
    [pattern] = manager["matchStrings"]
    text = (REPOSITORY / place).read_text("utf-8")
    text = NAMED.sub(lambda match: f"{match[0].partition('@')[0]}{digest}", text)

    found = [match.groupdict() for match in re.finditer(pattern.replace("(?<", "(?P<"), text)]

    assert any(re.fullmatch(one.strip("/"), place) for one in manager["managerFilePatterns"])
    assert {
        f"{one['depName']}:{one['currentValue']}" + (f"@{one['currentDigest']}" if digest else "")
        for one in found
    } == {reference for _, reference in named_in(text)}


def test_an_image_that_git_pins_is_taken_by_that_digest_and_no_registry_is_asked(tmp_path: Path) -> None:
    text = (REPOSITORY / DOCKERFILE).read_text("utf-8")
    pinned = re.sub(r"^(ARG (?:PYTHON|UV)_IMAGE=[^@\n]+)(@.*)?$", rf"\1@{DIGEST}", text, flags=re.MULTILINE)
    (tmp_path / DOCKERFILE).parent.mkdir(parents=True)
    (tmp_path / DOCKERFILE).write_text(pinned, encoding="utf-8")

    images = base_images(tmp_path, {})

    assert set(digests(images).values()) == {DIGEST}
    assert list(images) == ["PYTHON_IMAGE", "UV_IMAGE"]
