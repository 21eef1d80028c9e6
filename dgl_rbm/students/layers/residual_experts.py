"""Residual experts: E linear maps of low rank, which correct the output of a shared expert."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dgl_rbm.rows.sparse import Rows, linear
from dgl_rbm.students.layers.memory import resized

__all__ = ["ResidualExperts"]


class ResidualExperts(nn.Module):
    """Σ_e gate_e · U_eᵀ D_eᵀ h, with ``U`` zero at the start, as in LoRA (Hu et al., ICLR 2022).

    The products with all D and with all U are one product each: a row of E · r numbers, whose blocks are scaled by the
    gates. A single row multiplies the matrices of its experts alone.

    Parameters
    ----------
    num_experts, in_dim, out_dim : int
        E, F and N.
    rank : int
        r; at most the smaller of F and N is used.
    """

    def __init__(self, num_experts: int, in_dim: int, out_dim: int, *, rank: int) -> None:
        super().__init__()
        rank = min(rank, in_dim, out_dim)
        bound = 1 / math.sqrt(in_dim)
        self.down = nn.Parameter(torch.empty(num_experts, in_dim, rank).uniform_(-bound, bound))
        self.up = nn.Parameter(torch.zeros(num_experts, rank, out_dim))

    @property
    def num_experts(self) -> int:
        """E."""
        return self.up.shape[0]

    @property
    def out_dim(self) -> int:
        """N."""
        return self.up.shape[2]

    def forward(self, x: Rows, gates: Tensor) -> Tensor:
        """Return the sum of the residuals, weighted by the gates.

        Parameters
        ----------
        x : Tensor or StructuredRows
            float32 ``[B, F]``.
        gates : Tensor
            float32 ``[B, E]``.

        Returns
        -------
        Tensor
            float32 ``[B, N]``.
        """
        reduced = linear(x, self.down.transpose(1, 2).flatten(0, 1))
        scaled = reduced.unflatten(1, self.up.shape[:2]) * gates.unsqueeze(2)
        return scaled.flatten(1) @ self.up.flatten(0, 1)

    def mix_one(self, x: Rows, chosen: Sequence[tuple[int, float]]) -> Tensor:
        """Return the weighted residuals ``[1, N]`` of the chosen experts for a single row ``[1, F]``."""
        experts, gates = zip(*chosen, strict=True)
        down, up = self.down[list(experts)], self.up[list(experts)]
        reduced = linear(x, down.transpose(1, 2).flatten(0, 1))
        scaled = reduced.unflatten(1, up.shape[:2]) * torch.tensor(gates).to(reduced).unsqueeze(1)
        return scaled.flatten(1) @ up.flatten(0, 1)

    def resize(self, num_experts: int) -> None:
        """Set the number of experts, in place; see `PackedExperts.resize`."""
        for packed in (self.down, self.up):
            packed.data = resized(packed.data, num_experts)
            packed.grad = None

    @torch.no_grad()
    def clear(self) -> None:
        """Make every residual zero."""
        self.up.zero_()

    def cap(self) -> None:
        """Do nothing: no parameter has a limit."""

    def parameters_per_expert(self) -> int:
        """Return the number of parameters of one expert."""
        return self.down[0].numel() + self.up[0].numel()

    def multiply_adds_per_expert(self, entries: float) -> float:
        """Return the multiply-adds of one expert for a row of which `entries` are multiplied."""
        return self.up.shape[1] * (entries + self.out_dim)
