"""Node fields of DGL graphs by name, list or pattern."""

from __future__ import annotations

import re
from collections.abc import Collection
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor

from dgl_rbm.data.tables import matching_names
from dgl_rbm.errors import DataError, closest

__all__ = ["find_features", "find_field", "unused_fields"]


def find_field(graph: Any, field: str, what: str, problems: list[str]) -> Tensor | None:
    """Return ``graph.ndata[field]``; None, and a problem, if the homogeneous graph has no such field."""
    if field in graph.ndata:
        return graph.ndata[field]
    known = sorted(graph.ndata)
    near = closest(field, known)
    guess = f" Did you mean '{near}'?" if near else ""
    problems.append(
        f"there is no node field '{field}' for the {what}.{guess} The graph has: {', '.join(known) or 'none'}."
    )
    return None


def find_features(graph: Any, fields: Any, problems: list[str], *, excluded: Collection[Any] = ()) -> Any:
    """Return node fields side by side, ``[N, F]``; None, and a problem, if one is missing.

    Parameters
    ----------
    graph : dgl.DGLGraph
        Homogeneous.
    fields : str, sequence of str, or array
        Names or patterns such as ``feat_*``; arrays are returned as they are.
    problems : list of str
        Problems are appended.
    excluded : collection
        Names that no pattern matches.
    """
    if isinstance(fields, str) and (fields in graph.ndata or not any(character in fields for character in "*?[")):
        return find_field(graph, fields, "features", problems)
    if not isinstance(fields, str) and not (isinstance(fields, (list, tuple)) and _all_text(fields)):
        return fields
    known = sorted(graph.ndata, key=_natural)
    try:
        names = matching_names(fields, known, "features", "the node fields", excluded=excluded)
    except DataError as error:
        problems.append(error.as_problem())
        return None
    parts = [graph.ndata[name] for name in names]
    deep = [name for name, part in zip(names, parts, strict=True) if part.dim() > 2]
    if deep:
        problems.append(f"the node field '{deep[0]}' has shape {tuple(graph.ndata[deep[0]].shape)}; expected [N, F].")
        return None
    return torch.cat([part.reshape(len(part), -1).float() for part in parts], dim=1)


def unused_fields(graph: Any, features: Any, others: Collection[Any]) -> list[str]:
    """Return a note that names the node fields that are neither features nor of the names `others`, if any."""
    names = [features] if isinstance(features, str) else features if isinstance(features, (list, tuple)) else []
    patterns = [name for name in names if isinstance(name, str)]
    # Arrays take no part in a comparison of names.
    used = {name for name in (*patterns, *others) if isinstance(name, str)}
    unused = [
        name
        for name in sorted(graph.ndata, key=_natural)
        # Names with an underscore are DGL's own.
        if not (name in used or name.startswith("_") or any(fnmatchcase(name, pattern) for pattern in patterns))
    ]
    return [f"these node fields are not used: {', '.join(unused)}."] if unused else []


def _all_text(fields: Collection[Any]) -> bool:
    return bool(fields) and all(isinstance(field, str) for field in fields)


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key in which ``feat_2`` comes before ``feat_10``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", name)]
