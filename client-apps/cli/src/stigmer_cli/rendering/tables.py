"""Lists as tables: plain aligned text, its header bold on a terminal, and no wider than that."""

from collections.abc import Sequence

from stigmer_cli.output import has_colour, is_terminal, sanitize
from stigmer_cli.rendering.cells import cell_width, pad, shorten

MIN_LONG_COLUMN = 16
"""So wide a column of long texts stays while others can be left out."""
_GAP = 2
_MIN_WIDTH = 9
"""Of a column that is cut although it matters, where nothing else is left."""

Cells = list[list[str]]


def format_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    bold_header: bool,
    width: int | None = None,
    long: str | None = None,
    optional: Sequence[str] = (),
) -> str:
    """Columns as wide as their widest cell, two spaces apart; no space at line ends.

    Args:
        width: columns of the terminal; None: as wide as it comes.
        long: title of the column that is cut where there is too little room.
        optional: titles of columns that are left out where that is not enough, the first first.
    """
    cells = [
        [sanitize(cell).replace("\n", " ").replace("\t", " ") for cell in row] for row in [header, *rows]
    ]
    if width is not None:
        cells = _fit(cells, width, long, optional)
    widths = _widths(cells)
    lines = [
        "  ".join(pad(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    ]
    if bold_header:
        lines[0] = f"\x1b[1m{lines[0]}\x1b[0m"
    return "\n".join(lines)


def print_owned_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    owners: Sequence[str],
    *,
    empty: str,
    long: str | None = None,
    optional: Sequence[str] = (),
) -> None:
    """As `print_table`, with a column of the rows' owners where there is more than one."""
    if len(set(owners)) > 1:
        header = [*header, "OWNER"]
        rows = [[*row, owner] for row, owner in zip(rows, owners, strict=True)]
    print_table(header, rows, empty=empty, long=long, optional=optional)


def print_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    empty: str,
    long: str | None = None,
    optional: Sequence[str] = (),
) -> None:
    """Writes a table to stdout; of an empty one a word to stderr, so that a program reads nothing.

    On a terminal it is as wide as that at most, where it has a `long` column; see `format_table`.
    """
    import shutil
    import sys

    from stigmer_cli.output import print_note, write_stdout

    if not rows:
        print_note(empty)
        return
    width = shutil.get_terminal_size().columns if is_terminal(sys.stdout) else None
    bold = has_colour(sys.stdout)
    table = format_table(header, rows, bold_header=bold, width=width, long=long, optional=optional)
    write_stdout(table + "\n")


def _fit(cells: Cells, width: int, long: str | None, optional: Sequence[str]) -> Cells:
    for title in optional:
        if _least_width(cells, long) <= width:
            break
        cells = _without(cells, title)
    if long is None:
        return cells
    if long in cells[0]:
        cells = _narrowed(cells, cells[0].index(long), width, len(long))
    widths = _widths(cells)
    return _narrowed(cells, widths.index(max(widths)), width, _MIN_WIDTH)


def _narrowed(cells: Cells, place: int, width: int, least: int) -> Cells:
    """With one column cut to what the others leave of the width, or to `least`."""
    widths = _widths(cells)
    room = width - sum(widths) - _GAP * (len(widths) - 1) + widths[place]
    kept = max(least, room)
    return [[*row[:place], shorten(row[place], kept), *row[place + 1 :]] for row in cells]


def _least_width(cells: Cells, long: str | None) -> int:
    widths = _widths(cells)
    if long in cells[0]:
        place = cells[0].index(long)
        widths[place] = min(widths[place], MIN_LONG_COLUMN)
    return sum(widths) + _GAP * (len(widths) - 1)


def _without(cells: Cells, title: str) -> Cells:
    place = cells[0].index(title)
    return [[*row[:place], *row[place + 1 :]] for row in cells]


def _widths(cells: Cells) -> list[int]:
    return [max(cell_width(row[column]) for row in cells) for column in range(len(cells[0]))]
