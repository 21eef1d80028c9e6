r"""Histograms of the training labels around a node, near ones counting more: the encoding of CoHOp.

CoHOp (Winter, Cohen and Hoshen, "Classifying nodes in graphs without GNNs", 2024) classifies a node by its features
and the labels of its neighbourhood. Let M take means over neighbours and Y0 hold the one-hot training labels. The
stored vectors are the rows of

.. math::
    \sum_{d=0}^{h-1} \gamma^d M^d Y_0,

each scaled to sum to one, and a node's encoding is their mean over its neighbours: the labels that walks of one to h
steps come to, those of d steps weighed by :math:`\gamma^{d-1}`, from one read per neighbour.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from dgl_rbm.data.neighbors import NeighborMean
from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.encoders.base import EncoderConfig, EncoderOutput, EncodingWeight, encoder_output
from dgl_rbm.encoders.label_propagation import LabelPropagationEncoder
from dgl_rbm.registry import encoders
from dgl_rbm.runtime.context import Stage

__all__ = ["LabelHistogramConfig", "LabelHistogramEncoder"]


class LabelHistogramEncoder(LabelPropagationEncoder):
    """Shares of the classes among the training labels around a node; P = C, zeros where there is no label.

    A node's own label is kept from its encoding by folds, as in `LabelPropagationEncoder`. Leaving out each node's
    own label alone would tell it: of a neighbourhood that is the whole graph, just that label would be missing.

    Parameters
    ----------
    hops : int
        h, how far the labels may be.
    decay : float
        γ, what a step further takes of a label's weight, in ``(0, 1]``.
    folds, consistent
        See `LabelPropagationEncoder`.
    """

    kind = "label_histogram"

    def __init__(self, *, hops: int = 10, decay: float = 0.5, folds: int = 5, consistent: bool = True) -> None:
        super().__init__(steps=hops - 1, folds=folds, consistent=consistent)
        self.hops, self.decay = hops, decay

    def _propagated(self, mean: NeighborMean, observed: ObservedGraph, known: Tensor, stage: Stage) -> EncoderOutput:
        reached = torch.zeros(len(observed), observed.num_classes)
        reached[known, observed.labels[known]] = 1.0
        counts = reached.clone()
        for done in range(self.hops - 1):
            # The weight is in the labels that travel on.
            reached = mean(reached).mul_(self.decay)
            counts += reached
            stage.substep(done + 1, self.hops - 1)
        # Rows without labels are zeros and stay so.
        shares = counts.div_(counts.sum(dim=1, keepdim=True).clamp_(min=torch.finfo(counts.dtype).tiny))
        return encoder_output(mean, shares, consistent=self.consistent)


@encoders.register
class LabelHistogramConfig(EncoderConfig):
    """Shares of the classes among the training labels around a node."""

    kind: Literal["label_histogram"] = "label_histogram"
    weight: EncodingWeight = 0.1
    hops: int = Field(default=10, ge=1, description="Edges that a label may be away.")
    decay: float = Field(default=0.5, gt=0, le=1, description="Weight of a label beside that of one an edge nearer.")
    folds: int = Field(
        default=5,
        ge=2,
        description="Parts that the training nodes are split into, so that no node's own label reaches its encoding.",
    )

    def build(self) -> LabelHistogramEncoder:
        """Build the encoder."""
        return LabelHistogramEncoder(**self.options())
