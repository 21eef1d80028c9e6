"""Merging of methods with user options, which override published settings, which override the method's file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast, get_args

from dgl_rbm.config import apply_overrides
from dgl_rbm.data.base import DatasetConfig
from dgl_rbm.errors import UnknownNameError
from dgl_rbm.methods.catalogue import RecipeName, load_method, merged
from dgl_rbm.specs import kind_of, list_components, override_path

__all__ = ["checked_recipe", "dataset_name", "method_values", "with_graph_options", "with_lookups"]

# Options that select the published settings.
_LOOKUPS = ("dataset", "dataset.kind", "dataset.name", "setting", "teacher", "teacher.kind")


def dataset_name(spec: Any) -> str | None:
    """Return the name by which published settings are looked up for a dataset's name, mapping or config."""
    if isinstance(spec, DatasetConfig):
        return spec.graph_name
    name = (spec.get("name") or spec.get("kind")) if isinstance(spec, Mapping) else spec
    return None if name is None else str(name)


def checked_recipe(name: str) -> RecipeName:
    """Return `name` if it is the name of a recipe.

    Raises
    ------
    UnknownNameError
        If there is no such recipe; the message suggests the closest name.
    """
    if not isinstance(name, str) or name not in get_args(RecipeName):
        raise UnknownNameError("recipe", name, get_args(RecipeName))
    return cast(RecipeName, name)


def with_lookups(given: Mapping[str, Any], overrides: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Apply the dotted assignments that select published settings, ahead of `method_values`.

    Parameters
    ----------
    given : mapping
        As for `method_values`.
    overrides : sequence of str
        As for `dgl_rbm.config.apply_overrides`.

    Returns
    -------
    given : dict
        `given` with the assigned dataset, setting and teacher.
    left : list of str
        The remaining assignments in their order, to apply to the result of `method_values`.
    """
    first = [override for override in overrides if override_path(override) in _LOOKUPS]
    if not first:
        return dict(given), list(overrides)
    left = [override for override in overrides if override not in first]
    return apply_overrides(given, first), left


def method_values(method: str, given: Mapping[str, Any], recipe: str = "published") -> dict[str, Any]:
    """Return the values of a method overridden by `given`, as nested plain values of a configuration.

    Parameters
    ----------
    method : str
        Name of the method.
    given : mapping
        Option to value, as in a configuration file. ``dataset``, ``setting`` and ``teacher`` also select the published
        settings. A component of the same kind as the method's keeps those of the method's options that are not given.
    recipe : {"published", "default"}
        See `Method.values`.

    Raises
    ------
    UnknownNameError
        If there is no such method or recipe.
    """
    name = checked_recipe(recipe)
    teacher = kind_of(given.get("teacher"))
    base = load_method(method).values(
        dataset_name(given.get("dataset")),
        str(given.get("setting", "transductive")),
        name,
        teacher=teacher,
    )
    return base | {name: _over(name, base.get(name), value) for name, value in given.items()}


def with_graph_options(spec: Any, options: Mapping[str, Any]) -> Any:
    """Return a graph's name, mapping or config with those of the `options` that it does not set."""
    if isinstance(spec, DatasetConfig):
        known = type(spec).model_fields.keys() - spec.model_fields_set
        return spec.model_copy(update={name: value for name, value in options.items() if name in known - {"kind"}})
    if spec is None or not options:
        return spec
    return {**options, **(spec if isinstance(spec, Mapping) else {"kind": spec})}


def _over(name: str, base: Any, given: Any) -> Any:
    if name == "dataset":
        return with_graph_options(given, base or {})
    if name in ("encoder", "regularizer"):
        own = {part["kind"]: part for part in base}
        # Options without a kind are those of the only component.
        only = base[0] if len(base) == 1 else None
        return [_over("", own.get(kind_of(part), only), part) for part in list_components(given)]
    if isinstance(base, Mapping):
        if isinstance(given, str):
            return base if base.get("kind") == given else given
        if isinstance(given, Mapping) and given.get("kind", base.get("kind")) == base.get("kind"):
            return merged(base, given)
    return given
