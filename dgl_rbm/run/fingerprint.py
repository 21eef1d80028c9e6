"""Digests of graphs and files, which are part of the keys of results."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dgl_rbm._version import __version__
from dgl_rbm.config import ComponentConfig
from dgl_rbm.data.base import DatasetConfig
from dgl_rbm.data.structure import WEIGHT
from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.errors import DglRbmError
from dgl_rbm.rows.digest import digest
from dgl_rbm.rows.sparse import SparseRows

__all__ = ["dataset_digest", "file_digest", "graph_digest", "run_identity", "teacher_digest"]

_BYTES_AT_ONCE = 2**24
# Datasets whose download was tried: without a network each attempt takes long, and grids ask for every cell.
_fetched: set[str] = set()


def run_identity(observed: ObservedGraph, seed: int, device: torch.device) -> list[Any]:
    """Return what every stage of a run depends on: version, observed graph, seed and the kind of device.

    Test labels and, in the inductive setting, unseen nodes are not part of it, since training does not read them.
    """
    return [__version__, graph_digest(observed), seed, device.type]


def dataset_digest(dataset: ComponentConfig) -> str | None:
    """Return a digest of the files that a graph is read from, downloaded first if they are not on disk.

    None if the graph is generated, or if its files are not available.
    """
    if not isinstance(dataset, DatasetConfig):
        return None
    files, name = dataset.files(), dataset.model_dump_json()
    # Otherwise all runs after the one that downloads them would seem to be on another graph than those before it.
    if not files and name not in _fetched:
        _fetched.add(name)
        with suppress(DglRbmError):
            dataset.fetch()
        files = dataset.files()
    return _joint_digest(files)


def teacher_digest(teacher: ComponentConfig) -> str | None:
    """Return a digest of the files that a teacher reads, such as precomputed logits; None if it reads none."""
    return _joint_digest(teacher.files())


def _joint_digest(files: Sequence[Path]) -> str | None:
    states = [(path.resolve(), path.stat()) for path in files]
    content = [_digest_as_of(path, state.st_size, state.st_mtime_ns) for path, state in states]
    return hashlib.sha256(b"".join(content)).hexdigest() if files else None


@lru_cache(maxsize=1024)
def _digest_as_of(path: Path, size: int, changed: int) -> bytes:
    """Return the digest of a file, which is read once for all cells of a grid unless its size or date changes."""
    return file_digest(path)


def file_digest(path: Path) -> bytes:
    """Return the SHA-256 digest of a file's content, 32 bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_BYTES_AT_ONCE):
            digest.update(piece)
    return digest.digest()


def graph_digest(observed: ObservedGraph) -> str:
    """Return a digest of the observed graph: node ids, weighted edges, features, known labels and split."""
    features = observed.features
    # The in-edges as they are stored: a list of edges would have to be made, and would stay in the graph.
    structure = [torch.as_tensor(part) for part in observed.graph.adj_tensors("csc")[:2]]
    structure += [observed.graph.edata[WEIGHT]] if WEIGHT in observed.graph.edata else []
    parts: list[Tensor] = [observed.node_ids, *structure, observed.labels, observed.train_idx, observed.val_idx]
    if isinstance(features, Tensor):
        parts.append(features)
    else:
        assert isinstance(features, SparseRows), "a task's features are not stacked with anything"
        parts += [features.csr.crow_indices(), features.csr.col_indices(), features.csr.values()]
    return digest(parts, str(observed.num_classes))
