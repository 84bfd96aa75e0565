"""The words for how far commands are held in, each closed set once, for manifest, API, settings, metrics."""

from typing import Final, Literal, TypeAlias, get_args

Network: TypeAlias = Literal["none", "web", "all"]
"""What commands may reach: nothing, HTTPS (TCP port 443 and name resolution over TCP), or everything."""
IsolationLevel: TypeAlias = Literal["full", "good", "partial", "weak", "none"]
"""From best to worst; below `partial` sessions are not isolated from each other."""
IsolationSetting: TypeAlias = Literal["require", "warn", "off"]
"""`STIGMER_ISOLATION`; with `require`, commands are refused below `partial`."""

ISOLATION_LEVELS: Final[tuple[IsolationLevel, ...]] = get_args(IsolationLevel)
ENOUGH: Final[tuple[IsolationLevel, ...]] = ("full", "good", "partial")
"""Levels at which sessions are isolated from each other."""

FORMER_VARIABLES: Final = {
    f"STIGMER_SANDBOX{end}": f"STIGMER_ISOLATION{end}"
    for end in ("", "_READ_PATHS", "_WEB_PORTS", "_PROXY", "_PROCESSES", "_MEMORY_MB", "_DISK_MB")
}
"""What the variables about isolation were called until November 2026, with their names of today: who set
`require` then must not be held to less, or to nothing, in silence."""
