"""Normalisation between the layers of teachers and students."""

from __future__ import annotations

from typing import Literal, TypeAlias

from torch import Tensor, nn
from torch.nn.functional import batch_norm

__all__ = ["NormName", "make_norm"]

NormName: TypeAlias = Literal["none", "batch", "layer"]


class _BatchNorm(nn.BatchNorm1d):
    """Batch normalisation that takes a batch of one row by its running statistics."""

    def forward(self, input: Tensor) -> Tensor:
        if self.training and len(input) < 2:
            # One row has no variance; torch raises.
            return batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


def make_norm(norm: NormName, dim: int) -> nn.Module:
    """Return the normalisation of rows ``[B, dim]`` that goes by this name."""
    if norm == "batch":
        return _BatchNorm(dim)
    return nn.LayerNorm(dim) if norm == "layer" else nn.Identity()
