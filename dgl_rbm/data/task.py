"""Node classification tasks: a validated graph with features, labels, a split and a setting.

Training, encoders and regularizers receive an `ObservedGraph`, which prevents leaks: it lacks the unseen nodes of the
inductive setting, their edges, and every label outside the training and validation nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from dgl_rbm.data.structure import induced
from dgl_rbm.rows.digest import digest
from dgl_rbm.rows.node_ids import NodeIds
from dgl_rbm.rows.sparse import Rows, SparseRows, take

__all__ = ["GraphView", "NodeTask", "ObservedGraph", "Setting"]

Setting = Literal["transductive", "inductive"]


@dataclass(frozen=True)
class GraphView:
    """Graph with node features and without labels.

    Attributes
    ----------
    graph : dgl.DGLGraph
        Homogeneous, in CSC format; messages flow along its edges, source to destination. Its only field, absent if it
        is unweighted, is ``edata["weight"]``, float32 ``[E]``.
    features : Tensor or SparseRows
        float32 ``[N, F]``.
    node_ids : Tensor
        Node ids in the task's whole graph, int64 ``[N]``.
    """

    graph: Any
    features: Rows
    node_ids: Tensor

    def __len__(self) -> int:
        return self.graph.num_nodes()


@dataclass(frozen=True)
class ObservedGraph(GraphView):
    """Part of a task that is available to training.

    Attributes
    ----------
    labels : Tensor
        int64 ``[N]``; −1 for nodes that are neither for training nor for validation.
    train_idx, val_idx : Tensor
        Local node ids, int64, ascending.
    num_classes : int
        C.
    """

    labels: Tensor
    train_idx: Tensor
    val_idx: Tensor
    num_classes: int


@dataclass(frozen=True, repr=False)
class NodeTask:
    """Node classification task; `dgl_rbm.data.make_task` builds one and checks it.

    Attributes
    ----------
    name : str
        The dataset's name.
    graph : dgl.DGLGraph
        All nodes and edges, with the edges' weights as ``edata["weight"]`` if it is weighted.
    features : Tensor or SparseRows
        float32 ``[N, F]``, normalised.
    train_idx, val_idx, test_idx : Tensor
        Node ids, int64, ascending, disjoint.
    unseen_idx : Tensor
        Test nodes that the inductive setting hides from training; empty in the transductive setting.
    setting : {"transductive", "inductive"}
    num_classes : int
        C.
    normalization : FeatureNormalization
        Normalisation of the raw features, to be applied to every row that is predicted later.
    ids : NodeIds
        The nodes' own ids; all node ids above and in `GraphView` are positions in `graph`.
    classes : tuple of int or str
        The label that each class number stands for, length C.
    notes : tuple of str
        What of the source is not used or was read in another form.
    feature_names : tuple of str
        Names of the columns of the raw features; empty if they have none.
    """

    name: str
    graph: Any
    features: Rows
    train_idx: Tensor
    val_idx: Tensor
    test_idx: Tensor
    unseen_idx: Tensor
    setting: Setting
    num_classes: int
    normalization: Any
    _labels: Tensor = field(repr=False)
    ids: NodeIds = field(repr=False)
    classes: tuple[int | str, ...]
    notes: tuple[str, ...] = ()
    feature_names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        sizes = "/".join(f"{len(part):,}" for part in (self.train_idx, self.val_idx, self.test_idx))
        unseen = f", {len(self.unseen_idx):,} of them unseen" if len(self.unseen_idx) else ""
        return (
            f"NodeTask({self.name}: {self.graph.num_nodes():,} nodes, {self.graph.num_edges():,} edges, "
            f"{self.features.shape[1]:,} features, {self.num_classes} classes, train/val/test {sizes}{unseen}, "
            f"{self.setting})"
        )

    def observed(self) -> ObservedGraph:
        """Return the part that is available to training: without the unseen nodes of the inductive setting."""
        labels = torch.full_like(self._labels, -1)
        for known in (self.train_idx, self.val_idx):
            labels[known] = self._labels[known]
        count = self.graph.num_nodes()
        if not len(self.unseen_idx):
            return ObservedGraph(
                self.graph,
                self.features,
                torch.arange(count),
                labels,
                self.train_idx,
                self.val_idx,
                self.num_classes,
            )
        seen = torch.ones(count, dtype=torch.bool)
        seen[self.unseen_idx] = False
        ids = seen.nonzero().squeeze(1)
        local = torch.full((count,), -1, dtype=torch.int64)
        local[ids] = torch.arange(len(ids))
        return ObservedGraph(
            graph=induced(self.graph, seen.numpy()),
            features=take(self.features, ids),
            node_ids=ids,
            labels=labels[ids],
            train_idx=local[self.train_idx],
            val_idx=local[self.val_idx],
            num_classes=self.num_classes,
        )

    def full(self) -> GraphView:
        """Return the whole graph without labels, for predictions on unseen nodes after training."""
        return GraphView(self.graph, self.features, torch.arange(self.graph.num_nodes()))

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 digests of the graph's parts: edges, features, labels, and the nodes' ids."""
        features = self.features
        if isinstance(features, Tensor):
            of_features = [features]
        else:
            assert isinstance(features, SparseRows), "a task's features are not stacked with anything"
            of_features = [features.csr.crow_indices(), features.csr.col_indices(), features.csr.values()]
        edges = [torch.as_tensor(part) for part in self.graph.adj_tensors("csc")[:2]]
        edges += [self.graph.edata[name] for name in sorted(self.graph.edata)]
        return {
            "edges": digest(edges),
            "features": digest(of_features),
            "labels": digest([self._labels], str(self.classes)),
            "ids": digest(self.ids.state_dict().values()),
        }

    def val_labels(self) -> Tensor:
        """Return the labels of `val_idx`, int64."""
        return self._labels[self.val_idx]

    def test_labels(self) -> Tensor:
        """Return the labels of `test_idx`, int64, for the evaluation after all training."""
        return self._labels[self.test_idx]
