"""Snapshots of files, in words."""

from collections.abc import Mapping
from datetime import UTC, datetime

from pydantic import JsonValue

from stigmer_cli.rendering.quantities import format_bytes, plural
from stigmer_cli.rendering.tables import print_table
from stigmer_contract.events import SnapshotTaken
from stigmer_contract.snapshots import DirectoryEntry, Entry, FileEntry, LinkEntry

SHOWN_LEFT_OUT = 3


def describe_snapshot(event: SnapshotTaken) -> str:
    """One snapshot in a line."""
    changed = plural(event.changed, "path") + " changed" if event.changed else "nothing changed"
    parts = [f"files kept: {changed}, {event.entries:,} in all, {format_bytes(event.size_bytes)}"]
    left_out = len(event.left_out) + event.further_left_out
    if left_out:
        more = f" and {left_out - SHOWN_LEFT_OUT} more" if left_out > SHOWN_LEFT_OUT else ""
        parts.append(f"left out: {', '.join(event.left_out[:SHOWN_LEFT_OUT])}{more}")
    if event.unsettled:
        parts.append(f"{plural(event.unsettled, 'file')} changed while they were read")
    return "; ".join(parts)


def print_entries(entries: Mapping[str, Entry]) -> None:
    """Writes a table of what is at each path to stdout."""
    print_table(
        ["MODE", "SIZE", "CHANGED", "PATH"],
        [_row(path, entry) for path, entry in sorted(entries.items()) if path],
        long="PATH",
        empty="no files",
    )


def entry_json(path: str, entry: Entry) -> dict[str, JsonValue]:
    """One path as JSON; a byte that is no UTF-8 stands as `\\xNN`."""
    name = shown(path)
    match entry:
        case FileEntry():
            return {
                "path": name,
                "type": "file",
                "mode": f"{entry.mode:04o}",
                "mtime_ns": entry.mtime_ns,
                "size": entry.size,
                "sha256": entry.sha256,
            }
        case DirectoryEntry():
            return {
                "path": name,
                "type": "directory",
                "mode": f"{entry.mode:04o}",
                "mtime_ns": entry.mtime_ns,
            }
        case LinkEntry():
            return {"path": name, "type": "link", "mtime_ns": entry.mtime_ns, "target": shown(entry.target)}


def _row(path: str, entry: Entry) -> list[str]:
    changed = f"{datetime.fromtimestamp(entry.mtime_ns / 1e9, UTC):%Y-%m-%d %H:%M:%S}"
    match entry:
        case FileEntry():
            return [f"{entry.mode:04o}", f"{entry.size:,}", changed, shown(path)]
        case DirectoryEntry():
            return [f"{entry.mode:04o}", "", changed, f"{shown(path)}/"]
        case LinkEntry():
            return ["", "", changed, f"{shown(path)} -> {shown(entry.target)}"]


def shown(name: str) -> str:
    """A path as text; a byte that is no UTF-8 stands as `\\xNN`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
