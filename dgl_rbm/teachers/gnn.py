"""Layered GNN: a stack of convolutions that runs on a graph, on sampled blocks, or one layer at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from dgl_rbm.errors import ConfigError
from dgl_rbm.norms import NormName, make_norm
from dgl_rbm.rows.sparse import Rows
from dgl_rbm.teachers.csc import CSCGraph
from dgl_rbm.teachers.traits import ModuleTraits

__all__ = ["LayeredGNN", "annotation", "layer_widths"]


def layer_widths(in_dim: int, hidden_dim: int, num_layers: int, num_classes: int) -> list[tuple[int, int]]:
    """Return the columns in and out of each of `num_layers` layers."""
    widths = [in_dim, *[hidden_dim] * (num_layers - 1), num_classes]
    return list(pairwise(widths))


class LayeredGNN(nn.Module):
    """Stack of convolutions; all but the last are followed by normalisation, activation and dropout.

    Parameters
    ----------
    layers : sequence of nn.Module
        Each is called as ``layer(graph_or_block, x)`` and returns one row per destination node; the first also
        accepts `SparseRows`. A layer whose attribute `reads_csc` is true accepts a `CSCGraph` too and runs under
        autocast; this holds for layers that aggregate with `dgl_rbm.teachers.message_passing.aggregate` alone.
    hidden_dim : int
        Output columns of all layers but the last.
    dropout : float
        Share of hidden values dropped in training.
    norm : {"none", "batch", "layer"}
        Normalisation of hidden values.
    activation : callable
        Applied to hidden values after the normalisation.

    Attributes
    ----------
    reads_sparse : bool
        Whether `forward` accepts `SparseRows`.
    reads_csc : bool
        Whether `forward` accepts a `CSCGraph` in place of DGL's graphs and runs under autocast, as all layers must.
        See `ModuleTraits`.
    """

    reads_sparse = True

    def __init__(
        self,
        layers: Sequence[nn.Module],
        *,
        hidden_dim: int,
        dropout: float = 0.0,
        norm: NormName = "none",
        activation: Callable[[Tensor], Tensor] = torch.relu,
    ) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.num_layers = len(layers)
        self.layers = nn.ModuleList(layers)
        self.norms = nn.ModuleList(make_norm(norm, hidden_dim) for _ in layers[:-1])
        self.dropout = nn.Dropout(dropout)
        self.activation = activation
        self.reads_csc = all(ModuleTraits.of(layer).reads_csc for layer in layers)

    @staticmethod
    def annotate(graph: Any, target: Any) -> None:
        """Write the values of the whole graph that the layers need to `target`.

        The base class writes nothing. The method is static so that workers of a data loader can call it.

        Parameters
        ----------
        graph : dgl.DGLGraph
            The whole graph.
        target : dgl.DGLGraph
            A local variable of it, or a block sampled from it.
        """

    def forward(self, graph: Any, x: Rows, return_hidden: bool = False) -> Tensor | tuple[Tensor, Tensor | None]:
        """Compute logits.

        Parameters
        ----------
        graph : dgl.DGLGraph, CSCGraph, or sequence of blocks
            A graph of N nodes, or one block per layer, the first layer's first. A `CSCGraph` comes annotated.
        x : Tensor or SparseRows
            float32 ``[N, F]``; with blocks one row per source node of the first.
        return_hidden : bool
            Whether to return the inputs of the last layer as well.

        Returns
        -------
        logits : Tensor
            float32 ``[N, C]``; with blocks one row per destination node of the last.
        hidden : Tensor or None
            Only with `return_hidden`: float32 ``[N, H]``, or one row per source node of the last block; None
            for a single layer, whose inputs are the features.
        """
        hidden = None
        for depth, part in enumerate(self._one_per_layer(graph)):
            hidden = x if depth else None
            x = self.propagate(depth, part, x)
        return (x, hidden) if return_hidden else x  # type: ignore[return-value]

    def propagate(self, depth: int, graph: Any, x: Rows) -> Tensor:
        """Run layer `depth`, with normalisation, activation and dropout, on an annotated graph or a block."""
        h = self.layers[depth](graph, x)
        if depth + 1 == self.num_layers:
            return h
        return self.dropout(self.activation(self.norms[depth](h)))

    def _one_per_layer(self, graph: Any) -> Sequence[Any]:
        if isinstance(graph, Sequence):
            if len(graph) != self.num_layers:
                raise ConfigError(
                    f"{type(self).__name__} of {self.num_layers} layers was given {len(graph)} blocks, not one each.",
                    hint="Sample with one fan-out per layer.",
                )
            return graph
        if isinstance(graph, CSCGraph):
            return [graph] * self.num_layers
        local = graph.local_var()
        self.annotate(graph, local)
        return [local] * self.num_layers


def annotation(module: nn.Module) -> Callable[[Any, Any], None] | None:
    """Return the `annotate` function of a `LayeredGNN`, and None for other modules."""
    return module.annotate if isinstance(module, LayeredGNN) else None
