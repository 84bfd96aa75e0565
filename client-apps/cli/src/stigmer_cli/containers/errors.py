"""What can go wrong with engines, images and containers; typed, so that nobody reads messages.

ContainersError
├── EngineUnusable              no work is possible with this engine
│   ├── EngineNotInstalled      neither its program nor its socket is there
│   ├── EngineNotRunning        it is installed, and nobody answers at its socket
│   │   └── EngineSilent        somebody is at its socket, and does not answer as an engine should
│   ├── EngineNoPermission      its socket is there, and this user may not use it
│   ├── EngineAddressWrong      what a variable or a context names is no address of an engine
│   ├── EngineTooOld            its API is older than what is needed
│   └── EngineRemote            it runs on another machine, whose files are not ours
├── EngineRefused               it answered a call with an error that has no class of its own
├── EngineGone                  the connection to it broke during a call; a retry can help
├── ContainerNotFound           there is no such container
├── NameTaken                   another container has the name
├── MountRefused                a directory cannot be mounted into a container
└── ImageError                  carries the reference
    ├── ImageNotFound           no such image, here or in the registry
    ├── RegistryDenied          the registry wants a login, or another one
    ├── RegistryUnreachable     the registry does not answer, or the connection broke; a retry can help
    ├── RegistryUntrusted       the registry's certificate is signed by an authority that is not known
    ├── RateLimited             the registry has had enough for now; a retry can help, later
    ├── DiskFull                there is no room for the image
    ├── ArchiveUnusable         the file is no image archive
    └── PullFailed              any other reason
"""


class ContainersError(Exception):
    """Any failure of this package."""

    can_retry = False
    """Whether the same call may succeed later, without anybody changing anything."""


class EngineUnusable(ContainersError):
    """The engine cannot be used. `reason` is a clause such as `nobody answers at /var/run/docker.sock`."""

    def __init__(self, engine: str, reason: str, remedy: str) -> None:
        super().__init__(f"could not use {engine}: {reason}")
        self.engine = engine
        self.reason = reason
        self.remedy = remedy
        """What to do on this platform, as an imperative sentence."""


class EngineNotInstalled(EngineUnusable):
    """Neither its program nor its socket is there."""


class EngineNotRunning(EngineUnusable):
    """It is installed, and nobody answers."""


class EngineSilent(EngineNotRunning):
    """Somebody is at its socket who does not answer, or not as an engine does."""


class EngineNoPermission(EngineUnusable):
    """This user may not open its socket."""


class EngineAddressWrong(EngineUnusable):
    """A variable or a context names no address, or there is no such context."""


class EngineTooOld(EngineUnusable):
    """Its API lacks calls that are needed."""


class EngineRemote(EngineUnusable):
    """It runs on another machine."""


class EngineRefused(ContainersError):
    """The engine answered with an error. `said` is its own text."""

    def __init__(self, what: str, status: int, said: str) -> None:
        super().__init__(f"could not {what}: the engine answered {status}: {said}")
        self.what = what
        self.status = status
        self.said = said


class EngineGone(ContainersError):
    """The connection to the engine broke during a call."""

    can_retry = True

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"could not {what}: the connection to the engine broke: {reason}")
        self.what = what
        self.reason = reason


class ContainerNotFound(ContainersError):
    """There is no such container, or not any more."""

    def __init__(self, container: str) -> None:
        super().__init__(f"there is no container {container!r}")
        self.container = container


class NameTaken(ContainersError):
    """Another container has the name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"could not create the container: the name {name!r} is taken")
        self.name = name


class MountRefused(ContainersError):
    """A directory cannot be mounted."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"could not mount {source!r}: {reason}")
        self.source = source
        self.reason = reason


class ImageError(ContainersError):
    """An image cannot be had. `said` is what the engine or the registry said."""

    problem = "it failed"

    def __init__(self, reference: str, said: str) -> None:
        super().__init__(f"could not get the image {reference!r}: {self.problem}: {said}")
        self.reference = reference
        self.said = said


class ImageNotFound(ImageError):
    """There is no such image."""

    problem = "not found"


class RegistryDenied(ImageError):
    """The registry wants a login, or another one."""

    problem = "the registry gives no access"


class RegistryUnreachable(ImageError):
    """The registry does not answer, or the connection broke."""

    problem = "the registry cannot be reached"
    can_retry = True


class RegistryUntrusted(ImageError):
    """The registry's certificate does not hold: mostly an authority that is not known here."""

    problem = "the registry's certificate is not trusted"


class RateLimited(ImageError):
    """The registry has had enough for now."""

    problem = "the registry limits how often it may be asked"
    can_retry = True


class DiskFull(ImageError):
    """There is no room for the image."""

    problem = "the disk of the engine is full"


class ArchiveUnusable(ImageError):
    """The file holds no image that the engine can load."""

    problem = "the archive cannot be loaded"


class PullFailed(ImageError):
    """A reason that is not known here."""
