"""The images that are published: where, under which tags, and what builds and tries them."""

from dataclasses import dataclass
from enum import StrEnum

from stigmer_release.tag_rules import ImageTags


class ImageName(StrEnum):
    """What the workflow calls them; also the names of their directories and of what is said of them."""

    RUNNER = "agent-runner"
    FULL = "agent-runner-full"
    SERVER = "stigmer-server"


@dataclass(frozen=True)
class PublishedImage:
    """One of them."""

    repository: str
    """Its last part."""
    service: str
    """The folder under `backend/services` whose Dockerfile it is built by."""
    variant: str
    """The stage of the Dockerfile; empty: the last one."""
    test: str
    """What a pushed one has to pass, in pytest's words, without the engine."""
    test_variable: str
    """By which that test is told which image."""

    @property
    def suffix(self) -> str:
        """Of its tags."""
        return f"-{self.variant}" if self.variant else ""

    def name_tags(self, tags: ImageTags) -> ImageTags:
        """Its own tags for those of its event. A variant has none that move: who wants it names a version."""
        if not self.suffix:
            return tags
        return ImageTags(tuple(f"{tag}{self.suffix}" for tag in tags.fixed))


_RUNNER_TEST = (
    "backend/services/agent-runner/tests/image/test_running_image.py::"
    "test_it_runs_an_agent_to_the_end_as_the_person_who_started_it"
)
_SERVER_TEST = (
    "backend/services/agent-runner/tests/image/test_server_image.py::"
    "test_it_serves_the_console_and_runs_an_agent_to_its_end"
)

PUBLISHED_IMAGES = {
    ImageName.RUNNER: PublishedImage("agent-runner", "agent-runner", "", _RUNNER_TEST, "STIGMER_TEST_IMAGE"),
    ImageName.FULL: PublishedImage(
        "agent-runner", "agent-runner", "full", _RUNNER_TEST, "STIGMER_TEST_IMAGE"
    ),
    ImageName.SERVER: PublishedImage(
        "stigmer-server", "stigmer-server", "", _SERVER_TEST, "STIGMER_TEST_SERVER_IMAGE"
    ),
}
