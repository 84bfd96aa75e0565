"""What a run of the workflow does: which version it builds, which tags it sets, whether it pushes at all."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from stigmer_release.errors import WrongVersion
from stigmer_release.tag_rules import Event, ImageTags, PullRequest, PushToMain, TagPushed
from stigmer_release.versions import Version

EventName = Literal["pull_request", "push", "workflow_dispatch"]
_TAG = "refs/tags/"


@dataclass(frozen=True)
class Trigger:
    """Why the workflow runs, as GitHub says."""

    event_name: str
    ref: str
    commit: str
    tag: str = ""
    """Of a dry run by hand: the tag to pretend; empty: what a push to main would do."""


def event_of(trigger: Trigger) -> Event:
    """The event for the rules of tags. A dry run by hand is the event that it pretends.

    Raises:
        WrongVersion: a tag that is no version.
    """
    match trigger.event_name:
        case "pull_request":
            return PullRequest()
        case "workflow_dispatch":
            return TagPushed(Version.of_git_tag(trigger.tag)) if trigger.tag else PushToMain(trigger.commit)
        case "push" if trigger.ref.startswith(_TAG):
            return TagPushed(Version.of_git_tag(trigger.ref.removeprefix(_TAG)))
        case "push" if trigger.ref == "refs/heads/main":
            return PushToMain(trigger.commit)
        case _:
            raise WrongVersion(f"nothing is built for {trigger.event_name} of {trigger.ref!r}")


def outputs(trigger: Trigger, tags: ImageTags, base_images: Mapping[str, str]) -> dict[str, str]:
    """What later jobs are told, by name."""
    event = event_of(trigger)
    is_pushed = trigger.event_name == "push"
    is_version = isinstance(event, TagPushed)
    version = str(event.version) if isinstance(event, TagPushed) else f"dev-{trigger.commit[:12]}"
    return {
        "version": version,
        "push": str(is_pushed).lower(),
        "release": str(is_pushed and is_version).lower(),
        "prerelease": str(isinstance(event, TagPushed) and not event.version.is_release).lower(),
        "tags": " ".join(tags.all),
        **{name.lower().replace("_", "-"): reference for name, reference in base_images.items()},
    }
