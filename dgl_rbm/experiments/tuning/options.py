"""From values that a search chooses for options to the configuration of a run."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import yaml

from dgl_rbm.errors import ConfigError
from dgl_rbm.experiments.tuning.space import Choices, Space
from dgl_rbm.run.config import RUN_IDENTITY, DistillConfig, resolve_config
from dgl_rbm.specs import with_overrides

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
        If there is no such option, it cannot have the value, or values cannot be combined.
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
    """Return what a configuration has at a dotted path, None if there is no such path."""
    value: Any = config
    for key in path.split("."):
        if isinstance(value, list) and len(value) == 1 and not key.isdecimal():
            value = getattr(value[0], key, None)
        elif isinstance(value, list):
            value = value[int(key)] if key.isdecimal() and int(key) < len(value) else None
        else:
            value = getattr(value, key, None)
    return value


def check_space(space: Space, base: DistillConfig) -> None:
    """Raise a ConfigError if a space has an option that does not exist, lacks a value, or must not be searched.

    The ends of a range and all choices are tried, each with the configuration's own values of the other options.
    """
    for name, dimension in space.items():
        # Trials are known by their values, which say nothing of what is in a file.
        is_file = name.endswith(".path")
        if name in _FIXED or is_file or (name.startswith("dataset.") and name not in _OF_DATASET):
            raise ConfigError(
                f"The search space has '{name}', and trials of different values of it are not comparable.",
                hint=f"Search for each value on its own: --set {name}=VALUE.",
            )
        section, _, option = name.partition(".")
        components = getattr(base, section, None)
        if isinstance(components, list) and len(components) > 1 and option == "kind":
            kinds = "+".join(each.kind for each in components)
            raise ConfigError(
                f"The search space has '{name}', and the configuration has {len(components)} of them: {kinds}.",
                hint=f"Search '{section}.0.kind' for the first, or '{section}' with values such as {kinds}.",
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
    """Raise a ConfigError if an option cannot have a value with any kind of its component."""
    kinds = {
        other: of_kind.choices
        for other, of_kind in space.items()
        if isinstance(of_kind, Choices) and other != name and _is_kind_around(other, name)
    }
    errors = []
    # As it is first, and then with every choice of the kinds around it.
    for chosen in [(), *product(*kinds.values())] if kinds else [()]:
        try:
            configured(base, dict(zip(kinds, chosen, strict=False)) | {name: value})
            return
        except ConfigError as error:
            errors.append(error)
    # A component that has the option says what is wrong with the value.
    relevant = next((error for error in errors if "no such option" not in error.message), errors[0])
    raise ConfigError(f"The search space, {name} = {value}: {relevant.message}", hint=relevant.hint)


def _is_kind_around(kind: str, name: str) -> bool:
    return kind.endswith(".kind") and name.startswith(kind.removesuffix("kind"))
