"""Decides which image the runner is started from, and brings it where it is not here.

In this order: an archive, a local build that is asked for, what an earlier archive held, the configured
reference, exactly this version. Where that one cannot be had, a local build of this very checkout.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from stigmer_cli.config import Configuration
from stigmer_cli.containers import Engine, Image, ImageReference
from stigmer_cli.containers.errors import ImageNotFound, RegistryDenied, RegistryUnreachable
from stigmer_cli.errors import ConfigurationError, ImageIncompatible, ImageUnavailable
from stigmer_cli.program_version import program_version
from stigmer_cli.runner.local_builds import (
    TITLE,
    TITLE_LABEL,
    VERSION_LABEL,
    find_local_build,
    require_local_build,
)
from stigmer_cli.runner.released_image import release_reference
from stigmer_cli.runner.verification import refuse_unverifiable
from stigmer_contract.versions import is_compatible

_NOT_TO_BE_HAD = (ImageNotFound, RegistryDenied, RegistryUnreachable)


class Bringer(Protocol):
    """Brings images from registries, and tells whether they are whose they must be."""

    def __call__(self, engine: Engine, reference: ImageReference) -> Image:
        """Verifies it as `runner.verify` says, pulls it, and shows how it goes."""
        ...

    def verify_present(self, reference: ImageReference, digests: Sequence[str]) -> None:
        """Verifies an image that is here, by the digests under which its registry has it."""
        ...


@dataclass(frozen=True)
class ImageWish:
    """What the person asked for on the command line."""

    use_local_image: bool = False
    archive: Path | None = None
    must_pull: bool = False
    """Whatever the policy says, unless a local build or an archive is wished for."""
    loaded: tuple[str, str] | None = None
    """Reference and id of what an archive held that was loaded earlier."""
    local_reference: str | None = None
    """Which local build; None: that of this checkout."""
    current: tuple[str, str] | None = None
    """Reference and id of the image that runs: kept where neither flag nor setting names another."""


@dataclass(frozen=True)
class ChosenImage:
    """The image to start from."""

    reference: str
    """As a person would write it."""
    image: Image

    @property
    def version(self) -> str | None:
        """What the image says that it is."""
        return self.image.labels.get(VERSION_LABEL)

    @property
    def digest(self) -> str | None:
        """Under which its registry has it; None for what was built or loaded here."""
        named = _parse(self.reference)
        is_named = named is not None and named.digest in self.digests
        return named.digest if named and is_named else next(iter(self.digests), None)

    @property
    def digests(self) -> list[str]:
        """Under which its registry has it: with Podman the index's and the image's own."""
        wanted = _parse(self.reference)
        found = [_parse(one) for one in self.image.digests]
        return [one.digest for one in found if one and wanted and one.digest and one.name == wanted.name]


def choose_image(
    engine: Engine, configuration: Configuration, wish: ImageWish, bring: Bringer
) -> ChosenImage:
    """The image, present and fit for this version and machine.

    Raises:
        ContainersError: the engine or a registry does not give it.
        ImageUnavailable: it is not here, and must not or cannot be pulled.
        ImageIncompatible: it is not fit.
        ImageUntrusted: `runner.verify` requires a signature, and none holds.
        ConfigurationError: `runner.image` is no reference.
    """
    if configuration.runner_verify == "require":
        _refuse_unverifiable(wish)
    if wish.archive is not None:
        return _loaded_now(engine, wish.archive)
    if wish.use_local_image:
        chosen = _local_build(engine, wish.local_reference)
    elif wish.loaded is not None:
        chosen = _loaded_earlier(engine, *wish.loaded)
    elif (kept := _current(engine, configuration, wish)) is not None:
        chosen = kept
        _verify_present(chosen, configuration, bring)
    else:
        chosen = _configured(engine, configuration, wish.must_pull, bring)
    check_image(chosen, engine)
    return chosen


def wanted_reference(configuration: Configuration) -> str:
    """What a start without flags would use."""
    return configuration.runner_image or str(release_reference(program_version()))


def _current(engine: Engine, configuration: Configuration, wish: ImageWish) -> ChosenImage | None:
    is_named = configuration.runner_image is not None
    if wish.current is None or is_named or wish.must_pull or configuration.runner_pull_policy == "always":
        return None
    reference, image_id = wish.current
    image = engine.images.find(image_id)
    return None if image is None else ChosenImage(reference, image)


def _configured(engine: Engine, configuration: Configuration, must_pull: bool, bring: Bringer) -> ChosenImage:
    text = wanted_reference(configuration)
    try:
        reference = ImageReference.parse(text)
    except ValueError as error:
        raise ConfigurationError(configuration.sources["runner.image"], str(error)) from error
    policy = "always" if must_pull else configuration.runner_pull_policy
    found = None if policy == "always" else find_image(engine, reference)
    if found is not None:
        chosen = ChosenImage(text, found)
        _verify_present(chosen, configuration, bring)
        return chosen
    # A name that somebody set is that image or none.
    is_ours = configuration.runner_image is None and not must_pull
    can_be_local = is_ours and configuration.runner_verify != "require"
    if policy == "never":
        if can_be_local and (built := find_local_build(engine)) is not None:
            return ChosenImage(*built)
        raise ImageUnavailable(
            f"could not start the runner: the image {text!r} is not here, and `runner.pullPolicy` is never",
            "run `stigmer runner pull`",
            can_retry=False,
            has_none=True,
        )
    try:
        return ChosenImage(text, bring(engine, reference))
    except _NOT_TO_BE_HAD:
        if can_be_local and (built := find_local_build(engine)) is not None:
            return ChosenImage(*built)
        raise


def _parse(reference: str) -> ImageReference | None:
    try:
        return ImageReference.parse(reference)
    except ValueError:  # an id, or `<none>@<none>`
        return None


def _refuse_unverifiable(wish: ImageWish) -> None:
    if wish.archive is not None:
        raise refuse_unverifiable(str(wish.archive), "it is an archive")
    if wish.use_local_image:
        raise refuse_unverifiable("dev-local", "it was built on this machine")
    if wish.loaded is not None:
        raise refuse_unverifiable(wish.loaded[0], "it came from an archive")


def _verify_present(chosen: ChosenImage, configuration: Configuration, bring: Bringer) -> None:
    """What is pulled is verified before; what is here already only where that is required."""
    if configuration.runner_verify == "require":
        bring.verify_present(ImageReference.parse(chosen.reference), chosen.digests)


def find_image(engine: Engine, reference: ImageReference) -> Image | None:
    """By digest, else by tag: what was loaded from an archive has lost its digest."""
    found = engine.images.find(str(replace(reference, tag=None))) if reference.digest else None
    if found is None and reference.tag is not None:
        found = engine.images.find(str(replace(reference, digest=None)))
    return found


def _local_build(engine: Engine, reference: str | None) -> ChosenImage:
    """What `--use-local-image` chooses."""
    if reference is None:
        return ChosenImage(*require_local_build(engine))
    image = engine.images.find(reference)
    if image is None:
        raise ImageUnavailable(
            f"could not find the image {reference!r} of `--use-local-image` in {engine.traits.title}",
            f"see `{engine.traits.kind} images`; without a name it is the build of this checkout",
            can_retry=False,
        )
    return ChosenImage(reference, image)


def _loaded_earlier(engine: Engine, reference: str, image_id: str) -> ChosenImage:
    image = engine.images.find(image_id)
    if image is None:
        raise ImageUnavailable(
            f"could not start the runner: the image {reference!r}, which was loaded from an archive, "
            f"is not in {engine.traits.title} any more",
            "run `stigmer server start --image-archive FILE`, or without it to use another image",
            can_retry=False,
        )
    return ChosenImage(reference, image)


def _loaded_now(engine: Engine, archive: Path) -> ChosenImage:
    """What an archive holds. Where that is not fit, it is removed, and names that it took are given back."""
    ids, named = engine.images.ids(), engine.images.list_images({})
    chosen = _require(engine, engine.images.load(archive))
    try:
        check_image(chosen, engine)
    except ImageIncompatible:
        if chosen.image.image_id not in ids:
            engine.images.remove(chosen.image)
            for image in named:
                for tag in {*image.tags} & {*chosen.image.tags}:
                    engine.images.add_tag(image, ImageReference.parse(tag))
        raise
    return chosen


def _require(engine: Engine, reference: str) -> ChosenImage:
    image = engine.images.find(reference)
    if image is None:
        raise ImageNotFound(reference, "it was loaded, and is gone")
    return ChosenImage(image.tags[0] if image.tags else reference, image)


def check_image(chosen: ChosenImage, engine: Engine) -> None:
    """Whether it is a runner that goes with this command line and this engine.

    Raises:
        ImageIncompatible: it is not.
    """
    check_labels(chosen.reference, chosen.image.labels)
    architecture = chosen.image.architecture
    if architecture != engine.traits.architecture:
        raise ImageIncompatible(
            f"could not start the runner: the image {chosen.reference!r} is for {architecture}, "
            f"and this engine runs {engine.traits.architecture}",
            "use an image for this architecture",
        )


def check_labels(reference: str, labels: Mapping[str, str]) -> None:
    """Whether an image says that it is a runner, of a version that goes with this command line.

    Raises:
        ImageIncompatible: it does not.
    """
    ours, theirs = program_version(), labels.get(VERSION_LABEL)
    if labels.get(TITLE_LABEL) != TITLE or theirs is None:
        raise ImageIncompatible(
            f"could not start the runner: the image {reference!r} is no agent-runner",
            "set `runner.image` to an agent-runner's image, or unset it",
        )
    if not is_compatible(ours, theirs):
        raise ImageIncompatible(
            f"could not start the runner: the image {reference!r} is version {theirs}, "
            f"which does not go with stigmer {ours}",
            f"use {release_reference(ours)}, or install stigmer {theirs}",
        )
