"""What an image says of itself is read in its registry, before anything is pulled; no engine is needed."""

from pathlib import Path

import pytest

from faulty_registry import FaultyRegistry
from stigmer_cli.config import load_configuration
from stigmer_cli.containers import Engine, EngineKind, EngineTraits, ImageReference
from stigmer_cli.containers.api import EngineApi
from stigmer_cli.containers.registry import describe_image
from stigmer_cli.errors import ImageIncompatible
from stigmer_cli.program_version import program_version
from stigmer_cli.runner.pull_report import ImagePuller

TITLE, VERSION = "org.opencontainers.image.title", "org.opencontainers.image.version"
TRAITS = EngineTraits(EngineKind.DOCKER, "20.10.24", "1.41", "amd64", False, False, True)


def test_a_registry_tells_labels_and_sizes(tmp_path: Path) -> None:
    labels = {TITLE: "agent-runner", VERSION: "1.2.3"}
    with FaultyRegistry(tmp_path / "registry", labels=labels) as registry:
        told = describe_image(ImageReference.parse(registry.reference), "amd64", None, 60)

    assert (told.labels, list(told.layer_bytes.values())) == (labels, [registry.layer_bytes])


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({}, "is no agent-runner"),
        (
            {TITLE: "agent-runner", VERSION: "9.1.0"},
            f"is version 9.1.0, which does not go with stigmer {program_version()}",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_not_pulled(
    tmp_path: Path, labels: dict[str, str], said: str
) -> None:
    configuration = load_configuration({"STIGMER_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)})
    engine = Engine(EngineApi(str(tmp_path / "no.sock")), TRAITS)
    lines: list[str] = []
    with (
        FaultyRegistry(tmp_path / "registry", labels=labels) as registry,
        pytest.raises(ImageIncompatible) as refused,
    ):
        ImagePuller(configuration, lines.append)(engine, ImageReference.parse(registry.reference))

    assert refused.value.message == f"could not start the runner: the image '{registry.reference}' {said}"
    assert (registry.seen.layer_starts, lines) == ([], [])
