"""Options that comparisons and studies share: what is run, and how."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from dgl_rbm.errors import ConfigError, UnknownNameError, shown
from dgl_rbm.experiments.executors import load_executor
from dgl_rbm.experiments.listener import Listener
from dgl_rbm.runtime.folders import as_path
from dgl_rbm.specs import resolve_teacher

__all__ = ["DEFAULT_METHODS", "SETTINGS", "ExperimentOptions", "as_names", "as_seeds", "seeds_text"]

SETTINGS = ("transductive", "inductive")
# One baseline of each kind and the package's own method; few enough for `digits` within minutes.
DEFAULT_METHODS = ("glnn", "krd", "nosmog", "cohop", "moe", "rbm")
_MOST_SEEDS = 10_000


@dataclass(frozen=True)
class ExperimentOptions:
    """Datasets, settings and seeds of an experiment, the options of all its runs, and how they are executed.

    Attributes
    ----------
    out : path
        Folder of the results. An experiment that was stopped continues there.
    datasets : str or sequence of str
        Names or paths; a text holds several, joined by commas.
    settings : str or sequence of str
        ``"transductive"``, ``"inductive"`` or both.
    seeds : int, str or sequence of int
        ``10`` stands for the seeds 0 to 9; see `as_seeds`.
    split : str, optional
        Replaces the datasets' own splits: ``"0.6/0.2/0.2"`` (fractions) or ``"20/30"`` (nodes per class).
    overrides : sequence of str
        Dotted assignments such as ``"training.epochs=300"``, for all runs; ``teacher.…`` for those with a teacher.
    recipe : {"published", "default"}
        Settings of the methods, see `dgl_rbm.methods.catalogue.Method.values`.
    teacher : str, optional
        Replaces the methods' own teachers, see the same.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
    jobs : int
        Number of processes that run cells at once; 0 runs them in this process.
    threads : int
        Threads of each process. The order of additions depends on it, so results are reproducible for one value.
    executor : str or callable, optional
        Runs the cells: a name in ``dgl_rbm.experiments.executors.EXECUTORS`` or a function of the same kind. By default
        ``"inline"`` if `jobs` is 0, else ``"processes"``.
    max_hours : float, optional
        Time budget; when it is used up, a `TimeBudgetError` is raised. Started again, the experiment continues.
    listener : Listener
        Receives the progress.

    Raises
    ------
    ConfigError
        If an option is out of range or a name is unknown.
    """

    out: Path = Path("runs/experiment")
    datasets: Sequence[str] = ("digits",)
    settings: Sequence[str] = SETTINGS
    seeds: Sequence[int] = (0, 1, 2)
    split: str | None = None
    overrides: Sequence[str] = ()
    recipe: str = "published"
    teacher: str | None = None
    device: str = "auto"
    jobs: int = 0
    threads: int = 1
    executor: str | Callable[..., Any] | None = None
    max_hours: float | None = None
    listener: Listener = field(default_factory=Listener)

    def __post_init__(self) -> None:
        # Here, since the command line reads the defaults of this class without loading torch.
        from dgl_rbm.methods.apply import checked_recipe

        normalized = {
            "out": as_path(self.out, "out"),
            "datasets": as_names(self.datasets, "datasets"),
            "settings": as_names(self.settings, "settings"),
            "seeds": as_seeds(self.seeds),
            "overrides": _texts(self.overrides, "overrides"),
        }
        for name, value in normalized.items():
            object.__setattr__(self, name, value)
        for name in ("datasets", "settings", "seeds"):
            if not getattr(self, name):
                raise ConfigError(f"The experiment has no {name}: expected at least one.")
        for setting in self.settings:
            if setting not in SETTINGS:
                raise UnknownNameError("setting", setting, SETTINGS)
        checked_recipe(self.recipe)
        if self.teacher is not None:
            # Even if no method has a teacher that it would replace.
            resolve_teacher(self.teacher)
        for name, least in (("jobs", 0), ("threads", 1)):
            number = getattr(self, name)
            if not _is_whole(number) or number < least:
                raise ConfigError(f"{name} is {shown(number)}; expected a whole number ≥ {least}.")
        if self.max_hours is not None:
            hours = self.max_hours
            if isinstance(hours, bool) or not isinstance(hours, Real) or not hours > 0:
                raise ConfigError(f"max_hours is {shown(hours)}; expected a number above 0, such as 11.5.")
        for name, text in (("split", "" if self.split is None else self.split), ("device", self.device)):
            if not isinstance(text, str):
                raise ConfigError(f"{name} is {shown(text)}; expected text.")
        if not (self.executor is None or isinstance(self.executor, str) or callable(self.executor)):
            raise ConfigError(f"executor is {shown(self.executor)}; expected a name or a function.")
        load_executor(self.executor_name)

    @property
    def executor_name(self) -> str | Callable[..., Any]:
        """The executor, with its default filled in."""
        return self.executor or ("processes" if self.jobs else "inline")


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _texts(values: Any, option: str) -> tuple[str, ...]:
    """Return a collection of texts or paths as texts."""
    listed = list(values) if isinstance(values, Iterable) and getattr(values, "ndim", 1) == 1 else [None]
    if not all(isinstance(value, (str, Path)) for value in listed):
        raise ConfigError(f"{option} is {shown(values)}; expected a list of texts.")
    return tuple(map(str, listed))


def as_names(names: str | Path | Iterable[str], option: str = "names") -> tuple[str, ...]:
    """Return distinct names in their order; those in a text are joined by commas.

    Raises
    ------
    ConfigError
        If `names` is neither text, a path nor a collection of these; the message contains `option`.
    """
    if isinstance(names, Path):
        names = [str(names)]
    parts = [part.strip() for part in names.split(",")] if isinstance(names, str) else _texts(names, option)
    return tuple(dict.fromkeys(part for part in parts if part))


def as_seeds(seeds: int | str | Iterable[int]) -> tuple[int, ...]:
    """Return distinct seeds.

    Parameters
    ----------
    seeds : int, str or iterable of int
        A number, also as text, is a count: ``10`` stands for 0 to 9. ``"100,101"`` and ``"100-109"`` list the seeds,
        ``"7,"`` the seed 7 alone.

    Raises
    ------
    ConfigError
        If `seeds` is none of these, contains a negative seed or stands for more than 10,000.
    """
    if not isinstance(seeds, (str, int)):
        if not isinstance(seeds, Iterable) or getattr(seeds, "ndim", 1) != 1:
            raise ConfigError(f"seeds is {shown(seeds)}; expected a number or a list of them.")
        listed = list(seeds)
        if not all(map(_is_whole, listed)):
            raise ConfigError(f"seeds is {shown(seeds)}; expected whole numbers.", hint="Example: seeds=[0, 1, 2].")
        seeds = tuple(dict.fromkeys(map(int, listed)))
        if any(seed < 0 for seed in seeds):
            raise ConfigError(f"seeds: {min(seeds)} is negative.", hint="Expected seeds from 0 on.")
        return seeds
    text = str(seeds)
    hint = "Expected a number (10: seeds 0 to 9), 100,101 or 100-109."
    parts = [part.strip() for part in text.split(",")]
    try:
        if len(parts) == 1 and "-" not in text:
            ranges = [range(int(text))]
        else:
            ranges = [_seed_range(part) for part in filter(None, parts)]
    except ValueError:
        ranges = []
    # A range that runs backwards is a slip, even if other parts are valid.
    if not ranges or any(not part or part[0] < 0 for part in ranges):
        raise ConfigError(f"seeds: '{text}' stands for no seeds.", hint=hint)
    if sum(part.stop - part.start for part in ranges) > _MOST_SEEDS:
        raise ConfigError(f"seeds: '{text}' stands for more than {_MOST_SEEDS:,} seeds.", hint=hint)
    return tuple(dict.fromkeys(itertools.chain.from_iterable(ranges)))


def _seed_range(part: str) -> range:
    first, dash, last = part.partition("-")
    return range(int(first), int(last if dash else first) + 1)


def seeds_text(seeds: Sequence[int]) -> str:
    """Return the shortest text from which `as_seeds` reads these seeds."""
    regular = all(seed == i for i, seed in enumerate(seeds, seeds[0]))
    if regular and seeds[0] == 0:
        return str(len(seeds))
    if regular and len(seeds) > 1:
        return f"{seeds[0]}-{seeds[-1]}"
    return ",".join(map(str, seeds)) + ("," if len(seeds) == 1 else "")
