"""From values that a search chooses for options to the configuration of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from dgl_rbm.errors import ConfigError
from dgl_rbm.run_config import RUN_IDENTITY, DistillConfig, resolve_config, with_overrides
from dgl_rbm.tuning.space import Choices, Space

__all__ = ["check_space", "configured"]

# Of the graph these alone may be searched: trials under other values of the rest would not be of the graph that the
# search is for, or not be judged alike.
_OF_DATASET = ("dataset.normalize", "dataset.rescale", "dataset.symmetrize")
_FIXED = (*RUN_IDENTITY, "device")


def configured(base: DistillConfig, params: Mapping[str, Any], seed: int | None = None) -> DistillConfig:
    """Return a configuration with chosen values in place of its own.

    Parameters
    ----------
    base : DistillConfig
    params : mapping of str to object
        Dotted path to value. A path that ends in ``kind`` puts another component, with its own defaults, in the place
        of one of another kind, before any other value.
    seed : int, optional
        In place of the configuration's.

    Raises
    ------
    ConfigError
        Where there is no such option, it cannot have the value, or values cannot be had together.
    """
    components, options = [], []
    for name, value in params.items():
        if not name.endswith(".kind"):
            options.append(f"{name}={yaml.safe_dump(value).split(chr(10))[0]}")
        elif _at(base, name) != value:
            components.append(f"{name.removesuffix('.kind')}={{kind: {value}}}")
    values = with_overrides(base.to_values(), [*components, *options])
    return resolve_config(values if seed is None else values | {"seed": seed})


def _at(config: DistillConfig, path: str) -> Any:
    """Return what a configuration has at a dotted path, None where there is no such place."""
    value: Any = config
    for key in path.split("."):
        if isinstance(value, list):
            value = value[int(key)] if key.isdecimal() and int(key) < len(value) else None
        else:
            value = getattr(value, key, None)
    return value


def check_space(space: Space, base: DistillConfig) -> None:
    """Raise a ConfigError where a space has an option that does not exist, lacks a value, or is not to be searched.

    The ends of a range and all choices are tried, each with the configuration's own values of the other options.
    """
    for name, dimension in space.items():
        if name in _FIXED or (name.startswith("dataset.") and name not in _OF_DATASET):
            raise ConfigError(
                f"The search space has '{name}', and trials of different values of it are not comparable.",
                hint=f"Search for each value on its own: --set {name}=VALUE.",
            )
        inner = next((other for other in space if other.startswith(f"{name}.")), None)
        if inner is not None:
            raise ConfigError(
                f"The search space has '{name}' and '{inner}', which is a part of it.",
                hint=f"Leave one out, or search '{name}.kind', which goes with options of the component.",
            )
        ends = dimension.choices if isinstance(dimension, Choices) else [dimension.low, dimension.high]
        for value in ends:
            _check_value(space, base, name, value)


def _check_value(space: Space, base: DistillConfig, name: str, value: Any) -> None:
    """Raise a ConfigError where an option cannot have a value, whatever kind its component is chosen to be."""
    kind = f"{name.rpartition('.')[0]}.kind"
    kinds = space.get(kind) if name != kind else None
    tried: list[dict[str, Any]] = [{name: value}]
    if isinstance(kinds, Choices):
        tried += [{kind: choice, name: value} for choice in kinds.choices]
    errors = []
    for params in tried:
        try:
            configured(base, params)
            return
        except ConfigError as error:
            errors.append(error)
    raise ConfigError(f"The search space, {name} = {value}: {errors[0].message}", hint=errors[0].hint)
