"""Sets the tags of an image that was pushed by digest and has passed its smoke tests."""

from collections.abc import Callable

from stigmer_release.errors import AlreadyReleased, RegistryRefused
from stigmer_release.registry import Manifest, Repository
from stigmer_release.tag_rules import Event, ImageTags, image_tags
from stigmer_release.versions import versions_among

Report = Callable[[str], None]


def planned_tags(repository: Repository, event: Event) -> ImageTags:
    """The tags that the event's image gets, as the registry stands now."""
    return image_tags(event, versions_among(repository.tags()))


def promote(repository: Repository, event: Event, digest: str, report: Report) -> ImageTags:
    """Sets them; doing it again changes nothing.

    Raises:
        AlreadyReleased: a version's tag is on another image.
        RegistryRefused: the image is not there, or the registry refuses.
    """
    image = repository.manifest(digest)
    if image is None:
        raise RegistryRefused(f"{repository.name} has no {digest}", "push it first")
    tags = planned_tags(repository, event)
    for tag in tags.fixed:
        _check_free(repository, tag, image)
    for tag in tags.all:
        repository.put_manifest(image, tag)
        report(f"{repository.name}:{tag} is {digest}")
    return tags


def _check_free(repository: Repository, tag: str, image: Manifest) -> None:
    present = repository.manifest(tag)
    if present is not None and present.digest != image.digest:
        raise AlreadyReleased(
            f"{repository.name}:{tag} is {present.digest}, and not {image.digest}",
            "what is released never changes: release the next patch",
        )
