r"""Histogram of the training labels around a node, weighted by distance: the encoding of CoHOp.

CoHOp (Winter, Cohen and Hoshen, "Classifying nodes in graphs without GNNs", 2024) classifies a node by its features
and the labels of its neighbourhood. Let M be the row-normalised adjacency matrix and Y0 the one-hot training labels.
The stored vectors are the rows of

.. math::
    \sum_{d=0}^{h-1} \gamma^d M^d Y_0,

each scaled to sum to one, and a node's encoding is their mean over its neighbours: the labels at the ends of walks of
one to h steps, weighted by :math:`\gamma^{d-1}` for d steps, from one read per neighbour.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from dgl_rbm.data.neighbors import NeighborMean
from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.encoders.base import EncoderConfig, EncoderOutput, EncodingWeight, encoder_output
from dgl_rbm.encoders.label_propagation import LabelPropagationEncoder
from dgl_rbm.registry import encoders
from dgl_rbm.runtime.context import RunContext

__all__ = ["LabelHistogramConfig", "LabelHistogramEncoder"]


class LabelHistogramEncoder(LabelPropagationEncoder):
    """Class frequencies among the training labels around a node; P = C, zeros if there is no label.

    Folds exclude a node's own label from its encoding, as in `LabelPropagationEncoder`. Excluding that label alone
    would leak it: in a neighbourhood that is the whole graph, it would be the one that is missing.

    Parameters
    ----------
    hops : int
        h, the maximum distance of labels.
    decay : float
        γ, the factor on a label's weight per hop, in ``(0, 1]``.
    folds, consistent
        See `LabelPropagationEncoder`.
    """

    kind = "label_histogram"

    def __init__(self, *, hops: int = 10, decay: float = 0.5, folds: int = 5, consistent: bool = True) -> None:
        super().__init__(steps=hops - 1, folds=folds, consistent=consistent)
        self.hops, self.decay = hops, decay

    def _propagated(
        self, mean: NeighborMean, observed: ObservedGraph, known: Tensor, context: RunContext
    ) -> EncoderOutput:
        reached = torch.zeros(len(observed), observed.num_classes)
        reached[known, observed.labels[known]] = 1.0
        counts = reached.clone()
        for done in range(self.hops - 1):
            # Decay accumulates in the propagated labels.
            reached = mean(reached).mul_(self.decay)
            counts += reached
            context.substep(done + 1, self.hops - 1)
        # Rows without labels stay zero.
        shares = counts.div_(counts.sum(dim=1, keepdim=True).clamp_(min=torch.finfo(counts.dtype).tiny))
        return encoder_output(mean, shares, consistent=self.consistent)


@encoders.register
class LabelHistogramConfig(EncoderConfig):
    """Class frequencies among the training labels around a node."""

    class_scores: ClassVar[bool] = True

    kind: Literal["label_histogram"] = "label_histogram"
    weight: EncodingWeight = 0.1
    hops: int = Field(default=10, ge=1, le=1000, description="Maximum distance of labels, in hops.")
    decay: float = Field(default=0.5, gt=0, le=1, description="Factor on a label's weight per hop.")
    folds: int = Field(
        default=5,
        ge=2,
        description="Folds of the training nodes; a node's own label never reaches its encoding.",
    )

    def build(self) -> LabelHistogramEncoder:
        """Build the encoder."""
        return LabelHistogramEncoder(**self.options())
