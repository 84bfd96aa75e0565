"""Lists as tables: plain aligned text, its header bold on a terminal."""

from collections.abc import Sequence

from stigmer_cli.output import has_colour, sanitize
from stigmer_cli.rendering.cells import cell_width, pad


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, bold_header: bool) -> str:
    """Columns as wide as their widest cell, two spaces apart; no space at line ends."""
    cells = [
        [sanitize(cell).replace("\n", " ").replace("\t", " ") for cell in row] for row in [header, *rows]
    ]
    widths = [max(cell_width(row[column]) for row in cells) for column in range(len(header))]
    lines = [
        "  ".join(pad(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    ]
    if bold_header:
        lines[0] = f"\x1b[1m{lines[0]}\x1b[0m"
    return "\n".join(lines)


def print_owned_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], owners: Sequence[str], *, empty: str
) -> None:
    """As `print_table`, with a column of the rows' owners where there is more than one."""
    if len(set(owners)) > 1:
        header = [*header, "OWNER"]
        rows = [[*row, owner] for row, owner in zip(rows, owners, strict=True)]
    print_table(header, rows, empty=empty)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str) -> None:
    """Writes a table to stdout; of an empty one a word to stderr, so that a program reads nothing."""
    import sys

    from stigmer_cli.output import print_note, write_stdout

    if not rows:
        print_note(empty)
        return
    write_stdout(format_table(header, rows, bold_header=has_colour(sys.stdout)) + "\n")
