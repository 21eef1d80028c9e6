"""Mixture-of-experts layer: a router, its experts, and an optional expert that all rows share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from dgl_rbm.precision import autocast_enabled
from dgl_rbm.rows.sparse import Rows
from dgl_rbm.students.layers.columns import select_columns
from dgl_rbm.students.layers.experts import PackedExperts
from dgl_rbm.students.layers.residual_experts import ResidualExperts
from dgl_rbm.students.layers.routing import Routing, TopKRouter, read_entries

__all__ = ["MixtureLayer", "drop_gates"]


class MixtureLayer(nn.Module):
    """Routes rows and mixes the outputs of their experts (RbM paper, eqs. 1 and 5).

    Parameters
    ----------
    router : TopKRouter
        Reads the rows without dropout.
    experts : PackedExperts or ResidualExperts
        Read the rows after dropout.
    dropout : float
        Share of the experts' inputs dropped in training; zero for the first layer.
    stop_gate_gradient : bool
        Whether the mix passes no gradient to the scores, so that only penalties train the routing.
    columns : slice, optional
        Columns that the experts read; all by default.
    shared : PackedExperts, optional
        A single expert whose output, with gate one, is added for every row.
    expert_dropout : float
        Probability that the mix leaves out an expert of a row in training; see `drop_gates`.

    Attributes
    ----------
    softness : float
        Share of the softmax over all experts in the gates of the mix in training; the rest is the top k. Evaluation,
        penalties and memories use the top k alone.
    """

    def __init__(
        self,
        router: TopKRouter,
        experts: PackedExperts | ResidualExperts,
        *,
        dropout: float,
        stop_gate_gradient: bool,
        columns: slice | None = None,
        shared: PackedExperts | None = None,
        expert_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.columns = columns
        self.router = router
        self.experts = experts
        self.shared = shared
        self.dropout = dropout
        self.stop_gate_gradient = stop_gate_gradient
        self.expert_dropout = expert_dropout
        self.softness = 0.0

    def forward(self, x: Rows) -> tuple[Tensor, Routing]:
        """Return the mixed outputs ``[B, N]`` of rows ``[B, F]``, and their routing."""
        routing = self.router(x)
        inputs = self._expert_inputs(x)
        mixed = self.experts(inputs, self._mix_gates(routing))
        return mixed if self.shared is None else mixed + self.shared.forward_first(inputs), routing

    def output(self, x: Rows) -> Tensor:
        """Return the mixed outputs ``[B, N]`` alone; faster than `forward` for a single row in serving mode."""
        if x.shape[0] == 1 and self._first.serving and not autocast_enabled(x.device):
            inputs = select_columns(x, self.columns)
            mixed = self.experts.mix_one(inputs, self.router.route_one(x))
            return mixed if self.shared is None else mixed + self.shared.forward_first(inputs)
        return self(x)[0]

    def forward_first(self, x: Rows) -> Tensor:
        """Return the outputs ``[B, N]`` of the shared or first expert alone, with gate one for every row."""
        return self._first.forward_first(self._expert_inputs(x))

    def start_routing(self) -> None:
        """Prepare the experts at the end of pre-training, so that routing starts from what the layer has learned.

        Without a shared expert all experts become copies of the first. With one the routed experts start at zero.
        """
        if self.shared is None:
            self._first.copy_first()
        else:
            self.experts.clear()

    def cap(self) -> None:
        """Clamp the logarithms of the experts' factors; see `PackedExperts.cap`."""
        self.experts.cap()
        if self.shared is not None:
            self.shared.cap()

    def idle_parameters(self, *, routed: bool) -> int:
        """Return the number of parameters that one row's prediction does not use."""
        experts = self.experts
        if routed:
            active = min(self.router.top_k, experts.num_experts)
            return (experts.num_experts - active) * experts.parameters_per_expert()
        active = 1 if self.shared is None else 0
        of_router = sum(parameter.numel() for parameter in self.router.parameters())
        return (experts.num_experts - active) * experts.parameters_per_expert() + of_router

    def multiply_adds(self, column_shares: Tensor, *, routed: bool) -> float:
        """Return the multiply-adds of one row, with routing or without; see `Student`."""
        entries = read_entries(column_shares, self.columns)
        shared = 0.0 if self.shared is None else self.shared.multiply_adds_per_expert(entries)
        one_expert = self.experts.multiply_adds_per_expert(entries)
        if not routed:
            return shared or one_expert
        active = min(self.router.top_k, self.experts.num_experts)
        return self.router.multiply_adds(column_shares) + shared + active * one_expert

    @property
    def _first(self) -> PackedExperts:
        """The expert that all rows pass in pre-training."""
        if self.shared is not None:
            return self.shared
        assert isinstance(self.experts, PackedExperts), "residual experts need a shared one"
        return self.experts

    def _mix_gates(self, routing: Routing) -> Tensor:
        """Return the gates ``[B, E]`` of the mix, softened and with dropout in training."""
        router, count = self.router, self.experts.num_experts
        gates = router.detached_gates(routing) if self.stop_gate_gradient else routing.gates
        if not self.training:
            return gates
        if self.softness:
            detached = self.stop_gate_gradient
            soft = router.detached_gates(routing, count) if detached else router.gates(routing.scores, count)
            gates = torch.lerp(gates, soft, self.softness)
        return drop_gates(gates, self.expert_dropout) if self.expert_dropout else gates

    def _expert_inputs(self, x: Rows) -> Rows:
        x = select_columns(x, self.columns)
        return dropout(x, self.dropout) if self.training and self.dropout and isinstance(x, Tensor) else x


def drop_gates(gates: Tensor, probability: float) -> Tensor:
    """Return gates ``[B, E]`` of which each is set to zero with the probability, scaled to rows that sum to one.

    A row that would lose all its gates keeps all of them.
    """
    kept = gates * (torch.rand_like(gates) >= probability)
    total = kept.sum(dim=1, keepdim=True)
    # No division by zero: its gradient would be NaN, also if the quotient is not used.
    return torch.where(total > 0, kept / torch.where(total > 0, total, 1.0), gates)
