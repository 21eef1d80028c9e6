"""From a dataset's name or config to a checked `NodeTask`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dgl_rbm.config import ComponentConfig
from dgl_rbm.data.base import DatasetConfig
from dgl_rbm.data.build import build_task
from dgl_rbm.data.task import NodeTask, Setting
from dgl_rbm.registry import datasets

__all__ = ["load_task"]


def load_task(
    dataset: str | Mapping[str, Any] | ComponentConfig, setting: Setting = "transductive", seed: int = 0
) -> NodeTask:
    """Load a dataset and make a task of it.

    Parameters
    ----------
    dataset : str, mapping or config
        A name such as ``"cora"``, a mapping with ``kind``, or a config.
    setting : {"transductive", "inductive"}
        Whether some test nodes are hidden, with their edges, from all training.
    seed : int
        For drawing the split and the unseen nodes, where the dataset fixes none.

    Raises
    ------
    DatasetNotFoundError
        Where the dataset's files are neither on disk nor to be downloaded.
    DataError
        Where they are damaged, or the graph cannot be used; names everything that is wrong.
    ConfigError
        Where there is no such dataset, or an option has a value that it cannot have.
    """
    config: DatasetConfig = datasets.resolve(dataset)
    return build_task(config.load(seed), setting=setting, seed=seed, **config.task_options())
