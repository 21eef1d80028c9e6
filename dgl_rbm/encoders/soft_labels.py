r"""Soft-label encoding: the mean of the teacher's predictions over a node's neighbours.

Let :math:`p_u` be the teacher's class probabilities of node u. They are the stored vectors, and a node's encoding is
their mean over its neighbours, for observed and unseen nodes alike. The encoding is this package's own; propagation of
a trained model's predictions goes back to Huang et al., "Combining label propagation and simple models out-performs
graph neural networks" (ICLR 2021), who apply it at prediction time.

A node's own features influence its neighbours' predictions. In training this leaks information that the encoding of an
unseen node lacks. The nodes are therefore split into folds, and a fold is encoded from the teacher's predictions in the
graph without it, as if it were unseen. The validation nodes are a separate fold, so that model selection sees the
encodings that unseen nodes will have.
"""

from __future__ import annotations

import copy
from typing import ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.neighbors import NeighborMean
from dgl_rbm.data.structure import induced
from dgl_rbm.data.task import GraphView, ObservedGraph
from dgl_rbm.encoders.base import Encoder, EncoderConfig, EncoderOutput
from dgl_rbm.errors import ConfigError
from dgl_rbm.registry import encoders
from dgl_rbm.rows.sparse import take
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.teachers.base import Teacher, TeacherOutput

__all__ = ["SoftLabelConfig", "SoftLabelEncoder"]


class SoftLabelEncoder(Encoder):
    """Mean of the teacher's class probabilities over a node's neighbours; P = C.

    Parameters
    ----------
    folds : int
        Number of random folds of the observed nodes, at most one per node; the validation nodes are one more. With 0
        nothing is hidden, and a single prediction of the whole graph suffices.

    Raises
    ------
    ConfigError
        If `folds` is 1, which would hide all nodes at once, or negative.

    Notes
    -----
    A teacher with precomputed predictions, such as ``logits``, predicts the same whether neighbours are hidden or not:
    hiding a fold does not remove its influence.
    """

    kind = "soft_labels"

    def __init__(self, *, folds: int = 5) -> None:
        if folds < 0 or folds == 1:
            raise ConfigError(f"folds is {folds}; expected at least 2, or 0 to hide nothing.")
        self.folds = folds
        self._teacher: Teacher | None = None
        self._probabilities = torch.empty(0)

    def bind_teacher(self, teacher: Teacher, output: TeacherOutput) -> SoftLabelEncoder:
        bound = copy.copy(self)
        bound._teacher, bound._probabilities = teacher, torch.softmax(output.logits, dim=1)
        return bound

    def fit(self, observed: ObservedGraph, context: RunContext) -> EncoderOutput:
        """Encode the nodes by the predictions of the bound teacher.

        Raises
        ------
        ConfigError
            If there is no teacher, or it makes no predictions.
        """
        if self._teacher is None or not self._probabilities.shape[1]:
            raise ConfigError(
                "The encoder 'soft_labels' reads a teacher's predictions, but there are none.",
                hint="Name a teacher, or use the encoder 'label_propagation', which reads labels.",
            )
        held_out = [observed.val_idx] if len(observed.val_idx) else []
        others = torch.ones(len(observed), dtype=torch.bool)
        others[observed.val_idx] = False
        nodes = others.nonzero().squeeze(1)
        count = min(self.folds, len(nodes))
        with context.stage("encoder", count + len(held_out) if self.folds else 1, unit="predictions") as stage:
            mean = NeighborMean(observed.graph)
            if not self.folds:
                encodings = mean(self._probabilities)
                stage.step(1)
                return EncoderOutput(vectors=self._probabilities, encodings=encodings)
            nodes = nodes[torch.randperm(len(nodes))]
            encodings = torch.empty_like(self._probabilities)
            for done, fold in enumerate([*(nodes[i::count] for i in range(count)), *held_out]):
                hidden = torch.zeros(len(observed), dtype=torch.bool)
                hidden[fold] = True
                predicted = self._predicted_without(hidden, observed, self._teacher, context)
                encodings[fold] = mean.among(fold, predicted, ~hidden)
                stage.step(done + 1)
        return EncoderOutput(vectors=self._probabilities, encodings=encodings)

    def _predicted_without(
        self, hidden: Tensor, observed: ObservedGraph, teacher: Teacher, context: RunContext
    ) -> Tensor:
        """Return the teacher's probabilities in the graph without the `hidden` nodes, ``[N, C]``, zeros for those."""
        kept = (~hidden).nonzero().squeeze(1)
        predicted = torch.zeros_like(self._probabilities)
        if len(kept):
            view = GraphView(
                graph=induced(observed.graph, (~hidden).numpy()),
                features=take(observed.features, kept),
                node_ids=observed.node_ids[kept],
            )
            predicted[kept] = torch.softmax(self._predicted(teacher, view, context), dim=1)
        return predicted

    def _predicted(self, teacher: Teacher, view: GraphView, context: RunContext) -> Tensor:
        """Return the teacher's logits for a part of the graph; a custom module may not support such parts."""
        try:
            logits = teacher.predict(view, context).logits
            problem = None if len(logits) == len(view) else f"it returned {len(logits)} rows"
        except dgl.DGLError as error:
            # Other errors, such as exhausted memory, are reported elsewhere.
            if "in-degree" not in str(error):
                raise
            problem = f"{type(error).__name__}: {error}"
        if problem is not None:
            raise ConfigError(
                f"The encoder 'soft_labels' needs predictions of the teacher '{teacher.kind}' for {len(view)} of "
                f"{len(self._probabilities)} nodes, the others being hidden; {problem}",
                hint="Such a part may have nodes without edges; DGL's convolutions take them with "
                "allow_zero_in_degree=True. Or set the encoder's `folds` to 0, or use the encoder 'diffusion'.",
            )
        return logits


@encoders.register
class SoftLabelConfig(EncoderConfig):
    """Mean of the teacher's class probabilities over a node's neighbours."""

    class_scores: ClassVar[bool] = True
    reads_teacher: ClassVar[bool] = True

    kind: Literal["soft_labels"] = "soft_labels"
    folds: int = Field(
        default=5,
        ge=0,
        description="Folds of the nodes, in addition to the validation nodes; each fold is encoded from the teacher's "
        "predictions in the graph without it, so that no node's own features reach its encoding. 0 hides nothing.",
    )

    @field_validator("folds")
    @classmethod
    def _no_single_fold(cls, folds: int) -> int:
        if folds == 1:
            raise ValueError("one fold would hide all nodes at once; expected at least 2, or 0 to hide nothing")
        return folds

    @field_validator("consistent")
    @classmethod
    def _always_consistent(cls, consistent: bool) -> bool:
        if not consistent:
            raise ValueError("an observed node's own vector is the prediction that the student learns")
        return consistent

    def build(self) -> SoftLabelEncoder:
        """Build the encoder."""
        return SoftLabelEncoder(**self.options(without=["consistent"]))
