"""Normalisation layers of teachers and students."""

from __future__ import annotations

from typing import Literal, TypeAlias

from torch import Tensor, nn
from torch.nn.functional import batch_norm

__all__ = ["NormName", "make_norm"]

NormName: TypeAlias = Literal["none", "batch", "layer"]


class _BatchNorm(nn.BatchNorm1d):
    """Batch normalisation that uses its running statistics for a batch of one row."""

    def forward(self, input: Tensor) -> Tensor:
        if self.training and len(input) < 2:
            # The variance of one row is undefined, and torch raises an error.
            return batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


def make_norm(norm: NormName, dim: int) -> nn.Module:
    """Make the normalisation layer of this name for rows ``[B, dim]``."""
    if norm == "batch":
        return _BatchNorm(dim)
    return nn.LayerNorm(dim) if norm == "layer" else nn.Identity()
