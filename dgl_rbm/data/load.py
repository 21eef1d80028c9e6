"""Loading of a dataset as a checked `NodeTask`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dgl_rbm.config import ComponentConfig
from dgl_rbm.data.base import DatasetConfig
from dgl_rbm.data.build import build_task
from dgl_rbm.data.task import NodeTask, Setting
from dgl_rbm.registry import datasets
from dgl_rbm.runtime.process_state import isolated

__all__ = ["load_task"]


@isolated()
def load_task(
    dataset: str | Mapping[str, Any] | ComponentConfig, setting: Setting = "transductive", seed: int = 0
) -> NodeTask:
    """Load a dataset as a task.

    Parameters
    ----------
    dataset : str, mapping or config
        A name such as ``"cora"``, a mapping with ``kind``, or a config.
    setting : {"transductive", "inductive"}
        ``"inductive"`` hides a share of the test nodes, with their edges, from all training.
    seed : int
        Seed for the split, if the dataset has none, and for the unseen nodes.

    Raises
    ------
    DatasetNotFoundError
        If the dataset's files are missing and cannot be downloaded.
    DataError
        If they are damaged, or the graph is invalid; lists every problem.
    ConfigError
        If there is no such dataset, or an option has an invalid value.
    """
    config: DatasetConfig = datasets.resolve(dataset)
    return build_task(config.load(seed), setting=setting, seed=seed, **config.task_options())
