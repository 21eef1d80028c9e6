"""What a study is: a grid of runs that differ in one thing, and the tables and figures that are made of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from dgl_rbm.errors import ConfigError
from dgl_rbm.experiments.grid import Cell, Variant, VariantMaker, expand
from dgl_rbm.experiments.runner import Listener, run_cells
from dgl_rbm.experiments.studies.report import StudyReport
from dgl_rbm.methods.apply import checked_recipe
from dgl_rbm.methods.catalogue import RecipeName, load_method, merged
from dgl_rbm.specs import override_path, resolve_teacher

__all__ = ["Choice", "Study", "StudyOptions"]

Row = dict[str, Any]


@dataclass(frozen=True)
class StudyOptions:
    """What a study is made of, and how its runs are run.

    Attributes
    ----------
    out : Path
        Folder for runs, tables and figures. A study that was stopped continues there.
    datasets, settings : sequence of str
        Names.
    seeds : sequence of int
    split : str, optional
        In place of the datasets' own.
    overrides : sequence of str
        Dotted assignments, for all runs.
    recipe : {"published", "default"}
        As for `dgl_rbm.methods.catalogue.Method.values`.
    teacher : str, optional
        In place of the methods' own; as there.
    device : str
        As for `dgl_rbm.Distiller`.
    jobs, threads : int
        As for `dgl_rbm.experiments.runner.run_cells`.
    max_hours : float, optional
        Stop by a `TimeBudgetError` after this time.
    listener : Listener
        Told of every run.
    """

    out: Path
    datasets: Sequence[str] = ("digits",)
    settings: Sequence[str] = ("transductive",)
    seeds: Sequence[int] = (0, 1, 2)
    split: str | None = None
    overrides: Sequence[str] = ()
    recipe: RecipeName = "published"
    teacher: str | None = None
    device: str = "auto"
    jobs: int = 0
    threads: int = 1
    max_hours: float | None = None
    listener: Listener = field(default_factory=Listener)

    def __post_init__(self) -> None:
        checked_recipe(self.recipe)
        if self.teacher is not None:
            resolve_teacher(self.teacher)


@dataclass(frozen=True)
class Choice:
    """One of the things that a study compares: a method with changes.

    Attributes
    ----------
    name : str
        In tables.
    method : str
        Name of a method.
    changes : mapping of str to object
        Nested values that go before the method's and the published ones.
    teacher : str, optional
        In place of the method's and of the study's, as for `dgl_rbm.methods.catalogue.Method.values`.
    """

    name: str
    method: str = "rbm"
    changes: Mapping[str, Any] = field(default_factory=dict)
    teacher: str | None = None

    def values(self, dataset: str, setting: str, options: StudyOptions) -> dict[str, Any]:
        """Return nested values for `dgl_rbm.run.config.resolve_config`."""
        teacher = self.teacher or options.teacher
        base = load_method(self.method).values(dataset, setting, options.recipe, teacher=teacher)
        return merged(base, self.changes)

    def variant(self, options: StudyOptions) -> VariantMaker:
        """Return what makes the grid's variant for a dataset and setting."""
        return lambda dataset, setting: Variant(self.name, self.values(dataset, setting, options))


class Study(ABC):
    """A study; subclasses say what is compared and what is made of the results.

    Parameters
    ----------
    values : sequence, optional
        What is studied in place of the study's own values.

    Raises
    ------
    ConfigError
        Where the study has no such values, or one of these cannot be used.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    # What `values` are, for people; empty where there is nothing to choose.
    axis: ClassVar[str] = ""
    # Type of a value: text is read as it; other types are not taken.
    value_type: ClassVar[type] = str
    default_values: ClassVar[tuple[Any, ...]] = ()
    # How many seeds make a useful study within minutes on `digits`.
    default_seeds: ClassVar[int] = 3
    # Options that the study sets itself, and that are the same in all runs if anyone else sets them.
    varies: ClassVar[tuple[str, ...]] = ()

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
        """Raise a ValueError where `value` cannot be studied; the default takes all."""

    @abstractmethod
    def choices(self) -> list[Choice]:
        """Return what is compared, in the order of the tables."""

    def cells(self, options: StudyOptions) -> list[Cell]:
        """Return the runs.

        Raises
        ------
        ConfigError
            Where an option of any run is wrong, or an override is of what the study varies.
        """
        return self.grid([choice.variant(options) for choice in self.choices()], options)

    def grid(self, variants: Sequence[Variant | VariantMaker], options: StudyOptions) -> list[Cell]:
        """Return the runs of these variants; published settings may make two of them the same run."""
        self.check_options(options)
        return expand(
            variants,
            options.datasets,
            options.settings,
            options.seeds,
            split=options.split,
            overrides=options.overrides,
            device=options.device,
            distinct=False,
        )

    def check_options(self, options: StudyOptions) -> None:
        """Raise a ConfigError where an option would make all runs alike in what they are to differ in."""
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

    def execute(self, options: StudyOptions) -> StudyReport:
        """Run what has not been run yet, and write tables and figures to the study's folder.

        Raises
        ------
        ConfigError
            Before any work starts, where an option is wrong.
        MissingDependencyError
            Before any work starts, where matplotlib is missing.
        TimeBudgetError
            Where the time given is used up.
        """
        from dgl_rbm.experiments.plots import require_matplotlib

        # Now rather than after hours of training.
        require_matplotlib()
        rows = self.run(options)
        report = self.report(rows, options)
        failed = sum(row["status"] != "ok" for row in rows)
        if failed:
            report.failed = failed
            report.findings.append(f"{failed} of {len(rows)} runs failed; {options.out}/errors says why.")
        report.write(options.out)
        return report

    def run(self, options: StudyOptions) -> list[Row]:
        """Run the cells; return a row for each."""
        return run_cells(
            self.cells(options),
            options.out,
            jobs=options.jobs,
            threads=options.threads,
            max_hours=options.max_hours,
            listener=options.listener,
        )

    @abstractmethod
    def report(self, rows: list[Row], options: StudyOptions) -> StudyReport:
        """Make tables and draw figures, in ``options.out``, of the rows."""
