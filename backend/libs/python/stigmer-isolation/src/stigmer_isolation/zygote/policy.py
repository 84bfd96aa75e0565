"""What one command may use, as the launcher sends it to the zygote. Decides nothing and applies nothing."""

from typing import Any, Literal, NamedTuple, TypeAlias

Network: TypeAlias = Literal["none", "web", "all"]
SharedMemory: TypeAlias = Literal["own", "given", "either"]


class Policy(NamedTuple):
    """Paths are absolute; what does not exist is skipped."""

    landlock_abi: int = 0
    """The version of Landlock to use; 0: none."""
    has_seccomp: bool = False
    network: Network = "none"
    """`web` is TCP to `ports` only, and needs Landlock 4."""
    ports: tuple[int, ...] = ()
    readable: tuple[str, ...] = ()
    """Files and directory trees to read."""
    executable: tuple[str, ...] = ()
    """Directory trees to read and execute from."""
    devices: tuple[str, ...] = ()
    """Files to read and write."""
    shared_memory: SharedMemory = "own"
    """What a command finds as /dev/shm: `own`, which nobody else has, or none where that cannot be mounted;
    `given`, what is there; `either`: its own, else what is there."""
    writable: tuple[str, ...] = ()
    """Directory trees for everything, besides the directory the command starts in."""
    pinned: tuple[str, ...] = ()
    """Directories beneath the one the command starts in, relative to it, that stay where they are. This and
    `sealed` hold where commands can have mounts of their own."""
    sealed: tuple[str, ...] = ()
    """The same; and nothing in them can be changed."""
    protected: tuple[int, ...] = ()
    """Pids and process groups not to be signalled, where Landlock does not see to that."""
    processes: int | None = None
    """Of the whole user, as the kernel counts them."""
    session_processes: int | None = None
    """Of all commands that start in one directory, as the zygote counts them."""
    memory_bytes: int | None = None
    file_bytes: int | None = None

    @staticmethod
    def of_request(values: dict[str, Any]) -> "Policy":
        """Read what `to_request` wrote."""
        return Policy(*values.values())

    def to_request(self) -> dict[str, Any]:
        """As values that JSON knows, in the order of the fields."""
        return self._asdict()
