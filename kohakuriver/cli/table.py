"""Rows as aligned text. Knows widths of characters and of the terminal, nothing of what the rows mean."""

from collections.abc import Callable, Sequence

from kohakuriver.cli.clean import clean

GAP = "  "
#: a column is never cut below this
NARROWEST = 8
#: no terminal below this is honoured: nothing readable fits
LEAST_WIDTH = 20


def draw(
    titles: Sequence[str] | None,
    rows: Sequence[Sequence[str]],
    *,
    width: int | None = None,
    paint: Callable[[int, str], str] = lambda _column, text: text,
) -> list[str]:
    """The lines, `titles` first. Cells are cleaned; with `width` the widest columns are cut, last ones first.

    `paint` is given each cell of the rows, ready and padded, with the number of its column.
    """
    lines = [[clean(cell) for cell in row] for row in ([titles] if titles else []) + list(rows)]
    if not lines:
        return []
    widths = [max(map(cells, column)) for column in zip(*lines, strict=True)]
    if width is not None and width >= LEAST_WIDTH:
        _narrow(widths, width)
    fitted = [[_fit(cell, size) for cell, size in zip(line, widths, strict=True)] for line in lines]
    heads = 1 if titles else 0
    painted = fitted[:heads] + [[paint(i, cell) for i, cell in enumerate(line)] for line in fitted[heads:]]
    return [GAP.join(line).rstrip() for line in painted]


def cells(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def _narrow(widths: list[int], width: int) -> None:
    """Take columns from the widest until the line fits, or nothing can be taken."""
    excess = sum(widths) + len(GAP) * (len(widths) - 1) - width
    while excess > 0:
        widest = max(range(len(widths)), key=lambda i: (widths[i], i))
        second = max((w for i, w in enumerate(widths) if i != widest), default=0)
        take = min(excess, widths[widest] - max(NARROWEST, second - 1))
        if take <= 0:
            return
        widths[widest] -= take
        excess -= take


def _fit(text: str, size: int) -> str:
    taken = cells(text)
    if taken <= size:
        return text + " " * (size - taken)
    kept, used = "", 0
    for character in text:
        more = cells(character)
        if used + more > size - 1:
            break
        kept += character
        used += more
    return f"{kept}~" + " " * (size - 1 - used)
