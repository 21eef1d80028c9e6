r"""Correct and Smooth (Huang, He, Singh, Lim and Benson, ICLR 2021): predictions corrected by propagated labels.

Let Z be the teacher's class probabilities ``[N, C]``, Y the one-hot labels of the training nodes L, and M the
row-normalised adjacency matrix.

- *Correct*: the errors :math:`E_0 = Y - Z` on L, and 0 elsewhere, are propagated by
  :math:`E \leftarrow \alpha_1 M E + (1 - \alpha_1) E_0`. A node's prediction becomes
  :math:`Z_i + \sigma E_i / \lVert E_i \rVert_1` with :math:`\sigma` the mean of :math:`\lVert E_0 \rVert_1` over L, the
  variant "autoscale".
- *Smooth*: with G0 the corrected predictions, and Y on L, :math:`G \leftarrow \alpha_2 M G + (1 - \alpha_2) G_0`.

Validation labels are not read.
"""

from __future__ import annotations

import copy
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import one_hot

from dgl_rbm.data.neighbors import NeighborMean
from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.encoders.base import Encoder, EncoderConfig, EncoderOutput, encoder_output
from dgl_rbm.encoders.folds import encode_by_folds
from dgl_rbm.errors import ConfigError
from dgl_rbm.registry import encoders
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.teachers.base import Teacher, TeacherOutput

__all__ = ["CorrectAndSmoothConfig", "CorrectAndSmoothEncoder"]


class CorrectAndSmoothEncoder(Encoder):
    """The teacher's class probabilities, corrected and smoothed; P = C.

    A training node's own label never reaches its encoding; see `encode_by_folds`.

    Parameters
    ----------
    steps : int
        Iterations of each of the two propagations.
    correct_alpha, smooth_alpha : float
        α1 and α2, in ``[0, 1]``.
    folds : int
        Number of folds of the training nodes, at most one per training node.
    consistent : bool
        See `EncoderConfig`.
    """

    kind = "correct_and_smooth"

    def __init__(
        self,
        *,
        steps: int = 50,
        correct_alpha: float = 0.9,
        smooth_alpha: float = 0.8,
        folds: int = 5,
        consistent: bool = True,
    ) -> None:
        self.steps, self.folds, self.consistent = steps, folds, consistent
        self.correct_alpha, self.smooth_alpha = correct_alpha, smooth_alpha
        self._probabilities: Tensor | None = None

    def bind_teacher(self, teacher: Teacher, output: TeacherOutput) -> CorrectAndSmoothEncoder:
        bound = copy.copy(self)
        bound._probabilities = torch.softmax(output.logits, dim=1)
        return bound

    def fit(self, observed: ObservedGraph, context: RunContext) -> EncoderOutput:
        """Correct and smooth the bound teacher's predictions.

        Raises
        ------
        ConfigError
            If there is no teacher, or it makes no predictions.
        """
        predicted = self._probabilities
        if predicted is None or not predicted.shape[1]:
            raise ConfigError(
                "The encoder 'correct_and_smooth' reads a teacher's predictions, but there are none.",
                hint="Name a teacher, such as 'mlp', or use the encoder 'label_propagation', which reads labels.",
            )
        mean = NeighborMean(observed.graph)

        def encode(known: Tensor) -> EncoderOutput:
            smoothed = self._smoothed(mean, predicted, known, observed.labels[known])
            return encoder_output(mean, smoothed, consistent=self.consistent)

        return encode_by_folds(observed.train_idx, self.folds, encode, context)

    def _smoothed(self, mean: NeighborMean, predicted: Tensor, known: Tensor, labels: Tensor) -> Tensor:
        """Return the corrected and smoothed predictions ``[N, C]`` from the labels of the `known` nodes."""
        targets = one_hot(labels, predicted.shape[1]).float()
        errors = torch.zeros_like(predicted)
        errors[known] = targets - predicted[known]
        scale = errors[known].abs().sum(dim=1).mean() if len(known) else torch.zeros(())
        spread = self._propagated(mean, errors, self.correct_alpha)
        lengths = spread.abs().sum(dim=1, keepdim=True)
        corrected = predicted + scale * spread / torch.where(lengths > 0, lengths, 1.0)
        corrected[known] = targets
        return self._propagated(mean, corrected, self.smooth_alpha).clamp_(0, 1)

    def _propagated(self, mean: NeighborMean, start: Tensor, alpha: float) -> Tensor:
        values = start
        for _ in range(self.steps):
            values = mean(values).mul_(alpha).add_(start, alpha=1 - alpha)
        return values


@encoders.register
class CorrectAndSmoothConfig(EncoderConfig):
    """The teacher's class probabilities, corrected by propagated errors and smoothed with the training labels."""

    class_scores: ClassVar[bool] = True
    reads_teacher: ClassVar[bool] = True

    kind: Literal["correct_and_smooth"] = "correct_and_smooth"
    steps: int = Field(default=50, ge=1, description="Iterations of each of the two propagations.")
    correct_alpha: float = Field(
        default=0.9, ge=0, le=1, description="Weight of the neighbours in the propagation of errors, α1."
    )
    smooth_alpha: float = Field(
        default=0.8, ge=0, le=1, description="Weight of the neighbours in the smoothing of predictions, α2."
    )
    folds: int = Field(
        default=5, ge=2, description="Folds of the training nodes; a node's own label never reaches its encoding."
    )

    def build(self) -> CorrectAndSmoothEncoder:
        """Build the encoder."""
        return CorrectAndSmoothEncoder(**self.options())
