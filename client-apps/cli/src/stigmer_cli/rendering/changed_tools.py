"""What a person reads where an MCP server offers other tools than those that were pinned."""

from stigmer_contract.events import ToolsChanged


def describe_changed_tools(event: ToolsChanged) -> str:
    """One line that names them, and says what becomes of calls. The names are the server's: untrusted."""
    parts = [
        f"{what}: {', '.join(names)}"
        for what, names in (("changed", event.changed), ("new", event.added), ("gone", event.removed))
        if names
    ]
    line = f"MCP server {event.server} offers other tools than were pinned ({'; '.join(parts)})"
    if event.refused and event.changed:
        return f"{line}; those that changed are refused until `stigmer apply --accept-tools`"
    return line
