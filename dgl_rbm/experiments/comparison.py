"""Comparison of methods on several graphs, settings and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from dgl_rbm.errors import ConfigError, TimeBudgetError
from dgl_rbm.experiments.cell import Variant, VariantMaker
from dgl_rbm.experiments.grid import expand
from dgl_rbm.experiments.options import DEFAULT_METHODS, ExperimentOptions, as_names, seeds_text
from dgl_rbm.experiments.page import write_page, write_tables
from dgl_rbm.experiments.record import command_line, write_record
from dgl_rbm.experiments.render import TextTable
from dgl_rbm.experiments.results import RESULTS, read_results
from dgl_rbm.experiments.runner import GridRun
from dgl_rbm.experiments.tables import comparison_tables
from dgl_rbm.methods.apply import checked_recipe
from dgl_rbm.methods.catalogue import load_method, method_names

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True)
class Comparison:
    """Results of a comparison.

    Attributes
    ----------
    results : DataFrame
        One row per run, as in ``results.csv``; see ``dgl_rbm.experiments.results.COLUMNS``.
    out : Path
        Folder of the comparison.
    """

    results: pd.DataFrame
    out: Path

    @classmethod
    def load(cls, out: str | Path) -> Comparison:
        """Read the results of an earlier comparison from its folder.

        Raises
        ------
        ArtifactError
            If the folder contains no ``results.csv``, or a damaged one.
        """
        return cls(read_results(Path(out) / RESULTS), Path(out))

    @property
    def failed(self) -> pd.DataFrame:
        """The runs that failed; their tracebacks are in the folder's ``errors``."""
        return self.results[self.results["status"] != "ok"]

    @cached_property
    def tables(self) -> list[TextTable]:
        """Accuracies, with Score and significance, and costs."""
        return comparison_tables(self.results)

    def write_page(self, path: str | Path, figures: str | Path | None = None) -> list[Path]:
        """Write a Markdown page with tables, figures, command, versions and hardware; return the files written.

        Parameters
        ----------
        path : path
            The page.
        figures : path, optional
            Folder of the figures; by default the page's path without its suffix.

        Raises
        ------
        ConfigError
            If the files cannot be written.
        MissingDependencyError
            If matplotlib is not installed.
        """
        return write_page([self.out], Path(path), None if figures is None else Path(figures))


def compare(methods: str | Sequence[str | Variant] = DEFAULT_METHODS, **options: Any) -> Comparison:
    """Run several methods on several graphs, settings and seeds under one protocol.

    Splits and seeds are the same for all methods, epochs are chosen on validation nodes, and test labels are read once
    per run. A comparison that was stopped continues in the same folder; several processes, also of several machines,
    may work in one folder at the same time.

    Parameters
    ----------
    methods : str or sequence of str or Variant
        Names of methods, ``"all"``, or variants of your own. A text holds several names, joined by commas.
    **options
        See `dgl_rbm.experiments.options.ExperimentOptions`; `out` is ``"runs/compare"`` by default.

    Returns
    -------
    Comparison

    Raises
    ------
    ConfigError
        If an option is wrong; before anything is run.
    TimeBudgetError
        If the time budget is used up.

    Examples
    --------
    >>> quick = ["dataset.num_nodes=150", "training.epochs=3", "teacher.training.epochs=3"]
    >>> comparison = compare("glnn,rbm", datasets="synthetic", settings="inductive", seeds=1, overrides=quick)
    >>> comparison.results[["method", "status"]].values.tolist()
    [['glnn', 'ok'], ['rbm', 'ok']]
    >>> [table.title for table in comparison.tables][0]
    'Test accuracy, inductive'
    """
    chosen = ExperimentOptions(**{"out": Path("runs/compare")} | options)
    if isinstance(methods, str):
        methods = method_names() if methods == "all" else as_names(methods)
    if list(methods) == ["all"]:
        methods = method_names()
    if not methods:
        raise ConfigError("The comparison has no methods: expected at least one.", hint="Example: --methods glnn,rbm")
    run = GridRun(expand([_variant(method, chosen) for method in methods], chosen), chosen)
    try:
        results = run.execute()
    except (TimeBudgetError, KeyboardInterrupt):
        # The tables then match the rows that are there.
        if (chosen.out / RESULTS).is_file():
            write_tables(read_results(chosen.out / RESULTS), chosen.out)
        raise
    finally:
        # Together with the rows that it describes: a killed process leaves both as they were.
        if (chosen.out / RESULTS).is_file():
            names = [method if isinstance(method, str) else method.name for method in methods]
            described = {"methods": names, "datasets": chosen.datasets, "settings": chosen.settings}
            write_record(chosen.out, _command(methods, chosen), described, is_new=run.kept < len(run.cells))
    write_tables(results, chosen.out)
    return Comparison(results, chosen.out)


def _variant(method: str | Variant, options: ExperimentOptions) -> Variant | VariantMaker:
    if isinstance(method, Variant):
        return method
    found, recipe = load_method(method), checked_recipe(options.recipe)
    return lambda dataset, setting: Variant(method, found.values(dataset, setting, recipe, teacher=options.teacher))


def _command(methods: Sequence[str | Variant], options: ExperimentOptions) -> str:
    """Return the command that makes this comparison, or the beginning of the call if no command can."""
    if not all(isinstance(method, str) for method in methods):
        names = [method if isinstance(method, str) else method.name for method in methods]
        return f"dgl_rbm.compare({names}, ...)"
    return command_line(
        {
            "methods": ",".join(map(str, methods)),
            "datasets": ",".join(options.datasets),
            "settings": ",".join(options.settings),
            "seeds": seeds_text(options.seeds),
            "recipe": options.recipe,
            "teacher": options.teacher,
            "split": options.split,
            "set": list(options.overrides),
            "device": None if options.device == "auto" else options.device,
            "jobs": max(1, options.jobs),
            "threads": options.threads,
            "executor": options.executor if isinstance(options.executor, str) else None,
            "out": options.out,
        }
    )
