"""Grid of an experiment: variants × datasets × settings × seeds, each cell one run."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence

from dgl_rbm.errors import ConfigError, DglRbmError
from dgl_rbm.experiments.cell import Cell, Variant, VariantMaker
from dgl_rbm.experiments.options import ExperimentOptions
from dgl_rbm.run.config import RUN_IDENTITY, DistillConfig, resolve_config
from dgl_rbm.runtime.device import resolve_device
from dgl_rbm.specs import override_path, with_overrides

__all__ = ["expand"]


def expand(
    variants: Iterable[Variant | VariantMaker], options: ExperimentOptions, *, distinct: bool = True
) -> list[Cell]:
    """Return the cells of a grid; those of one dataset, setting and seed follow each other.

    Parameters
    ----------
    variants : iterable of Variant or callable
        A callable receives the names of dataset and setting and returns the variant for them.
    options : ExperimentOptions
    distinct : bool
        Whether to refuse two variants that are the same run: tables would list one run under two names.

    Raises
    ------
    ConfigError
        If there are no variants, an override sets what the grid itself sets, an option of any cell is wrong, or two
        variants are the same; the message names the first such cell.
    """
    variants = list(variants)
    if not variants:
        raise ConfigError("The experiment has no variants: expected at least one.")
    _check_overrides(options.overrides)
    # Once, before the cells are made.
    resolve_device(options.device)
    cells: dict[tuple[str, str, str, int], Cell] = {}
    for dataset, setting in itertools.product(options.datasets, options.settings):
        made = [variant if isinstance(variant, Variant) else variant(dataset, setting) for variant in variants]
        # If no variant has a teacher, an option of the teacher is an error like any other.
        any_teacher = any(_has_teacher(variant) for variant in made)
        for seed, variant in itertools.product(options.seeds, made):
            place = (variant.name, dataset, setting, seed)
            if place in cells:
                raise ConfigError(f"Two variants of the experiment are named '{variant.name}'.")
            overrides = options.overrides
            if any_teacher and not _has_teacher(variant):
                overrides = [text for text in overrides if not override_path(text).startswith("teacher.")]
            config = _config(variant, dataset, setting, seed, overrides, options)
            cells[place] = Cell(variant.name, dataset, setting, seed, config)
    if distinct:
        _check_distinct(cells.values(), options.overrides)
    return list(cells.values())


def _check_distinct(cells: Iterable[Cell], overrides: Sequence[str]) -> None:
    """Raise a ConfigError if two variants are the same run."""
    found: dict[tuple[str, str], Cell] = {}
    for cell in cells:
        other = found.setdefault((cell.dataset, json.dumps(cell.config.to_values(), sort_keys=True)), cell)
        if other is not cell:
            given = f"With {' '.join(f'--set {override}' for override in overrides)}, " if overrides else ""
            raise ConfigError(
                f"{given}'{other.variant}' and '{cell.variant}' are the same run on {cell.dataset}, {cell.setting}.",
                hint="Leave out one of them, or the option that makes them equal, such as --teacher or --set.",
            )


def _has_teacher(variant: Variant) -> bool:
    return variant.values.get("teacher") not in ("none", {"kind": "none"})


def _config(
    variant: Variant, dataset: str, setting: str, seed: int, overrides: Sequence[str], options: ExperimentOptions
) -> DistillConfig:
    """Return a run's configuration; raise a ConfigError that names the variant if an option is wrong."""
    own = variant.values.get("dataset")
    of_variant = dict(own) if isinstance(own, Mapping) else {}
    graph = {**of_variant, "kind": dataset} | ({} if options.split is None else {"split": options.split})
    merged = {**variant.values, "dataset": graph, "setting": setting, "seed": seed, "device": options.device}
    try:
        return resolve_config(with_overrides(merged, overrides))
    except DglRbmError as error:
        raise ConfigError(f"{variant.name}, {dataset}, {setting}: {error.message}", hint=error.hint) from None


def _check_overrides(overrides: Sequence[str]) -> None:
    """Raise a ConfigError if an override sets what the grid itself sets."""
    for override in overrides:
        path = override_path(override)
        part = path.partition(".")[0]
        if path in RUN_IDENTITY:
            hint = f"Use --{part}s; in Python, the argument {part}s."
        elif path in ("student", "student.kind"):
            hint = "Compare other methods; in Python, variants of your own."
        elif path in ("teacher", "teacher.kind"):
            hint = "Use --teacher, which leaves methods without a teacher alone; in Python, the variants' own teachers."
        else:
            continue
        raise ConfigError(
            f"--set {override}: '{path}' would be the same in all runs, whatever the tables call them.", hint=hint
        )
