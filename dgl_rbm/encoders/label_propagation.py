"""Label propagation as an encoding: training labels are propagated over the graph, but not back to their own node.

The iteration is that of Zhou et al., "Learning with local and global consistency" (NIPS 2003), with the row-normalised
adjacency matrix M and the one-hot training labels Y0: ``Y <- alpha * M @ Y + (1 - alpha) * Y0``.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from dgl_rbm.data.neighbors import NeighborMean
from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.encoders.base import Encoder, EncoderConfig, EncoderOutput, EncodingWeight, encoder_output
from dgl_rbm.encoders.folds import encode_by_folds
from dgl_rbm.registry import encoders
from dgl_rbm.runtime.context import RunContext

__all__ = ["LabelPropagationConfig", "LabelPropagationEncoder"]


class LabelPropagationEncoder(Encoder):
    """Class scores from the training labels around a node; P = C.

    If a training node's input contained its own label, the student would learn to copy it. The training nodes are
    therefore encoded by folds; see `encode_by_folds`.

    Parameters
    ----------
    steps : int
        Number of iterations.
    alpha : float
        Weight of the neighbours' scores, in ``[0, 1]``.
    folds : int
        Number of folds of the training nodes, at most one per training node.
    consistent : bool
        See `EncoderConfig`.
    """

    kind = "label_propagation"

    def __init__(self, *, steps: int = 10, alpha: float = 0.9, folds: int = 5, consistent: bool = True) -> None:
        self.steps, self.alpha, self.folds, self.consistent = steps, alpha, folds, consistent

    def fit(self, observed: ObservedGraph, context: RunContext) -> EncoderOutput:
        """Propagate the training labels, without reading validation labels."""
        mean = NeighborMean(observed.graph)
        return encode_by_folds(
            observed.train_idx, self.folds, lambda known: self._propagated(mean, observed, known, context), context
        )

    def _propagated(
        self, mean: NeighborMean, observed: ObservedGraph, known: Tensor, context: RunContext
    ) -> EncoderOutput:
        start = torch.zeros(len(observed), observed.num_classes)
        start[known, observed.labels[known]] = 1.0
        scores = start
        for done in range(self.steps):
            # In place: a quarter of the peak memory.
            scores = mean(scores).mul_(self.alpha)
            scores[known] += (1 - self.alpha) * start[known]
            context.substep(done + 1, self.steps)
        return encoder_output(mean, scores, consistent=self.consistent)


@encoders.register
class LabelPropagationConfig(EncoderConfig):
    """Class scores from the training labels around a node."""

    class_scores: ClassVar[bool] = True

    kind: Literal["label_propagation"] = "label_propagation"
    weight: EncodingWeight = 0.3
    steps: int = Field(default=10, ge=1, description="Number of iterations; each propagates labels by one hop.")
    alpha: float = Field(default=0.9, ge=0, le=1, description="Weight of the neighbours' scores.")
    folds: int = Field(
        default=5,
        ge=2,
        description="Folds of the training nodes; a node's own label never reaches its encoding.",
    )

    def build(self) -> LabelPropagationEncoder:
        """Build the encoder."""
        return LabelPropagationEncoder(**self.options())
