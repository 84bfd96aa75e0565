"""What becomes of an image that `--image-archive` brings and that is none to run."""

from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import pytest

from small_image import write_image_archive
from stigmer_cli.config import load_configuration
from stigmer_cli.containers import Engine, Image, ImageReference
from stigmer_cli.errors import ImageIncompatible
from stigmer_cli.runner.resolution import ImageWish, choose_image


class _Nothing:
    """Brings no image from anywhere."""

    def __call__(self, engine: Engine, reference: ImageReference) -> Image:
        raise AssertionError(f"{reference} was asked for")

    def verify_present(self, reference: ImageReference, digests: Sequence[str]) -> None:
        raise AssertionError(f"{reference} was asked about")


def test_a_refused_image_is_removed_again_and_names_go_back(engine: Engine, tmp_path: Path) -> None:
    mark = uuid4().hex[:12]
    reference = ImageReference("localhost", f"stigmer-tests/{mark}", "1")
    configuration = load_configuration({"STIGMER_HOME": str(tmp_path)})
    first, second = (
        write_image_archive(
            tmp_path / f"{name}.tar", str(reference), contents={name: f"{mark} {name}".encode()}
        )
        for name in ("first", "second")
    )
    engine.images.load(first)
    kept = engine.images.find(str(reference))
    assert kept is not None
    try:
        for archive, what in ((second, "another image of that name"), (first, "what is here already")):
            before = engine.images.ids()
            with pytest.raises(ImageIncompatible):
                choose_image(engine, configuration, ImageWish(archive=archive), _Nothing())
            found = engine.images.find(str(reference))
            assert found is not None, what
            assert (found.image_id, engine.images.ids()) == (kept.image_id, before), what
    finally:
        engine.images.remove(kept)
