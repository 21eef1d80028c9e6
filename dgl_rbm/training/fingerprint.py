"""Identifies a run's options and data, so that a checkpoint is only ever used by the run it belongs to."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dgl_rbm._version import __version__
from dgl_rbm.sparse import SparseRows

if TYPE_CHECKING:
    from dgl_rbm.config import ComponentConfig
    from dgl_rbm.data.task import ObservedGraph
    from dgl_rbm.run_config import DistillConfig

__all__ = ["add_graph", "add_teacher_files", "fingerprint"]

_ROWS_AT_ONCE = 2**20


def fingerprint(config: DistillConfig, observed: ObservedGraph) -> str:
    """Return a digest of everything that training depends on: version, options, and the observed graph.

    Test labels and, in the inductive setting, unseen nodes are not part of it, as they are not of training.
    """
    digest = hashlib.sha256(__version__.encode())
    digest.update(json.dumps(config.to_values(), sort_keys=True).encode())
    digest.update(str(observed.num_classes).encode())
    add_teacher_files(digest, config.teacher)
    add_graph(digest, observed)
    return digest.hexdigest()


def add_teacher_files(digest: hashlib._Hash, teacher: ComponentConfig) -> None:
    """Add to `digest` the content of the files that a teacher reads: of ready logits a config only has the path."""
    path = getattr(teacher, "path", None)
    if path is not None and Path(path).is_file():
        digest.update(hashlib.sha256(Path(path).read_bytes()).digest())
    for member in getattr(teacher, "members", ()):
        add_teacher_files(digest, member)


def add_graph(digest: hashlib._Hash, observed: ObservedGraph) -> None:
    """Add to `digest` the observed graph: edges, features, known labels and split."""
    features = observed.features
    # The in-edges as they lie there: a list of edges would have to be made, and would stay in the graph.
    structure = [torch.as_tensor(part) for part in observed.graph.adj_tensors("csc")[:2]]
    parts: list[Tensor] = [*structure, observed.labels, observed.train_idx, observed.val_idx]
    if isinstance(features, Tensor):
        parts.append(features)
    else:
        assert isinstance(features, SparseRows), "a task's features are not stacked with anything"
        parts += [features.csr.crow_indices(), features.csr.col_indices(), features.csr.values()]
    for part in parts:
        digest.update(str(tuple(part.shape)).encode())
        # Piece by piece: features may lie on disk, and Ctrl-C is heard in between.
        for piece in part.detach().cpu().split(_ROWS_AT_ONCE):
            digest.update(piece.contiguous().numpy().data)
