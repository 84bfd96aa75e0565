"""The kinds of things that an execution waits for: `waits`, without what takes time to import."""

from enum import StrEnum


class WaitKind(StrEnum):
    """What is waited for."""

    APPROVAL = "approval"
    """A person decides whether a call may run."""
    ANSWER = "answer"
    """A person answers a question."""
    CHILD = "child"
    """Another execution ends."""
    MESSAGE = "message"
    """Somebody says something to the execution."""
    TIME = "time"
    """A moment comes."""
    MODEL = "model"
    """A model that is away is to be asked again."""
    SUBMITTED = "submitted"
    """A request that was handed in is to be collected."""
    PAUSE = "pause"
    """Somebody who paused the execution resumes it."""
