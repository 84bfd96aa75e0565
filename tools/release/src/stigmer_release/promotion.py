"""Sets the tags of an image that was pushed by digest and has passed its smoke tests."""

from collections.abc import Callable, Collection
from typing import Final

from stigmer_release.errors import AlreadyReleased, RegistryRefused
from stigmer_release.published_images import PublishedImage
from stigmer_release.registry import Manifest, Repository
from stigmer_release.tag_rules import Event, ImageTags, PushedByHand, image_tags
from stigmer_release.versions import Version, versions_among

Report = Callable[[str], None]
_NEVER_CHANGES: Final = "what is released never changes: release the next patch"


def planned_tags(repository: Repository, event: Event) -> ImageTags:
    """The tags that the event's image gets, as the registry stands now."""
    return image_tags(event, versions_among(repository.tags()))


def promote(
    repository: Repository,
    published: PublishedImage,
    event: Event,
    digest: str,
    report: Report,
    *,
    are_packages_published: bool = False,
) -> tuple[str, ...]:
    """Sets those that are due, and answers them; doing it again changes nothing.

    Raises:
        AlreadyReleased: a version's tag is on another image.
        RegistryRefused: the image is not there, or the registry refuses.
    """
    image = repository.manifest(digest)
    if image is None:
        raise RegistryRefused(f"{repository.name} has no {digest}", "push it first")
    tags = published.name_tags(planned_tags(repository, event))
    for tag in tags.fixed:
        _check_free(repository, tag, image)
    due = tags.all if are_packages_published else tags.before_packages(event)
    for tag in due:
        repository.put_manifest(image, tag)
        report(f"{repository.name}:{tag} is {digest}")
    return due


def tags_by_hand(repository: Repository, version: Version, image_ids: Collection[str]) -> ImageTags:
    """The tags that an engine is to push a version under; `image_ids`: what the engine calls its images.

    Raises:
        AlreadyReleased: the version's tag is on another image.
        RegistryRefused: the registry refuses.
    """
    tags = planned_tags(repository, PushedByHand(version))
    present = repository.manifest(str(version))
    if present is not None and not set(image_ids) <= _ids(repository, present):
        raise AlreadyReleased(
            f"{repository.name}:{version} is another image, {present.digest}", _NEVER_CHANGES
        )
    return tags


def _ids(repository: Repository, manifest: Manifest) -> set[str]:
    """What engines may call the images of a manifest: by its configuration (Docker, Podman), or by its digest
    (Docker with containerd's store)."""
    entries = manifest.document.get("manifests")
    if entries is None:
        return {manifest.digest, str(manifest.document["config"]["digest"])}
    images = [repository.manifest(str(entry["digest"])) for entry in entries]
    return {manifest.digest}.union(*(_ids(repository, image) for image in images if image is not None))


def _check_free(repository: Repository, tag: str, image: Manifest) -> None:
    present = repository.manifest(tag)
    if present is not None and present.digest != image.digest:
        raise AlreadyReleased(
            f"{repository.name}:{tag} is {present.digest}, and not {image.digest}",
            _NEVER_CHANGES,
        )
