"""What a person reads where an agent changed files that other programs execute later."""

from stigmer_contract.events import WorkspaceWarned


def describe_warning(event: WorkspaceWarned) -> str:
    """One line that names the files, and says what became of them."""
    parts = list[str]()
    if event.files:
        parts.append(f"the agent changed files that other programs execute: {', '.join(event.files)}")
    if event.moved_aside:
        parts.append(f"moved aside, as other programs would execute them: {', '.join(event.moved_aside)}")
    if event.further:
        parts.append(f"and {event.further} more")
    if not event.is_whole:
        parts.append("not all of the workspace was looked at")
    return f"{'; '.join(parts)}. Look at them before you work in that directory"
