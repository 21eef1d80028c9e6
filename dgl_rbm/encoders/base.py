"""What every structural encoder is, and how known and unseen nodes get their encodings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor

from dgl_rbm.config import ComponentConfig
from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.teachers.base import Teacher, TeacherOutput

__all__ = ["Encoder", "EncoderConfig", "EncoderOutput", "EncodingWeight"]

# Encoders differ in its default alone.
EncodingWeight = Annotated[float, Field(gt=0, description="How much the encoding counts beside the features.")]


@dataclass(frozen=True)
class EncoderOutput:
    """What an encoder learnt of the observed graph, not yet standardised.

    Attributes
    ----------
    vectors : Tensor
        What is stored for serving, one per observed node, float32 ``[N, P]``: an unseen node's encoding is
        the mean over its observed neighbours' vectors.
    encodings : Tensor
        What the student is trained on, float32 ``[N, P]``.
    """

    vectors: Tensor
    encodings: Tensor


class Encoder(ABC):
    """Computes vectors from an observed graph."""

    kind: str = "custom"

    def bind_teacher(self, teacher: Teacher, output: TeacherOutput) -> Encoder:
        """Return the encoder that reads this fitted teacher; itself, unless it makes something of a teacher.

        Parameters
        ----------
        teacher : Teacher
            Fitted to the observed graph.
        output : TeacherOutput
            What it predicts of the observed nodes.
        """
        return self

    @abstractmethod
    def fit(self, observed: ObservedGraph, context: RunContext) -> EncoderOutput:
        """Encode the observed nodes inside the stage ``"encoder"``."""


class EncoderConfig(ComponentConfig):
    """Options that all encoders share."""

    consistent: bool = Field(
        default=True,
        description="Give every node the mean over its neighbours' vectors, which is all that an unseen node "
        "can have; otherwise known nodes have their own vector and only unseen nodes the mean.",
    )
    standardize: bool = Field(
        default=True,
        description="Shift and scale the columns to mean 0 and equal variance over the observed nodes, such that an "
        "encoding is on average `weight` times as long as a row of features.",
    )
    weight: EncodingWeight = 1.0

    @property
    def reads_teacher(self) -> bool:
        """Whether the encodings depend on the teacher; a subclass may override it with a `ClassVar`."""
        return False

    def build(self) -> Encoder:
        """Make the encoder."""
        raise NotImplementedError
