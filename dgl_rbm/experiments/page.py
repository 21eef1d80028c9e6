"""Page of one or more comparisons: tables, figures, commands, versions and hardware."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from dgl_rbm.errors import ArtifactError, ConfigError
from dgl_rbm.experiments.comparison_plots import draw_accuracies, draw_sizes
from dgl_rbm.experiments.plots import require_matplotlib
from dgl_rbm.experiments.record import read_record
from dgl_rbm.experiments.render import escape_markdown, to_latex, to_markdown
from dgl_rbm.experiments.results import PLACE, RESULTS, read_results
from dgl_rbm.experiments.tables import comparison_tables
from dgl_rbm.runtime.checkpoint import write_atomic
from dgl_rbm.runtime.folders import check_folder, check_place

__all__ = ["check_page", "render_page", "write_page", "write_tables"]

_NOTES = "notes.md"
_TITLE = "Results"


def write_tables(results: pd.DataFrame, out: Path) -> None:
    """Write ``tables.md`` and ``tables.tex`` to the comparison's folder."""
    tables = comparison_tables(results)
    write_atomic(out / "tables.md", "\n".join(to_markdown(table) for table in tables))
    write_atomic(out / "tables.tex", "% needs \\usepackage{booktabs}\n\n" + "\n".join(map(to_latex, tables)))


def _settings(results: pd.DataFrame) -> list[str]:
    return [str(setting) for setting in results.loc[results["status"] == "ok", "setting"].unique()]


def _read_all(folders: Sequence[Path]) -> pd.DataFrame:
    """Return the runs of all folders, each with its folder in the column ``folder``."""
    frames = []
    for folder in folders:
        results = read_results(folder / RESULTS)
        if results.empty:
            raise ArtifactError(
                f"'{folder / RESULTS}' holds no runs.",
                hint="`dgl-rbm compare` with the same options as before continues it.",
            )
        frames.append(results.assign(folder=str(folder)))
    results = pd.concat(frames, ignore_index=True)
    runs = results.drop_duplicates([*PLACE, "folder"])
    repeated = runs[runs.duplicated(list(PLACE))]
    if not repeated.empty:
        run = repeated.iloc[0]
        first = runs[(runs[list(PLACE)] == run[list(PLACE)]).all(axis=1)].iloc[0]
        raise ConfigError(
            f"'{first['folder']}' and '{run['folder']}' both hold the run {', '.join(map(str, run[list(PLACE)]))}.",
            hint="Give folders of different methods, graphs, settings or seeds.",
        )
    _check_comparable(results)
    return results


# What must be equal within which runs.
_COMPARABLE = {
    "split": ("splits", ["dataset"]),
    "dataset_id": ("options or files of the graph", ["dataset"]),
    "options_id": ("options", ["method", "dataset", "setting"]),
}


def _check_comparable(results: pd.DataFrame) -> None:
    """Raise a ConfigError if a table would mix different graphs, splits, or options of a method."""
    named = results.fillna({"split": "its own", "dataset_id": "", "options_id": ""})
    for column, (what, keys) in _COMPARABLE.items():
        for of, group in named.groupby(keys, sort=False, dropna=False):
            first = group.iloc[0]
            others = group[group[column] != first[column]]
            if others.empty:
                continue
            other = others.iloc[0]
            hint = (
                "Runs of a study are not for such a page; its own tables lie beside them."
                if first["folder"] == other["folder"]
                else "Write a page for each; comparison.json records the command of each."
            )
            raise ConfigError(
                f"The runs of {', '.join(map(str, of))} are of different {what}: {first[column]} in "
                f"'{first['folder']}', {other[column]} in '{other['folder']}'.",
                hint=hint,
            )


def render_page(folders: Sequence[Path], figures: str) -> str:
    """Return the page in Markdown.

    Parameters
    ----------
    folders : sequence of Path
        Of the comparisons, whose runs are combined: ``results.csv``, ``comparison.json``, and if there is one
        ``notes.md``, text of your own that is put below the tables of accuracies.
    figures : str
        Folder of the figures, as the page is to name it.

    Raises
    ------
    ArtifactError
        If the ``results.csv`` of a folder is missing, damaged or has no runs.
    ConfigError
        If two folders hold the same run, or runs that are to be compared are of different splits, graphs, or
        options of a method.
    """
    results, records = _read_all(folders), [read_record(folder) for folder in folders]
    source = "`, `".join(f"{folder.resolve().name}/results.csv" for folder in folders)
    tables = comparison_tables(results)
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
    for setting in _settings(results):
        lines += [
            f"![Test accuracy of each method, {setting}]({figures}/accuracy-{setting}.png)",
            "",
            f"![Test accuracy against active parameters, {setting}]({figures}/size-{setting}.png)",
            "",
        ]
    for table in costs:
        lines += [to_markdown(table)]
    failed = results[results["status"] != "ok"]
    if not failed.empty:
        lines += ["## Failed runs", "", "| method | graph | setting | seed | error |", "|---|---|---|---|---|"]
        for entries in failed[[*PLACE, "error"]].fillna("").itertuples(index=False):
            lines.append(f"| {' | '.join(escape_markdown(str(entry)) for entry in entries)} |")
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
        If they cannot be written; names the option.
    MissingDependencyError
        If matplotlib is not installed.
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
    """Return the folder of the figures: the page's path without its suffix, with ``-figures`` if it has none."""
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
        Folder for the figures; by default the page's path without its suffix, or with ``-figures`` if it has none.
    option : str
        What errors call the option that named the file.

    Returns
    -------
    list of Path
        Every file written, the page last.

    Raises
    ------
    ArtifactError
        If a folder holds no ``results.csv``.
    ConfigError
        If `out` is a folder, the figures' folder a file, either cannot be written to, or in the cases of `render_page`.
    MissingDependencyError
        If matplotlib is not installed; raised before anything is written.
    """
    check_page(out, option, figures)
    results = _read_all(folders)
    figures = figures or _figures_beside(out)
    page = render_page(folders, Path(os.path.relpath(figures, out.parent)).as_posix())
    written = []
    for setting in _settings(results):
        for name, draw in (("accuracy", draw_accuracies), ("size", draw_sizes)):
            written.append(draw(results, setting, figures / f"{name}-{setting}.png"))
    write_atomic(out, page)
    return [*written, out]
