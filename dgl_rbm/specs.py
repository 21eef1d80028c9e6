"""Shorthand for components and options: names joined by ``+``, paths as datasets, dotted assignments."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dgl_rbm.config import ComponentConfig, apply_overrides
from dgl_rbm.errors import ConfigError
from dgl_rbm.registry import DEFAULTS, datasets, encoders, regularizers, teachers

__all__ = [
    "combined_teacher",
    "kind_of",
    "list_components",
    "override_path",
    "resolve_dataset",
    "resolve_encoders",
    "resolve_regularizers",
    "resolve_teacher",
    "with_overrides",
]

# Options that hold a list of components.
_LISTS = ("encoder", "regularizer")

_GRAPH_FILES = (".bin", ".dgl", ".npz")


def resolve_dataset(spec: Any) -> ComponentConfig:
    """Resolve a dataset given by name, path, mapping or config; ``ogbn-*`` are names too.

    The path of a folder stands for DGL's CSV format, that of a ``.npz`` file for an archive of arrays, and that of any
    other file for a graph saved by ``dgl.save_graphs``.
    """
    values = {"kind": spec} if isinstance(spec, (str, Path)) else spec
    if isinstance(values, Mapping) and isinstance(values.get("kind"), (str, Path)):
        kind, options = str(values["kind"]), {key: value for key, value in values.items() if key != "kind"}
        if kind.startswith("ogbn-"):
            values = {"kind": "ogb", "name": kind, **options}
        elif kind not in datasets.names() and _looks_like_path(kind):
            values = {"kind": _kind_of_path(kind), "path": kind, **options}
        else:
            values = {"kind": kind, **options}
    return datasets.resolve(values)


def _kind_of_path(text: str) -> str:
    # Unlike the methods of `Path`, these functions do not raise for names that are too long.
    if os.path.isdir(os.path.expanduser(text)):
        return "csv"
    return "npz" if text.lower().endswith(".npz") else "file"


def _looks_like_path(text: str) -> bool:
    return "/" in text or "\\" in text or text.lower().endswith(_GRAPH_FILES) or os.path.exists(text)


def resolve_encoders(spec: Any) -> list[ComponentConfig]:
    """Resolve one encoder or several: a list, or names joined by ``+``."""
    return [encoders.resolve(part) for part in list_components(spec)]


def resolve_regularizers(spec: Any) -> list[ComponentConfig]:
    """Resolve one regularizer or several: a list, or names joined by ``+``; an empty list is ``none``.

    Raises
    ------
    ConfigError
        If one cannot be resolved, or one is listed twice.
    """
    found = [regularizers.resolve(part) for part in list_components(spec) or ["none"]]
    kinds = [config.kind for config in found if config.kind != "custom"]
    twice = sorted({kind for kind in kinds if kinds.count(kind) > 1})
    if twice:
        raise ConfigError(f"regularizer: '{twice[0]}' is listed twice.", hint="Change the weight of one.")
    return found


def kind_of(spec: Any) -> str | None:
    """Return the kind of a component given as a name, a mapping or a config; None if it has none."""
    if isinstance(spec, ComponentConfig):
        return spec.kind
    kind = spec.get("kind") if isinstance(spec, Mapping) else spec
    return kind if isinstance(kind, str) else None


def list_components(spec: Any) -> list[Any]:
    """Return the specifications of one component or several as a list, unresolved."""
    if isinstance(spec, str):
        return [part.strip() for part in spec.split("+")]
    return list(spec) if isinstance(spec, (list, tuple)) else [spec]


def resolve_teacher(spec: Any) -> ComponentConfig:
    """Resolve one teacher or several; a list, or names joined by ``+``, stands for their average."""
    return teachers.resolve(combined_teacher(spec))


def combined_teacher(spec: Any) -> Any:
    """Return the options of an `average` for several teachers; the specification of a single one is unchanged."""
    members = list_components(spec)
    return members[0] if len(members) == 1 else {"kind": "average", "members": members}


def override_path(override: str) -> str:
    """Return the dotted path of an assignment such as ``"student.num_experts=6"``."""
    return override.partition("=")[0].strip()


def with_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return `values` with dotted assignments applied, those into lists of components included.

    Parameters
    ----------
    values : mapping
        Option to value, as in a run's configuration.
    overrides : sequence of str
        As for `dgl_rbm.config.apply_overrides`. ``encoder.0.OPTION=value`` sets an option of the first encoder, with or
        without a list; ``encoder.OPTION=value`` that of the only one; the same goes for ``regularizer``.
        ``teacher.weights=value`` sets an option of the average if ``sage+appnp`` stands for it.
    """
    values = {**DEFAULTS, **values}
    for override in overrides:
        section, _, option = override_path(override).partition(".")
        if section in _LISTS and option:
            values[section] = list_components(values[section])
            if len(values[section]) == 1 and not option[0].isdecimal():
                override = override.replace(f"{section}.", f"{section}.0.", 1)
        elif section == "teacher" and option:
            values["teacher"] = combined_teacher(values["teacher"])
        values = apply_overrides(values, [override])
    return values
