"""Tables of text on a terminal, in Markdown and in LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.table import Table
from rich.text import Text

__all__ = ["Piece", "TextTable", "escape_markdown", "to_latex", "to_markdown", "to_rich"]


@dataclass(frozen=True)
class Piece:
    """The content of one cell.

    Attributes
    ----------
    text : str
    place : int
        1 for the best of its column, 2 for the second, 0 for all others.
    """

    text: str
    place: int = 0


@dataclass(frozen=True)
class TextTable:
    """A table that is ready to be shown.

    Attributes
    ----------
    title : str
    columns : sequence of str
        Headings; the first column holds names, the others numbers.
    rows : sequence of sequence of Piece
    notes : sequence of str
        Sentences to stand below it.
    separated : int
        After how many rows there is a line: teachers stand above it.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Piece]]
    notes: Sequence[str] = ()
    separated: int = field(default=0)


def to_rich(table: TextTable) -> Group:
    """Return a table for a terminal, its notes below it.

    If the terminal is too narrow for all columns, they are split into several parts, each with the names: a number is
    never cut.
    """
    notes = (Text(note, style="dim") for note in table.notes)
    return Group(Text(table.title, style="bold"), _Fitted(table), *notes, Text(""))


class _Fitted:
    """The table, split into parts that fit the width."""

    def __init__(self, table: TextTable) -> None:
        self.table = table
        entries = [[row[i].text for row in table.rows] for i in range(len(table.columns))]
        # Headings may be broken between words, entries not at all.
        self.least = [
            max(map(cell_len, [*heading.split(), *cells]), default=0)
            for heading, cells in zip(table.columns, entries, strict=True)
        ]
        self.most = [max(least, cell_len(heading)) for least, heading in zip(self.least, table.columns, strict=True)]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for part in self._parts(options.max_width):
            yield self._part(part, options.max_width)

    def _parts(self, width: int) -> list[list[int]]:
        """Return the columns of each part, the first one in all of them."""
        parts = [[0]]
        for column in range(1, len(self.table.columns)):
            if len(parts[-1]) > 1 and self._width([*parts[-1], column]) > width:
                parts.append([0])
            parts[-1].append(column)
        return parts

    def _width(self, columns: Sequence[int]) -> int:
        # A space beside each entry, and the box's before, between and after the columns.
        return sum(self.least[column] for column in columns) + 2 * len(columns) + 1

    def _part(self, columns: Sequence[int], width: int) -> Table:
        result = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        spare = max(0, width - self._width(columns))
        for column in columns:
            more = min(spare, self.most[column] - self.least[column])
            spare -= more
            result.add_column(
                Text(self.table.columns[column]),
                justify="left" if column == 0 else "right",
                overflow="fold",
                width=self.least[column] + more,
            )
        styles = ("", "bold", "underline")
        for number, row in enumerate(self.table.rows, 1):
            cells = [Text.assemble((row[column].text, styles[row[column].place])) for column in columns]
            result.add_row(*cells, end_section=number == self.table.separated)
        return result


def escape_markdown(text: str) -> str:
    """Return `text` as it is written in a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("<", "\\<")


def to_markdown(table: TextTable, level: int = 2) -> str:
    """Return a Markdown section with the table and its notes."""

    def cell(piece: Piece) -> str:
        text = escape_markdown(piece.text)
        return (text, f"**{text}**", f"<u>{text}</u>")[piece.place]

    lines = [f"{'#' * level} {escape_markdown(table.title)}", ""]
    lines.append("| " + " | ".join(map(escape_markdown, table.columns)) + " |")
    lines.append("|---|" + "---:|" * (len(table.columns) - 1))
    lines += ["| " + " | ".join(map(cell, row)) + " |" for row in table.rows]
    for note in table.notes:
        lines += ["", note]
    return "\n".join([*lines, ""])


_LATEX = {
    "\\": r"\textbackslash{}",
    "±": r"$\pm$",
    "–": "--",
    "µ": r"$\mu$",
    "×": r"$\times$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    **{letter: f"$\\{name}$" for letter, name in {"Δ": "Delta", "α": "alpha", "β": "beta", "γ": "gamma"}.items()},
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"\textbar{}",
}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def to_latex(table: TextTable) -> str:
    """Return a LaTeX table; it needs the package booktabs."""

    def cell(piece: Piece) -> str:
        text = _latex(piece.text)
        return (text, rf"\textbf{{{text}}}", rf"\underline{{{text}}}")[piece.place]

    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{_latex(' '.join([table.title + '.', *table.notes]))}}}",
        rf"  \begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
        r"    \toprule",
        "    " + " & ".join(map(_latex, table.columns)) + r" \\",
        r"    \midrule",
    ]
    for number, row in enumerate(table.rows, 1):
        lines.append("    " + " & ".join(map(cell, row)) + r" \\")
        if number == table.separated < len(table.rows):
            lines.append(r"    \midrule")
    return "\n".join([*lines, r"    \bottomrule", r"  \end{tabular}", r"\end{table}", ""])
