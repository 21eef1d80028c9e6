"""Structural encoders, and what is needed to write one."""

from dgl_rbm.encoders.base import Encoder, EncoderConfig, EncoderOutput
from dgl_rbm.encoders.common import NeighborMean, encoder_output

__all__ = ["Encoder", "EncoderConfig", "EncoderOutput", "NeighborMean", "encoder_output"]
