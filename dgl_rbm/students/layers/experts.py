"""Packed experts: E linear maps, of which each row passes through the few that its gates name."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dgl_rbm.sparse import Rows, SparseRows, matmul, take

__all__ = ["PackedExperts"]

_LOG_CAP = math.log(100.0)


class PackedExperts(nn.Module):
    """exp(s) · Σ_e gate_e · (W_e (exp(a_e) ⊙ h) + b_e), computed for the gates that are not zero (RbM paper, eq. 5).

    Parameters
    ----------
    num_experts, in_dim, out_dim : int
        E, F and N.
    input_attention : bool
        Whether each expert scales its input by a learned exp(a_e), which starts at 1.1.
    output_scale : bool
        Whether the output is scaled by a learned exp(s), which starts at 2.
    """

    def __init__(
        self,
        num_experts: int,
        in_dim: int,
        out_dim: int,
        *,
        input_attention: bool = False,
        output_scale: bool = False,
    ) -> None:
        super().__init__()
        # The start of `nn.Linear`, whose fan-in is the input of one expert.
        bound = 1 / math.sqrt(in_dim)
        self.weights = nn.Parameter(torch.empty(num_experts, in_dim, out_dim).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(num_experts, out_dim).uniform_(-bound, bound))
        self.attention = nn.Parameter(torch.full((num_experts, in_dim), math.log(1.1))) if input_attention else None
        self.scale = nn.Parameter(torch.tensor(math.log(2.0))) if output_scale else None

    @property
    def num_experts(self) -> int:
        """E."""
        return self.weights.shape[0]

    def forward(self, x: Rows, gates: Tensor) -> Tensor:
        """Mix the experts' outputs.

        Parameters
        ----------
        x : Tensor or SparseRows
            float32 ``[B, F]``.
        gates : Tensor
            float32 ``[B, E]``; gradients flow into those that are not zero.

        Returns
        -------
        Tensor
            float32 ``[B, N]``.
        """
        count, width = x.shape[0], self.bias.shape[1]
        # Unbound once: indexing a packed parameter would fill a gradient of its whole size per expert.
        weights, bias = self.weights.unbind(), self.bias.unbind()
        factors = self._factors()
        mixed = gates.new_zeros(count, width)
        for e, gate in enumerate(gates.unbind(dim=1)):
            rows = gate.nonzero().squeeze(1)
            if not len(rows):
                continue
            # A part of sparse rows would have to be cut out and transposed anew in every step.
            whole = len(rows) == count or isinstance(x, SparseRows)
            output = _expert(x if whole else take(x, rows), weights[e], bias[e], factors[e])
            output = output * (gate if whole else gate[rows]).unsqueeze(1)
            mixed = mixed + output if whole else mixed.index_add_(0, rows, output)
        return mixed if self.scale is None else mixed * self.scale.clamp(max=_LOG_CAP).exp()

    def _factors(self) -> tuple[Tensor | None, ...]:
        if self.attention is None:
            return (None,) * self.num_experts
        return self.attention.clamp(max=_LOG_CAP).exp().unbind()

    @torch.no_grad()
    def copy_first(self) -> None:
        """Give every expert the weights, bias and attention of the first."""
        for packed in (self.weights, self.bias, self.attention):
            if packed is not None:
                packed.copy_(packed[:1].expand_as(packed).clone())

    @torch.no_grad()
    def cap(self) -> None:
        """Put attention and scale back to log 100 where they exceed it; beyond it they have no gradient."""
        for logarithm in (self.attention, self.scale):
            if logarithm is not None:
                logarithm.clamp_(max=_LOG_CAP)

    def parameters_per_expert(self) -> int:
        """Return the number of parameters that belong to one expert alone."""
        packed = (self.weights, self.bias, self.attention)
        return sum(part[0].numel() for part in packed if part is not None)


def _expert(x: Rows, weight: Tensor, bias: Tensor, factor: Tensor | None) -> Tensor:
    """Return ``(factor ⊙ x) @ weight + bias``."""
    if factor is not None:
        # Scale the smaller of the two; sparse rows are constant and cannot pass on a gradient.
        if isinstance(x, SparseRows) or x.shape[0] > weight.shape[1]:
            weight = factor.unsqueeze(1) * weight
        else:
            x = x * factor
    if isinstance(x, SparseRows):
        return matmul(x, weight) + bias
    return torch.addmm(bias, x, weight)
