"""Structural encoders, and the parts to write one."""

from dgl_rbm.data.neighbors import NeighborMean
from dgl_rbm.encoders.base import Encoder, EncoderConfig, EncoderOutput, encoder_output

__all__ = ["Encoder", "EncoderConfig", "EncoderOutput", "NeighborMean", "encoder_output"]
