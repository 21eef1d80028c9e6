"""No structural encoding, for students that read the features alone."""

from __future__ import annotations

from typing import Literal

import torch

from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.encoders.base import Encoder, EncoderConfig, EncoderOutput
from dgl_rbm.registry import encoders
from dgl_rbm.runtime.context import RunContext

__all__ = ["NoEncoder", "NoEncoderConfig"]


class NoEncoder(Encoder):
    """Null object: encodings without columns, P = 0."""

    kind = "none"

    def fit(self, observed: ObservedGraph, context: RunContext) -> EncoderOutput:
        """Return vectors and encodings without columns, ``[N, 0]``."""
        nothing = torch.zeros(len(observed), 0)
        return EncoderOutput(vectors=nothing, encodings=nothing)


@encoders.register
class NoEncoderConfig(EncoderConfig):
    """No structural encoding."""

    kind: Literal["none"] = "none"

    def build(self) -> NoEncoder:
        """Build the encoder."""
        return NoEncoder()
