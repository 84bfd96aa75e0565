"""Tools as a person reads them. Names and descriptions of MCP servers are untrusted; tables are sanitised."""

from stigmer_cli.output import print_note
from stigmer_cli.rendering.tables import print_table
from stigmer_contract.inspections import InspectionReport, ShownTool


def print_tools(report: InspectionReport) -> None:
    """The tools as a table; to stderr what servers could not be asked, and what all take together."""
    rows = [
        [
            _own_name(tool),
            str(tool.tokens),
            _effects(tool),
            "; ".join(tool.approval) or "allow",
            tool.description.strip().split("\n")[0],
        ]
        for tool in report.tools
    ]
    print_table(
        ["TOOL", "TOKENS", "CHANGES", "APPROVAL", "DESCRIPTION"],
        rows,
        long="DESCRIPTION",
        optional=["APPROVAL"],
        empty="no tools",
    )
    for server in report.servers:
        if server.error is not None:
            print_note(f"MCP server {server.server}: {server.error}")
        for name, why in server.left_out.items():
            print_note(f"MCP server {server.server}: tool {name!r} is left out: {why}")
    if report.tools:
        total = sum(tool.tokens for tool in report.tools)
        print_note(f"{len(report.tools)} tools take some {total} tokens of each request")


def _own_name(tool: ShownTool) -> str:
    return f"{tool.toolset}/{tool.tool}"


def _effects(tool: ShownTool) -> str:
    if not tool.side_effects:
        return "nothing"
    return "may repeat" if tool.may_repeat else "yes"
