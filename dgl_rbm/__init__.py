"""Distil graph neural networks into students that read one row of features.

The public names are loaded when they are first used: importing a student alone does not import DGL.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dgl_rbm._version import __version__

if TYPE_CHECKING:
    from dgl_rbm.data.conversion.from_arrays import from_arrays
    from dgl_rbm.data.conversion.from_networkx import from_networkx
    from dgl_rbm.data.conversion.from_pyg import from_pyg
    from dgl_rbm.data.conversion.from_scipy import from_scipy
    from dgl_rbm.data.dgl_compat import dgl
    from dgl_rbm.data.frames import from_csv, from_pandas
    from dgl_rbm.data.make import make_task, task_from_graph
    from dgl_rbm.data.task import NodeTask
    from dgl_rbm.errors import DglRbmError
    from dgl_rbm.experiments.comparison import compare
    from dgl_rbm.experiments.studies.catalogue import study
    from dgl_rbm.experiments.tuning.tune import tune
    from dgl_rbm.run.config import DistillConfig
    from dgl_rbm.run.distiller import Distiller
    from dgl_rbm.run.run import Run
    from dgl_rbm.runtime.callbacks import Callback
    from dgl_rbm.runtime.context import RunContext
    from dgl_rbm.serving.encodings import Encodings
    from dgl_rbm.serving.predictor import Predictor
    from dgl_rbm.training.table import DistillationTable

_MODULES = {
    "Callback": "runtime.callbacks",
    "compare": "experiments.comparison",
    # Importable on any supported torch, which a plain `import dgl` is not.
    "dgl": "data.dgl_compat",
    "DglRbmError": "errors",
    "DistillConfig": "run.config",
    "DistillationTable": "training.table",
    "Distiller": "run.distiller",
    "Encodings": "serving.encodings",
    "NodeTask": "data.task",
    "Predictor": "serving.predictor",
    "Run": "run.run",
    "RunContext": "runtime.context",
    "from_arrays": "data.conversion.from_arrays",
    "from_csv": "data.frames",
    "from_networkx": "data.conversion.from_networkx",
    "from_pandas": "data.frames",
    "from_pyg": "data.conversion.from_pyg",
    "from_scipy": "data.conversion.from_scipy",
    "make_task": "data.make",
    "study": "experiments.studies.catalogue",
    "task_from_graph": "data.make",
    "tune": "experiments.tuning.tune",
}

__all__ = [
    "Callback",
    "DglRbmError",
    "DistillConfig",
    "DistillationTable",
    "Distiller",
    "Encodings",
    "NodeTask",
    "Predictor",
    "Run",
    "RunContext",
    "__version__",
    "compare",
    "dgl",
    "from_arrays",
    "from_csv",
    "from_networkx",
    "from_pandas",
    "from_pyg",
    "from_scipy",
    "make_task",
    "study",
    "task_from_graph",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'dgl_rbm' has no attribute {name!r}")
    return getattr(importlib.import_module(f"dgl_rbm.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
