"""Packed experts: E linear maps; each row passes through those with a gate above zero."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dgl_rbm.rows.sparse import Rows, linear, matmul
from dgl_rbm.students.layers.cache import CachingModule
from dgl_rbm.students.layers.dispatch import mix
from dgl_rbm.students.layers.memory import resized

__all__ = ["PackedExperts"]

_LOG_CAP = math.log(100.0)


class PackedExperts(CachingModule):
    """exp(s) · Σ_e gate_e · (W_e (exp(a_e) ⊙ h) + b_e), computed for the nonzero gates (RbM paper, eq. 5).

    Parameters
    ----------
    num_experts, in_dim, out_dim : int
        E, F and N.
    input_attention : bool
        Whether each expert scales its inputs by a learned exp(a_e), initially 1.1.
    output_scale : bool
        Whether the outputs are scaled by a learned exp(s), initially 2.
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
        # As `nn.Linear` is initialised, with the fan-in of one expert.
        bound = 1 / math.sqrt(in_dim)
        self.weights = nn.Parameter(torch.empty(num_experts, in_dim, out_dim).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(num_experts, out_dim).uniform_(-bound, bound))
        self.attention = nn.Parameter(torch.full((num_experts, in_dim), math.log(1.1))) if input_attention else None
        self.scale = nn.Parameter(torch.tensor(math.log(2.0))) if output_scale else None

    @property
    def num_experts(self) -> int:
        """E."""
        return self.weights.shape[0]

    @property
    def out_dim(self) -> int:
        """N."""
        return self.bias.shape[1]

    def forward(self, x: Rows, gates: Tensor) -> Tensor:
        """Return the mix of the experts' outputs.

        Parameters
        ----------
        x : Tensor, SparseRows or StackedRows
            float32 ``[B, F]``.
        gates : Tensor
            float32 ``[B, E]``; gradients flow into the nonzero ones.

        Returns
        -------
        Tensor
            float32 ``[B, N]``.
        """
        if torch.is_grad_enabled():
            self.cache.clear()
        # Up to ten times as fast on few rows (benchmarks/rbm_layer.py); in serving mode the scaled weights are cached.
        if isinstance(x, Tensor) and not self.serving and self._scales_rows(len(x)):
            return self._mix_scaled_rows(x, gates)
        return mix(x, gates, *self._scaled())

    def mix_one(self, x: Rows, chosen: Sequence[tuple[int, float]]) -> Tensor:
        """Return the mixed outputs of the chosen experts for a single row, without gradients.

        Parameters
        ----------
        x : Tensor or StructuredRows
            float32 ``[1, F]``.
        chosen : sequence of (int, float)
            Experts and their gates.

        Returns
        -------
        Tensor
            float32 ``[1, N]``.
        """
        weights, bias = self._scaled()
        mixed = torch.zeros(1, bias.shape[1], dtype=bias.dtype, device=bias.device)
        for expert, gate in chosen:
            if isinstance(x, Tensor):
                mixed.addmm_(x, weights[expert], alpha=gate)
            else:
                mixed.add_(matmul(x, weights[expert]), alpha=gate)
            mixed.add_(bias[expert], alpha=gate)
        return mixed

    def forward_first(self, x: Rows) -> Tensor:
        """Return the outputs ``[B, N]`` of the first expert alone, with gate one, for rows ``[B, F]``."""
        if torch.is_grad_enabled():
            self.cache.clear()
        weights, bias = self._scaled() if self.serving else self._scale(slice(0, 1))
        return linear(x, weights[0].t(), bias[0])

    def _scaled(self) -> tuple[Tensor, Tensor]:
        sources = [part for part in (self.weights, self.bias, self.attention, self.scale) if part is not None]
        scaled: tuple[Tensor, Tensor] = self.cache.get(sources, lambda: self._scale(slice(None)))
        return scaled

    def _scale(self, of: slice) -> tuple[Tensor, Tensor]:
        """Return weights and biases of some experts with input attention and output scale multiplied in."""
        weights, bias = self.weights[of], self.bias[of]
        factor = None if self.attention is None else _exp(self.attention[of]).unsqueeze(2)
        if self.scale is not None:
            scale = _exp(self.scale)
            bias = bias * scale
            factor = scale if factor is None else factor * scale
        return weights if factor is None else weights * factor, bias

    def _scales_rows(self, count: int) -> bool:
        """Whether scaling each expert's rows, out of `count`, is less work than scaling its weights."""
        return (self.attention is not None or self.scale is not None) and 2 * count < self.bias.shape[1]

    def _mix_scaled_rows(self, x: Tensor, gates: Tensor) -> Tensor:
        mixed = self.bias.new_zeros(x.shape[0], self.bias.shape[1])
        # Unbound once: the gradient of each indexing would be a tensor of the whole packed size.
        weights, bias = self.weights.unbind(), self.bias.unbind()
        attention = None if self.attention is None else _exp(self.attention).unbind()
        for e, gate in enumerate(gates.unbind(dim=1)):
            rows = gate.nonzero().squeeze(1)
            if not len(rows):
                continue
            inputs = x[rows] if attention is None else x[rows] * attention[e]
            output = torch.addmm(bias[e], inputs, weights[e]) * gate[rows, None]
            mixed = mixed.index_add(0, rows, output.to(mixed.dtype))
        return mixed if self.scale is None else mixed * _exp(self.scale)

    @torch.no_grad()
    def copy_first(self) -> None:
        """Copy the weights, bias and attention of the first expert to all others."""
        for packed in (self.weights, self.bias, self.attention):
            if packed is not None:
                packed.copy_(packed[:1].expand_as(packed).clone())

    @torch.no_grad()
    def clear(self) -> None:
        """Make every expert's output zero."""
        self.weights.zero_()
        self.bias.zero_()

    def resize(self, num_experts: int) -> None:
        """Set the number of experts, in place: the first ones are kept, new ones are copies of the first.

        The parameters stay the same objects, so an existing optimiser still steps them.
        """
        for packed in (self.weights, self.bias, self.attention):
            if packed is not None:
                packed.data = resized(packed.data, num_experts)
                packed.grad = None
        self.cache.clear()

    @torch.no_grad()
    def cap(self) -> None:
        """Clamp log attention and log scale to at most log 100; above it they have no gradient."""
        for logarithm in (self.attention, self.scale):
            if logarithm is not None:
                logarithm.clamp_(max=_LOG_CAP)

    def parameters_per_expert(self) -> int:
        """Return the number of parameters of one expert."""
        packed = (self.weights, self.bias, self.attention)
        return sum(part[0].numel() for part in packed if part is not None)

    def multiply_adds_per_expert(self, entries: float) -> float:
        """Return the multiply-adds of one expert for a row of which `entries` are multiplied."""
        return entries * self.out_dim


def _exp(logarithm: Tensor) -> Tensor:
    return logarithm.clamp(max=_LOG_CAP).exp()
