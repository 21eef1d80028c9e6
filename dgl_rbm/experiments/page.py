"""The page of comparisons: tables, figures, commands, versions and hardware, from what their folders hold."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dgl_rbm.errors import ArtifactError, ConfigError
from dgl_rbm.experiments.comparison_plots import draw_accuracies, draw_sizes
from dgl_rbm.experiments.plots import require_matplotlib
from dgl_rbm.experiments.record import read_record
from dgl_rbm.experiments.render import escape_markdown, to_html, to_latex, to_markdown
from dgl_rbm.experiments.results import PLACE, Row, read_results
from dgl_rbm.experiments.tables import comparison_tables
from dgl_rbm.runtime.checkpoint import write_atomic
from dgl_rbm.runtime.folders import check_folder, check_place

__all__ = ["check_page", "render_page", "write_page", "write_tables"]

_NOTES = "notes.md"
_TITLE = "Results"


def write_tables(rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Write ``tables.md``, ``tables.tex`` and ``tables.html`` to the comparison's folder."""
    tables = comparison_tables(rows)
    write_atomic(out / "tables.md", "\n".join(to_markdown(table) for table in tables))
    write_atomic(out / "tables.tex", "% needs \\usepackage{booktabs}\n\n" + "\n".join(map(to_latex, tables)))
    write_atomic(out / "tables.html", to_html(tables, _TITLE))


def _settings(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["setting"] for row in rows if row["status"] == "ok"))


def _read_rows(folders: Sequence[Path]) -> list[Row]:
    """Return the runs of all folders, no run twice."""
    rows: list[Row] = []
    found: dict[tuple[Any, ...], Path] = {}
    same = _SameRuns()
    for folder in folders:
        of_folder = read_results(folder / "results.csv")
        if not of_folder:
            raise ArtifactError(
                f"'{folder / 'results.csv'}' holds no runs.",
                hint="`dgl-rbm compare` with the options of before goes on.",
            )
        runs = [tuple(row[name] for name in PLACE) for row in of_folder]
        for run in runs:
            if run in found:
                raise ConfigError(
                    f"'{found[run]}' and '{folder}' both hold the run {', '.join(map(str, run))}.",
                    hint="Give folders of different methods, graphs, settings or seeds.",
                )
        found |= dict.fromkeys(runs, folder)
        rows += of_folder
        for row in of_folder:
            same.check(row, folder)
    return rows


class _SameRuns:
    """Sees to it that no table mixes runs on different graphs or splits, or of a method's different options."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, ...], tuple[str | None, Path]] = {}

    def check(self, row: Row, folder: Path) -> None:
        """Raise a ConfigError where a run of a folder differs from an earlier one in what must be the same."""
        graph = (row["dataset"],)
        self._check("splits", graph, row["split"] or "its own", folder)
        self._check("options or files of the graph", graph, row["dataset_id"], folder)
        self._check("options", (row["method"], row["dataset"], row["setting"]), row["options_id"], folder)

    def _check(self, what: str, of: tuple[str, ...], value: str, folder: Path) -> None:
        first, there = self._first.setdefault((what, *of), (value, folder))
        if value != first:
            hint = (
                "Runs of a study are not for such a page; its own tables lie beside them."
                if folder == there
                else "Write a page for each; the commands in comparison.json say what was asked for."
            )
            raise ConfigError(
                f"The runs of {', '.join(of)} are of different {what}: {first} in '{there}', {value} in '{folder}'.",
                hint=hint,
            )


def render_page(folders: Sequence[Path], figures: str) -> str:
    """Return the page in Markdown.

    Parameters
    ----------
    folders : sequence of Path
        Of the comparisons, whose runs are put together: ``results.csv``, ``comparison.json``, and where there is one
        ``notes.md``, text of your own that is put below the tables of accuracies.
    figures : str
        Folder of the figures, as the page is to name it.

    Raises
    ------
    ArtifactError
        Where a folder holds no ``results.csv``, or one without runs, or one that is damaged.
    ConfigError
        Where two folders hold the same run, or runs that are to be compared are of different splits, graphs, or
        options of a method.
    """
    rows, records = _read_rows(folders), [read_record(folder) for folder in folders]
    source = "`, `".join(f"{folder.resolve().name}/results.csv" for folder in folders)
    tables = comparison_tables(rows)
    costs = [table for table in tables if table.title.startswith("Costs")]
    accuracies = [table for table in tables if table not in costs]
    lines = [f"# {_TITLE}", ""]
    lines += [
        f"<!-- Written by `dgl-rbm report` from `{source}`; changes are to be made there. -->",
        "",
        "Runs of the same graph, setting and seed had the same split, whatever the method. Epochs were chosen on "
        "validation nodes, and the test labels of each run were read once, at its end. The Score of a method on a "
        "graph is its mean accuracy scaled so that the worst has 0 and the best 1; teachers take part in it, as they "
        "do in the paper.",
        "",
    ]
    for table in accuracies:
        lines += [to_markdown(table)]
    for notes in (folder / _NOTES for folder in folders):
        if notes.is_file():
            lines += [notes.read_text(encoding="utf-8").strip(), ""]
    lines += ["## Figures", ""]
    for setting in _settings(rows):
        lines += [
            f"![Test accuracy of each method, {setting}]({figures}/accuracy-{setting}.png)",
            "",
            f"![Test accuracy against active parameters, {setting}]({figures}/size-{setting}.png)",
            "",
        ]
    for table in costs:
        lines += [to_markdown(table)]
    failed = [row for row in rows if row["status"] != "ok"]
    if failed:
        lines += ["## Failed runs", "", "| method | graph | setting | seed | error |", "|---|---|---|---|---|"]
        for row in failed:
            entries = (row["method"], row["dataset"], row["setting"], str(row["seed"]), row["error"] or "")
            lines.append(f"| {' | '.join(map(escape_markdown, entries))} |")
        lines.append("")
    return "\n".join([*lines, *_origin([record for record in records if record])])


def _origin(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return how the results were made; a machine that made several comparisons is described after the last of them."""
    if not records:
        return []
    lines = ["## How these were made", ""]
    places = [_place(record) for record in records]
    for i, (record, place) in enumerate(zip(records, places, strict=True)):
        # Not among the blocks that the documentation's tests run.
        lines += ["```text", record["command"], "```", ""]
        if places[i + 1 : i + 2] != [place]:
            lines += [place, ""]
    return lines


def _place(record: Mapping[str, Any]) -> str:
    """Return the sentence about machine and versions."""
    machine, versions = record["hardware"], record["versions"]
    parts = [f"{machine['cpu']}, {machine['cores']} cores"]
    if machine["memory_gib"] is not None:
        parts.append(f"{machine['memory_gib']:g} GiB of memory")
    parts += machine["gpus"] or ["no GPU"]
    found = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"On {', '.join(parts)}, {machine['system']}; {found}."


def check_page(out: Path, option: str, figures: Path | None = None) -> None:
    """See whether a page and its figures can be drawn and written to `out`; write nothing.

    Raises
    ------
    ConfigError
        Naming the option, where they cannot be written.
    MissingDependencyError
        Where matplotlib is not installed.
    """
    check_place(out.absolute().parent, f"{option} {out}")
    if out.is_dir():
        raise ConfigError(f"{option} {out} is a folder; expected a file, such as {out / 'results.md'}.")
    if figures is None:
        check_folder(_figures_beside(out), f"{option} {out}: the folder of its figures,")
    else:
        check_folder(figures, "--figures")
    require_matplotlib()


def _figures_beside(out: Path) -> Path:
    """Return the page's path without its suffix; where it has none, the folder cannot be where the page is."""
    return out.with_suffix("") if out.suffix else out.with_name(f"{out.name}-figures")


def write_page(folders: Sequence[Path], out: Path, figures: Path | None = None, *, option: str = "--out") -> list[Path]:
    """Write the page and its figures.

    Parameters
    ----------
    folders : sequence of Path
        See `render_page`.
    out : Path
        The Markdown file.
    figures : Path, optional
        Folder for the figures; by default the page's path without its suffix, or with ``-figures`` where it has none.
    option : str
        What errors call the option that named the file.

    Returns
    -------
    list of Path
        Every file written, the page last.

    Raises
    ------
    ArtifactError
        Where a folder holds no ``results.csv``.
    ConfigError
        Where `out` is a folder, the figures' folder a file, or either cannot be written to, or as `render_page` says.
    MissingDependencyError
        Where matplotlib is not installed; before anything is written.
    """
    check_page(out, option, figures)
    rows = _read_rows(folders)
    figures = figures or _figures_beside(out)
    page = render_page(folders, Path(os.path.relpath(figures, out.parent)).as_posix())
    written = []
    for setting in _settings(rows):
        for name, draw in (("accuracy", draw_accuracies), ("size", draw_sizes)):
            written.append(draw(rows, setting, figures / f"{name}-{setting}.png"))
    write_atomic(out, page)
    return [*written, out]
