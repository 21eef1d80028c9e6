"""APPNP (Gasteiger, Bojchevski and Günnemann, Predict then Propagate, ICLR 2019)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn.functional import dropout

from dgl_rbm.data.task import GraphView
from dgl_rbm.errors import ConfigError
from dgl_rbm.norms import NormName, make_norm
from dgl_rbm.registry import teachers
from dgl_rbm.rows.sparse import Rows, SparseRows, linear, take
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.runtime.process_state import inference
from dgl_rbm.teachers.base import TeacherConfig, TeacherOutput
from dgl_rbm.teachers.gcn import GCN, normalized_sum
from dgl_rbm.teachers.gnn import LayeredGNN, layer_widths
from dgl_rbm.teachers.inference import full_graph_output, readable
from dgl_rbm.teachers.message_passing import laid_out
from dgl_rbm.teachers.options import TeacherTraining
from dgl_rbm.teachers.sampling import Placement
from dgl_rbm.teachers.training import GNNTeacher

__all__ = ["APPNP", "AppnpConfig", "AppnpTeacher", "FeatureMLP", "PropagationStep"]

_ROWS_AT_ONCE = 65_536


class FeatureMLP(nn.Module):
    """MLP on the features alone; its first layer also accepts sparse rows.

    Parameters
    ----------
    in_dim, hidden_dim, num_layers, num_classes : int
        F, H, number of layers including the output layer, and C.
    dropout : float
        Dropout rate of each layer's inputs, the features included, as in the paper.
    norm : {"none", "batch", "layer"}
        Normalisation of hidden values.
    """

    def __init__(
        self, in_dim: int, hidden_dim: int, num_layers: int, num_classes: int, *, dropout: float, norm: NormName
    ) -> None:
        super().__init__()
        widths = layer_widths(in_dim, hidden_dim, num_layers, num_classes)
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in widths)
        self.norms = nn.ModuleList(make_norm(norm, hidden_dim) for _ in widths[:-1])
        self.dropout = dropout

    def forward(self, x: Rows) -> Tensor:
        """Return the logits ``[B, C]`` of rows ``[B, F]``, before propagation."""
        return self.output(self._dropped(self.hidden(x)))

    def hidden(self, x: Rows) -> Rows:
        """Return the inputs of the last layer, ``[B, H]``; the features themselves if it is the only layer."""
        for layer, norm in zip(self.layers[:-1], self.norms, strict=True):
            x = torch.relu(norm(_affine(layer, self._dropped(x))))
        return x

    def output(self, x: Rows) -> Tensor:
        """Return the outputs of the last layer, ``[B, C]``."""
        return _affine(self.layers[-1], x)

    def _dropped(self, x: Rows) -> Rows:
        if not (self.training and self.dropout):
            return x
        if isinstance(x, Tensor):
            return dropout(x, self.dropout)
        if isinstance(x, SparseRows):
            # Dropping a zero changes nothing.
            csr = x.csr
            values = dropout(csr.values(), self.dropout)
            return SparseRows(torch.sparse_csr_tensor(csr.crow_indices(), csr.col_indices(), values, csr.shape))
        return dropout(x.to_dense(), self.dropout)


def _affine(layer: Any, x: Rows) -> Tensor:
    return linear(x, layer.weight, layer.bias)


class PropagationStep(nn.Module):
    """One step of personalised PageRank: ``z ← (1 − α)·Â z + α·h`` (eq. 5 of the paper).

    Â is the adjacency matrix with self-loops, symmetrically normalised by the degrees of the whole graph. The logits z
    and the teleport rows h are concatenated in one tensor, so that a block carries both.

    Parameters
    ----------
    alpha : float
        α.
    """

    reads_csc = True

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, graph: Any, state: Tensor) -> Tensor:
        """Return the next state ``[D, 2C]`` of the graph's destination nodes; `state` is ``[S, 2C]``."""
        scores, start = state.chunk(2, dim=1)
        start = start[: graph.num_dst_nodes()]
        moved = (1 - self.alpha) * normalized_sum(graph, scores) + self.alpha * start
        return torch.cat([moved, start], dim=1)


class APPNP(LayeredGNN):
    """MLP on the features whose logits are propagated by personalised PageRank.

    The interface is that of a GNN with one layer per propagation step; the first layer also runs the MLP.

    Parameters
    ----------
    in_dim, num_classes : int
        F and C.
    hidden_dim, num_layers, dropout, norm
        Options of the MLP; see `FeatureMLP`.
    steps : int
        K.
    alpha : float
        α, the teleport probability.
    """

    def __init__(
        self,
        in_dim: int,
        num_classes: int,
        *,
        hidden_dim: int = 128,
        num_layers: int = 2,
        dropout: float = 0.5,
        norm: NormName = "none",
        steps: int = 10,
        alpha: float = 0.1,
    ) -> None:
        super().__init__([PropagationStep(alpha) for _ in range(steps)], hidden_dim=hidden_dim)
        self.mlp = FeatureMLP(in_dim, hidden_dim, num_layers, num_classes, dropout=dropout, norm=norm)
        # Propagation steps are not normalised.
        self.norms = nn.ModuleList()

    annotate = staticmethod(GCN.annotate)

    def propagate(self, depth: int, graph: Any, x: Rows) -> Tensor:
        """Run step `depth` on an annotated graph or a block; step 0 runs the MLP first."""
        if depth == 0:
            scores = self.mlp(x)
            x = torch.cat([scores, scores], dim=1)
        state: Tensor = self.layers[depth](graph, x)
        return state.chunk(2, dim=1)[0] if depth + 1 == self.num_layers else state

    def diffuse(self, graph: Any, start: Tensor) -> Tensor:
        """Propagate the rows `start`, ``[N, K]``, by all steps on a whole graph."""
        state = torch.cat([start, start], dim=1)
        for step, part in zip(self.layers, self._one_per_layer(graph), strict=True):
            state = step(part, state)
        return state.chunk(2, dim=1)[0]


class AppnpTeacher(GNNTeacher):
    """Teacher that trains `APPNP`, always on the full graph.

    Propagated rows have only one column per class. If a full-graph step does not fit in memory, prediction runs the
    MLP on batches of rows and the propagation on the whole graph.
    """

    module: APPNP

    def __init__(self, module: APPNP, num_classes: int, training: TeacherTraining | None = None) -> None:
        super().__init__(module, num_classes, training, kind="appnp")
        # The default depth of students: propagation steps have no weights.
        self.num_layers = len(module.mlp.layers)

    def fanouts(self, placement: Placement) -> list[int] | None:
        """Return None for the full graph; raises `ConfigError` if sampling is requested."""
        _refuse_sampling(self.training)
        return None

    @inference
    def predict(
        self, view: GraphView, context: RunContext, *, features: Rows | None = None, return_hidden: bool = False
    ) -> TeacherOutput:
        """Predict every node of `view`.

        The hidden states are the inputs of the MLP's last layer, propagated as the logits are: without its bias, that
        layer commutes with the propagation.
        """
        placement = self._place(view, context)
        rows = view.features if features is None else features
        if placement.full_graph_fits and not return_hidden:
            return full_graph_output(
                self.module, view.graph, rows, placement.device, placement.aggregation, return_hidden=False
            )
        self.module.eval()
        device, mlp = placement.device, self.module.mlp
        scores, hidden = [], []
        for ids in torch.arange(len(view)).split(_ROWS_AT_ONCE):
            before = mlp.hidden(readable(self.module, take(rows, ids)).to(device))
            scores.append(mlp.output(before))
            if return_hidden and isinstance(before, Tensor) and len(mlp.layers) > 1:
                hidden.append(before)
            context.substep(int(ids[-1]) + 1, len(view))
        graph = laid_out(view.graph, device, placement.aggregation, self.module.annotate)
        logits = self.module.diffuse(graph, torch.cat(scores)).cpu()
        return TeacherOutput(logits, self.module.diffuse(graph, torch.cat(hidden)).cpu() if hidden else None)


def _refuse_sampling(training: TeacherTraining) -> None:
    if training.sampler == "neighbor" or training.fanouts is not None:
        raise ConfigError(
            "The teacher 'appnp' trains on the full graph only: its steps reach too far for sampled neighbourhoods.",
            hint="Leave teacher.training.sampler at 'auto' and teacher.training.fanouts at null, or use the teacher "
            "'sage', which samples.",
        )


@teachers.register
class AppnpConfig(TeacherConfig):
    """MLP on the features whose predictions are propagated by personalised PageRank."""

    kind: Literal["appnp"] = Field("appnp", description="Predictions propagated by personalised PageRank.")
    hidden_dim: int = Field(default=128, ge=1, description="Columns of the MLP's hidden layers.")
    num_layers: int = Field(
        default=2, ge=1, le=200, description="Number of layers of the MLP, the output layer included."
    )
    dropout: float = Field(
        default=0.5, ge=0, lt=1, description="Dropout rate of each layer's inputs, features included."
    )
    norm: NormName = Field(default="none", description="Normalisation of hidden values: 'none', 'batch' or 'layer'.")
    steps: int = Field(default=10, ge=1, description="Number of propagation steps, K.")
    alpha: float = Field(
        default=0.1, gt=0, le=1, description="Teleport probability α: weight of a node's own prediction in each step."
    )
    training: TeacherTraining = Field(
        default_factory=TeacherTraining, description="Training options; training is always on the full graph."
    )

    @field_validator("training")
    @classmethod
    def _full_graph(cls, training: TeacherTraining) -> TeacherTraining:
        try:
            _refuse_sampling(training)
        except ConfigError as error:
            raise ValueError(error.in_one_line) from None
        return training

    def build(self, in_dim: int, num_classes: int) -> AppnpTeacher:
        """Build the teacher."""
        module = APPNP(in_dim, num_classes, **self.options(without=["training"]))
        return AppnpTeacher(module, num_classes, self.training)
