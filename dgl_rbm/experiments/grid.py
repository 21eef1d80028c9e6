"""The grid of a comparison: variants × datasets × settings × seeds, each cell one run."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dgl_rbm._version import __version__
from dgl_rbm.errors import ConfigError, DglRbmError, UnknownNameError
from dgl_rbm.experiments.names import file_name
from dgl_rbm.run.config import RUN_IDENTITY, DistillConfig, resolve_config
from dgl_rbm.run.fingerprint import dataset_digest, teacher_digest
from dgl_rbm.runtime.device import resolve_device
from dgl_rbm.specs import override_path, with_overrides

__all__ = ["SETTINGS", "Cell", "Variant", "VariantMaker", "expand", "parse_seeds"]

SETTINGS = ("transductive", "inductive")
_MOST_SEEDS = 10_000
_PLACES = ("dataset", "setting", "seed", "device")


@dataclass(frozen=True)
class Variant:
    """What is compared: a method, or one choice of options in a study.

    Attributes
    ----------
    name : str
        Its name in tables.
    values : mapping of str to object
        Nested plain values as `dgl_rbm.run.config.resolve_config` takes them: teacher, student, encoder,
        regularizer, objective, training. Of ``dataset`` only options are read, without ``kind``.
    """

    name: str
    values: Mapping[str, Any]


VariantMaker = Callable[[str, str], Variant]


@dataclass(frozen=True)
class Cell:
    """One run of a comparison.

    Attributes
    ----------
    variant, dataset, setting : str
        Names, as they stand in tables.
    seed : int
        Of the run; the split is drawn with it too, where the dataset fixes none.
    config : DistillConfig
        Everything else, resolved.
    """

    variant: str
    dataset: str
    setting: str
    seed: int
    config: DistillConfig

    @property
    def title(self) -> str:
        """What it is, for people."""
        return f"{self.variant}, {self.dataset}, {self.setting}, seed {self.seed}"

    # Once, since it looks at files, and is asked for at every turn.
    @cached_property
    def digest(self) -> str:
        """Identifies version, options and the files that are read: a kept cell of other ones is another cell."""
        files = [dataset_digest(self.config.dataset), teacher_digest(self.config.teacher)]
        return _digest(__version__, self.config.to_values() | {"dataset": self._graph}, files)

    @property
    def _graph(self) -> dict[str, Any]:
        """The options of the graph but for those that only say where its files are and how they are read."""
        access = getattr(self.config.dataset, "access", ())
        values = self.config.to_values()["dataset"]
        return {name: value for name, value in values.items() if name not in access}

    @property
    def key(self) -> str:
        """The name of its file: readable, and different for different options."""
        return f"{file_name(f'{self.variant}-{self.dataset}-{self.setting}-{self.seed}')}-{self.digest[:12]}"

    # With the digest: a file that changes in between must not tell runs of one command apart.
    @cached_property
    def dataset_id(self) -> str:
        """Short digest of the graph's options and files: runs of another one are not on the same graph and split."""
        return _digest(self._graph, dataset_digest(self.config.dataset))[:8]

    @cached_property
    def teacher_id(self) -> str:
        """Short digest of the teacher's options and files, so that teachers of one kind can be told apart."""
        return _digest(self.config.to_values()["teacher"], teacher_digest(self.config.teacher))[:8]

    @cached_property
    def options_id(self) -> str:
        """Short digest of everything but graph, seed and device: runs of another one are not to be averaged."""
        values = {name: value for name, value in self.config.to_values().items() if name not in _PLACES}
        return _digest(values, teacher_digest(self.config.teacher))[:8]

    @property
    def group(self) -> str:
        """The same for cells that learn from the same teacher on the same graph."""
        values = self.config.to_values()
        return _digest(values["dataset"], values["teacher"], self.setting, self.seed)


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def expand(
    variants: Iterable[Variant | VariantMaker],
    datasets: Sequence[str],
    settings: Sequence[str],
    seeds: Sequence[int],
    *,
    split: str | None = None,
    overrides: Sequence[str] = (),
    device: str = "auto",
    distinct: bool = True,
) -> list[Cell]:
    """Make the cells of a grid, all of one graph, setting and seed after each other.

    Parameters
    ----------
    variants : iterable of Variant or callable
        A callable gets the names of dataset and setting and returns the variant for them.
    datasets, settings : sequence of str
        Names.
    seeds : sequence of int
    split : str, optional
        In place of the datasets' own: ``"0.6/0.2/0.2"`` (shares) or ``"20/30"`` (nodes per class).
    overrides : sequence of str
        Dotted assignments such as ``"training.epochs=300"``, for all cells; ``teacher.…`` for those with a teacher.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
    distinct : bool
        Whether two variants that are the same run are refused: tables would call one thing by two names.

    Returns
    -------
    list of Cell

    Raises
    ------
    ConfigError
        Where there is nothing to run, a name is unknown, an override is of what the grid itself says, an option of any
        cell is wrong, or two variants are the same; names the first cell that is affected.
    """
    variants = list(variants)
    _check_overrides(overrides)
    # Now rather than in every cell.
    resolve_device(device)
    for what, given in (("variants", variants), ("datasets", datasets), ("settings", settings), ("seeds", seeds)):
        if not given:
            raise ConfigError(f"The comparison has no {what}: expected at least one.")
    for setting in settings:
        if setting not in SETTINGS:
            raise UnknownNameError("setting", setting, SETTINGS)
    cells: dict[tuple[str, str, str, int], Cell] = {}
    for dataset, setting in itertools.product(dict.fromkeys(datasets), dict.fromkeys(settings)):
        made = [variant if isinstance(variant, Variant) else variant(dataset, setting) for variant in variants]
        # Where nobody has a teacher, an option of it is wrong like any other.
        of_teachers = any(_learns_from_one(variant) for variant in made)
        for seed, variant in itertools.product(dict.fromkeys(seeds), made):
            place = (variant.name, dataset, setting, seed)
            if place in cells:
                raise ConfigError(f"Two variants of the comparison are named '{variant.name}'.")
            taken = overrides
            if of_teachers and not _learns_from_one(variant):
                taken = [override for override in overrides if not override_path(override).startswith("teacher.")]
            config = _config(variant, dataset, setting, seed, split, taken, device)
            cells[place] = Cell(variant.name, dataset, setting, seed, config)
    if distinct:
        _check_distinct(cells.values(), overrides)
    return list(cells.values())


def _check_distinct(cells: Iterable[Cell], overrides: Sequence[str]) -> None:
    """Raise a ConfigError where two variants are the same run."""
    found: dict[tuple[str, str], Cell] = {}
    for cell in cells:
        other = found.setdefault((cell.dataset, _digest(cell.config.to_values())), cell)
        if other is not cell:
            given = f"With {' '.join(f'--set {override}' for override in overrides)}, " if overrides else ""
            raise ConfigError(
                f"{given}'{other.variant}' and '{cell.variant}' are the same run on {cell.dataset}, {cell.setting}.",
                hint="Leave out one of them, or what makes them alike, such as --teacher or --set.",
            )


def _learns_from_one(variant: Variant) -> bool:
    return variant.values.get("teacher") not in ("none", {"kind": "none"})


def _config(
    variant: Variant,
    dataset: str,
    setting: str,
    seed: int,
    split: str | None,
    overrides: Sequence[str],
    device: str,
) -> DistillConfig:
    """Return a run's configuration; raise a ConfigError, naming the variant, where it has a wrong option."""
    own = variant.values.get("dataset")
    options = dict(own) if isinstance(own, Mapping) else {}
    graph = {**options, "kind": dataset} | ({} if split is None else {"split": split})
    merged = {**variant.values, "dataset": graph, "setting": setting, "seed": seed, "device": device}
    try:
        return resolve_config(with_overrides(merged, overrides))
    except DglRbmError as error:
        raise ConfigError(f"{variant.name}, {dataset}, {setting}: {error.message}", hint=error.hint) from None


def _check_overrides(overrides: Sequence[str]) -> None:
    """Raise a ConfigError where an override would make a run another one than its place in the grid says."""
    for override in overrides:
        path = override_path(override)
        part = path.partition(".")[0]
        if path in RUN_IDENTITY:
            hint = f"Use --{part}s; in Python, the argument {part}s."
        elif path in ("student", "student.kind"):
            hint = "Compare other methods, or in Python variants of your own."
        elif path in ("teacher", "teacher.kind"):
            hint = "Use --teacher, which leaves alone what learns without one; in Python, the variants' own teachers."
        else:
            continue
        raise ConfigError(
            f"--set {override}: '{path}' would be the same in all runs, whatever the tables call them.", hint=hint
        )


def parse_seeds(text: str) -> list[int]:
    """Return the seeds that ``"10"`` (0 to 9), ``"100,101"`` or ``"100-109"`` stand for; ``"7,"`` is the seed 7 alone.

    Raises
    ------
    ConfigError
        Where `text` is none of these, or stands for more than 10,000 seeds.
    """
    hint = "Expected a number (10: seeds 0 to 9), 100,101 or 100-109."
    parts = [part.strip() for part in text.split(",")]
    try:
        if len(parts) == 1 and "-" not in text:
            ranges = [range(int(text))]
        else:
            ranges = [_seed_range(part) for part in filter(None, parts)]
    except ValueError:
        ranges = []
    # A range that runs backwards is a slip, whatever stands beside it.
    if not ranges or any(not seeds or seeds[0] < 0 for seeds in ranges):
        raise ConfigError(f"seeds: '{text}' stands for no seeds.", hint=hint)
    if sum(seeds.stop - seeds.start for seeds in ranges) > _MOST_SEEDS:
        raise ConfigError(f"seeds: '{text}' stands for more than {_MOST_SEEDS:,} seeds.", hint=hint)
    return list(dict.fromkeys(itertools.chain.from_iterable(ranges)))


def _seed_range(part: str) -> range:
    first, dash, last = part.partition("-")
    return range(int(first), int(last if dash else first) + 1)
