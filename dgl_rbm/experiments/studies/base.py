"""Base of the studies: a grid of runs that differ in one respect, and an analysis of their results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from dgl_rbm.errors import ConfigError
from dgl_rbm.experiments.cell import Cell, Variant, VariantMaker
from dgl_rbm.experiments.grid import expand
from dgl_rbm.experiments.options import ExperimentOptions
from dgl_rbm.experiments.results import results_frame
from dgl_rbm.experiments.runner import GridRun
from dgl_rbm.experiments.store import CellStore
from dgl_rbm.experiments.studies.report import StudyReport
from dgl_rbm.methods.apply import checked_recipe
from dgl_rbm.methods.catalogue import load_method, merged
from dgl_rbm.run.config import DistillConfig
from dgl_rbm.specs import override_path

if TYPE_CHECKING:
    from dgl_rbm.experiments.studies.measure import Bench, Measured

__all__ = ["Choice", "Study", "StudyData"]


@dataclass(frozen=True)
class Choice:
    """One of the alternatives that a study compares: a method with changes.

    Attributes
    ----------
    name : str
        In tables.
    method : str
        Name of a method.
    changes : mapping of str to object
        Nested values that replace the method's and the published ones; of ``dataset`` options only.
    teacher : str, optional
        Replaces the teacher of the method and of the study, see `dgl_rbm.methods.catalogue.Method.values`.
    """

    name: str
    method: str = "rbm"
    changes: Mapping[str, Any] = field(default_factory=dict)
    teacher: str | None = None

    def values(self, dataset: str, setting: str, options: ExperimentOptions) -> dict[str, Any]:
        """Return nested values for `dgl_rbm.run.config.resolve_config`."""
        teacher, recipe = self.teacher or options.teacher, checked_recipe(options.recipe)
        return merged(load_method(self.method).values(dataset, setting, recipe, teacher=teacher), self.changes)

    def variant(self, options: ExperimentOptions) -> VariantMaker:
        """Return the function that makes the grid's variant for a dataset and setting."""
        return lambda dataset, setting: Variant(self.name, self.values(dataset, setting, options))


@dataclass(frozen=True)
class StudyData:
    """Input of a study's analysis.

    Attributes
    ----------
    cells : list of Cell
        The grid.
    results : DataFrame
        One row per trained cell, see ``dgl_rbm.experiments.results.COLUMNS``.
    measured : dict of str to list of dict
        For each dataset the groups of students that were measured, by their names.
    store : CellStore
        Folder of the study.
    """

    cells: list[Cell]
    results: pd.DataFrame
    measured: Mapping[str, list[dict[str, Measured]]]
    store: CellStore


class Study(ABC):
    """A study in three stages: train the cells of its grid, measure untrained students, analyse the results.

    Subclasses declare what is compared (`choices`), what is measured (`measured_together`) and the analysis (`report`).

    Parameters
    ----------
    values : sequence, optional
        Replaces the study's own values.

    Raises
    ------
    ConfigError
        If the study takes no values, or cannot use one of these.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    # Name of the values, in the plural; empty if the study takes none.
    axis: ClassVar[str] = ""
    # Type of a value; texts are converted to it.
    value_type: ClassVar[type] = str
    default_values: ClassVar[tuple[Any, ...]] = ()
    # Enough for a useful study within minutes on `digits`.
    default_seeds: ClassVar[int] = 3
    # Options that the study sets itself; set by anyone else, they would be equal in all runs.
    varies: ClassVar[tuple[str, ...]] = ()
    # Whether the cells are trained; a study that only measures needs no training.
    trains: ClassVar[bool] = True
    # Whether the analysis reads whole runs, students included, rather than their metrics alone.
    keeps_runs: ClassVar[bool] = False

    def __init__(self, values: Sequence[Any] | None = None) -> None:
        if values is not None and not self.axis:
            raise ConfigError(f"The study '{self.name}' takes no values.", hint="Leave out --values.")
        self.values = self.default_values if values is None else tuple(dict.fromkeys(map(self._read, values)))
        if self.axis and not self.values:
            raise ConfigError(f"The study '{self.name}' has no values; expected {self.axis}.")

    def _read(self, value: Any) -> Any:
        try:
            read = self.value_type(value)
            self.check(read)
        except (TypeError, ValueError) as error:
            default = ", ".join(map(str, self.default_values))
            raise ConfigError(
                f"values: {value!r} is none of the {self.axis} that the study '{self.name}' takes: {error}.",
                hint=f"Its own are {default}.",
            ) from None
        return read

    def check(self, value: Any) -> None:
        """Raise a ValueError if the study cannot use `value`; by default it can use any."""

    @abstractmethod
    def choices(self, options: ExperimentOptions) -> list[Choice]:
        """Return what is compared, in the order of the tables."""

    def measured_together(
        self, bench: Bench, configs: Mapping[str, DistillConfig], options: ExperimentOptions
    ) -> Iterator[dict[str, DistillConfig]]:
        """Yield groups of students to measure side by side, by name; by default there are none.

        Parameters
        ----------
        bench : Bench
            The dataset, in the first setting and with the first seed.
        configs : mapping of str to DistillConfig
            The cells there, by the name of their choice.
        options : ExperimentOptions
        """
        yield from ()

    @abstractmethod
    def report(self, data: StudyData, options: ExperimentOptions) -> StudyReport:
        """Return tables and findings, and draw figures to ``options.out``."""

    def cells(self, options: ExperimentOptions) -> list[Cell]:
        """Return the grid.

        Raises
        ------
        ConfigError
            If an option of any cell is wrong, or an override sets what the study varies.
        """
        self._check_options(options)
        # Published settings may make two choices the same run.
        return expand([choice.variant(options) for choice in self.choices(options)], options, distinct=False)

    def _check_options(self, options: ExperimentOptions) -> None:
        """Raise a ConfigError if an option would remove the difference between the choices."""
        if options.teacher is not None and "teacher.kind" in self.varies:
            raise ConfigError(
                f"--teacher {options.teacher}: the study '{self.name}' varies the teacher itself.",
                hint="Leave this option out, or give --values.",
            )
        for override in options.overrides:
            path = override_path(override)
            if any(f"{varied}.".startswith(f"{path}.") for varied in self.varies):
                instead = "--split" if path == "dataset.split" else "--values" if self.axis else None
                raise ConfigError(
                    f"--set {override}: the study '{self.name}' varies {', '.join(self.varies)} itself.",
                    hint="Leave this option out" + (f", or give {instead}." if instead else "."),
                )

    def execute(self, options: ExperimentOptions) -> StudyReport:
        """Run what is not finished yet, and write tables and figures to the study's folder.

        Raises
        ------
        ConfigError
            If an option is wrong; before any work starts.
        MissingDependencyError
            If matplotlib is not installed; before any work starts.
        TimeBudgetError
            If the time budget is used up.
        """
        from dgl_rbm.experiments.plots import require_matplotlib

        # Now rather than after hours of training.
        require_matplotlib()
        data = self.run(options)
        report = self.report(data, options)
        report.results = data.results
        failed = len(report.failed)
        if failed:
            report.findings.append(f"{failed} of {len(data.results)} runs failed; {options.out}/errors says why.")
        report.write(options.out)
        return report

    def run(self, options: ExperimentOptions) -> StudyData:
        """Train and measure."""
        cells = self.cells(options)
        if self.trains:
            run = GridRun(cells, options, keeps_runs=self.keeps_runs)
            results, store = run.execute(), run.store
        else:
            results, store = results_frame([]), CellStore(options.out)
        return StudyData(cells, results, self._measure(cells, store, options), store)

    def _measure(
        self, cells: Sequence[Cell], store: CellStore, options: ExperimentOptions
    ) -> dict[str, list[dict[str, Measured]]]:
        from dgl_rbm.experiments.studies.measure import Bench, measure_students

        measured = {}
        for dataset in dict.fromkeys(cell.dataset for cell in cells):
            of_dataset = [cell for cell in cells if cell.dataset == dataset]
            first = of_dataset[0]
            configs = {
                # Times are those of one CPU thread, wherever students are trained.
                cell.variant: cell.config.model_copy(update={"device": "cpu"})
                for cell in of_dataset
                if (cell.setting, cell.seed) == (first.setting, first.seed)
            }
            bench = Bench(first.config, store.shared)
            measured[dataset] = [
                measure_students(bench, group) for group in self.measured_together(bench, configs, options)
            ]
        return measured
