"""Which tags an image gets: pure rules on an event and what is released already.

`X.Y.Z` never moves once it is there; `X.Y`, `X` and `latest` only move forwards.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import assert_never

from stigmer_release.versions import Version

_COMMIT_DIGITS = 12


@dataclass(frozen=True)
class PullRequest:
    """A proposal: built and tested, never pushed."""


@dataclass(frozen=True)
class PushToMain:
    """The main branch has moved on."""

    commit: str
    """Its full SHA-1."""


@dataclass(frozen=True)
class TagPushed:
    """A version was tagged."""

    version: Version


@dataclass(frozen=True)
class PushedByHand:
    """A person pushes a version with the runner's Makefile."""

    version: Version


Event = PullRequest | PushToMain | TagPushed | PushedByHand


@dataclass(frozen=True)
class ImageTags:
    """The tags of one image. All are set after its smoke test."""

    fixed: tuple[str, ...] = ()
    """Name this image for ever."""
    moving: tuple[str, ...] = ()
    """Go on to the next image; `latest` last, so that whoever follows it finds the others in place."""

    def before_packages(self, event: Event) -> tuple[str, ...]:
        """Those that can be set as soon as the image is tried: of a release, what no later one takes over.

        Whoever follows `latest` wants the packages, too, which are published after the image.
        """
        return self.fixed if isinstance(event, TagPushed) else self.all

    @property
    def all(self) -> tuple[str, ...]:
        """In the order in which they are set."""
        return self.fixed + self.moving


def image_tags(event: Event, released: Collection[Version]) -> ImageTags:
    """The tags for what an event built. `released`: the versions in the registry, this one or not."""
    match event:
        case PullRequest():
            return ImageTags()
        case PushToMain(commit):
            return ImageTags((f"dev-{commit[:_COMMIT_DIGITS]}",), ("main",))
        case TagPushed(version):
            return ImageTags((version.git_tag, str(version)), _moving_tags(version, released))
        case PushedByHand(version):
            return ImageTags((str(version),), _moving_tags(version, released))
        case _:
            assert_never(event)


def _moving_tags(version: Version, released: Collection[Version]) -> tuple[str, ...]:
    if not version.is_release:
        return ()
    newer = [other for other in released if other.is_release and other > version]
    moving: list[str] = []
    if not any((other.major, other.minor) == (version.major, version.minor) for other in newer):
        moving.append(f"{version.major}.{version.minor}")
    if not any(other.major == version.major for other in newer):
        moving.append(str(version.major))
    if not newer:
        moving.append("latest")
    return tuple(moving)
