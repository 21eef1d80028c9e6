"""Mixture-of-experts layer: a router and its experts."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import dropout

from dgl_rbm.precision import autocast_enabled
from dgl_rbm.rows.sparse import Rows
from dgl_rbm.students.layers.columns import select_columns
from dgl_rbm.students.layers.experts import PackedExperts
from dgl_rbm.students.layers.routing import Routing, TopKRouter, read_entries

__all__ = ["MixtureLayer"]


class MixtureLayer(nn.Module):
    """Routes rows and mixes the outputs of their experts (RbM paper, eqs. 1 and 5).

    Parameters
    ----------
    router : TopKRouter
        Reads the rows without dropout.
    experts : PackedExperts
        Read the rows after dropout.
    dropout : float
        Share of the experts' inputs dropped in training; zero for the first layer.
    stop_gate_gradient : bool
        Whether the mix passes no gradient to the scores, so that only penalties train the routing.
    columns : slice, optional
        Columns that the experts read; all by default.
    """

    def __init__(
        self,
        router: TopKRouter,
        experts: PackedExperts,
        *,
        dropout: float,
        stop_gate_gradient: bool,
        columns: slice | None = None,
    ) -> None:
        super().__init__()
        self.columns = columns
        self.router = router
        self.experts = experts
        self.dropout = dropout
        self.stop_gate_gradient = stop_gate_gradient

    def forward(self, x: Rows) -> tuple[Tensor, Routing]:
        """Return the mixed outputs ``[B, N]`` of rows ``[B, F]``, and their routing."""
        routing = self.router(x)
        gates = self.router.detached_gates(routing) if self.stop_gate_gradient else routing.gates
        return self.experts(self._expert_inputs(x), gates), routing

    def output(self, x: Rows) -> Tensor:
        """Return the mixed outputs ``[B, N]`` alone; faster than `forward` for a single row in serving mode."""
        if x.shape[0] == 1 and self.experts.serving and not autocast_enabled(x.device):
            return self.experts.mix_one(select_columns(x, self.columns), self.router.route_one(x))
        return self(x)[0]

    def forward_first(self, x: Rows) -> Tensor:
        """Return the outputs ``[B, N]`` of the first expert alone, with gate one for every row."""
        return self.experts.forward_first(self._expert_inputs(x))

    def multiply_adds(self, column_shares: Tensor, *, routed: bool) -> float:
        """Return the multiply-adds of one row, with routing or for the first expert alone; see `Student`."""
        one_expert = read_entries(column_shares, self.columns) * self.experts.bias.shape[1]
        if not routed:
            return one_expert
        active = min(self.router.top_k, self.experts.num_experts)
        return self.router.multiply_adds(column_shares) + active * one_expert

    def _expert_inputs(self, x: Rows) -> Rows:
        x = select_columns(x, self.columns)
        return dropout(x, self.dropout) if self.training and self.dropout and isinstance(x, Tensor) else x
