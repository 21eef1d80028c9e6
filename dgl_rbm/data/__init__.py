"""Node classification graphs: datasets, splits, checks, and the tasks that models are trained on.

The names below are imported on first use, so that modules that need no DGL import none.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "DatasetConfig": "base",
    "GraphView": "task",
    "LabeledGraph": "base",
    "NodeTask": "task",
    "ObservedGraph": "task",
    "load_task": "load",
    "make_task": "make",
    "task_from_graph": "make",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
