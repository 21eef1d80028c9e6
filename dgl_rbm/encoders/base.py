"""Base classes of structural encoders and of their configs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field
from torch import Tensor

from dgl_rbm.config import ComponentConfig
from dgl_rbm.data.neighbors import NeighborMean
from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.teachers.base import Teacher, TeacherOutput

__all__ = ["Encoder", "EncoderConfig", "EncoderOutput", "EncodingWeight", "encoder_output"]

# Only its default differs between encoders.
EncodingWeight = Annotated[float, Field(gt=0, description="How much the encoding counts beside the features.")]


@dataclass(frozen=True)
class EncoderOutput:
    """Encodings of an observed graph, before they are standardised.

    Attributes
    ----------
    vectors : Tensor
        Vectors of the observed nodes that are kept for serving, float32 ``[N, P]``. The encoding of an unseen node is
        the mean of its observed neighbours' vectors.
    encodings : Tensor
        Encodings that the student is trained on, float32 ``[N, P]``.
    """

    vectors: Tensor
    encodings: Tensor


def encoder_output(mean: NeighborMean, vectors: Tensor, *, consistent: bool) -> EncoderOutput:
    """Return the stored vectors and the encodings for training.

    Parameters
    ----------
    mean : NeighborMean
        Of the observed graph.
    vectors : Tensor
        float32 ``[N, P]``.
    consistent : bool
        Whether the encodings of observed nodes are means over their neighbours, as those of unseen nodes are, or their
        own vectors.
    """
    return EncoderOutput(vectors=vectors, encodings=mean(vectors) if consistent else vectors)


class Encoder(ABC):
    """Computes structural encodings of an observed graph."""

    kind: str = "custom"

    def bind_teacher(self, teacher: Teacher, output: TeacherOutput) -> Encoder:
        """Return this encoder bound to a fitted teacher; an encoder that reads no teacher returns itself.

        Parameters
        ----------
        teacher : Teacher
            Fitted to the observed graph.
        output : TeacherOutput
            Its predictions for the observed nodes.
        """
        return self

    @abstractmethod
    def fit(self, observed: ObservedGraph, context: RunContext) -> EncoderOutput:
        """Encode the observed nodes inside the stage ``"encoder"``."""


class EncoderConfig(ComponentConfig):
    """Options that all encoders share."""

    # Whether the columns are one score per class, at least zero.
    class_scores: ClassVar[bool] = False

    consistent: bool = Field(
        default=True,
        description="Encode every node by the mean of its neighbours' vectors, the only encoding that an unseen node "
        "can have; otherwise observed nodes keep their own vectors and only unseen nodes get the mean.",
    )
    standardize: bool = Field(
        default=True,
        description="Shift and scale the columns to mean 0 and equal variance over the observed nodes, so that an "
        "encoding is on average `weight` times as long as a row of features.",
    )
    weight: EncodingWeight = 1.0

    @property
    def reads_teacher(self) -> bool:
        """Whether the encodings depend on the teacher; a subclass may override it with a `ClassVar`."""
        return False

    def options(self, *, without: Collection[str] = ()) -> dict[str, Any]:
        """Return the keyword arguments of the encoder: all options but those that `WeightedEncoder` reads."""
        return super().options(without={"standardize", "weight", *without})

    def build(self) -> Encoder:
        """Build the encoder."""
        raise NotImplementedError
