"""Distil graph neural networks into students that read one row of features.

The public names are loaded when they are first used: importing a student alone does not import DGL.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dgl_rbm._version import __version__

if TYPE_CHECKING:
    from dgl_rbm._dgl import dgl
    from dgl_rbm.artifacts import SavedRun, load_run
    from dgl_rbm.data.make import make_task, task_from_graph
    from dgl_rbm.data.task import NodeTask
    from dgl_rbm.distiller import Distiller
    from dgl_rbm.encodings import Encodings
    from dgl_rbm.errors import DglRbmError
    from dgl_rbm.result import DistillationResult
    from dgl_rbm.run_config import DistillConfig
    from dgl_rbm.serving import Predictor
    from dgl_rbm.table import DistillationTable
    from dgl_rbm.training.callbacks import Callback
    from dgl_rbm.training.context import RunContext

_MODULES = {
    "Callback": "training.callbacks",
    # Importable on any supported torch, which a plain `import dgl` is not.
    "dgl": "_dgl",
    "DglRbmError": "errors",
    "DistillConfig": "run_config",
    "DistillationResult": "result",
    "DistillationTable": "table",
    "Distiller": "distiller",
    "Encodings": "encodings",
    "NodeTask": "data.task",
    "Predictor": "serving",
    "RunContext": "training.context",
    "SavedRun": "artifacts",
    "load_run": "artifacts",
    "make_task": "data.make",
    "task_from_graph": "data.make",
}

__all__ = [
    "Callback",
    "DglRbmError",
    "DistillConfig",
    "DistillationResult",
    "DistillationTable",
    "Distiller",
    "Encodings",
    "NodeTask",
    "Predictor",
    "RunContext",
    "SavedRun",
    "__version__",
    "dgl",
    "load_run",
    "make_task",
    "task_from_graph",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'dgl_rbm' has no attribute {name!r}")
    return getattr(importlib.import_module(f"dgl_rbm.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
