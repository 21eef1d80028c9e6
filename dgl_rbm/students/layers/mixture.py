"""A mixture-of-experts layer: a router and the experts that it sends rows to."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import dropout

from dgl_rbm.precision import autocasts
from dgl_rbm.rows.sparse import Rows
from dgl_rbm.students.layers.columns import columns_of
from dgl_rbm.students.layers.experts import PackedExperts
from dgl_rbm.students.layers.routing import Routing, TopKRouter

__all__ = ["MixtureLayer"]


class MixtureLayer(nn.Module):
    """Routes rows and mixes what their experts make of them (RbM paper, eqs. 1 and 5).

    Parameters
    ----------
    router : TopKRouter
        Sees the rows as they are.
    experts : PackedExperts
        See the rows after dropout.
    dropout : float
        Share of the experts' input dropped in training; zero for the first layer.
    stop_gate_gradient : bool
        Whether the mix passes no gradient to the scores, so that only penalties train the routing.
    columns : slice, optional
        The columns that the experts see, where not all.
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
        """Return the mixed outputs ``[B, N]`` of rows ``[B, F]``, and how the rows were routed."""
        routing = self.router(x)
        gates = self.router.detached_gates(routing) if self.stop_gate_gradient else routing.gates
        return self.experts(self._fed(x), gates), routing

    def answer(self, x: Rows) -> Tensor:
        """Return the mixed outputs ``[B, N]`` alone; quicker than `forward` where a single row is served."""
        if x.shape[0] == 1 and self.experts.serves and not autocasts(x.device):
            return self.experts.mix_one(columns_of(x, self.columns), self.router.choose(x))
        return self(x)[0]

    def first_expert(self, x: Rows) -> Tensor:
        """Return the output ``[B, N]`` of the first expert alone, with weight one for every row."""
        return self.experts.first(self._fed(x))

    def _fed(self, x: Rows) -> Rows:
        """Return what the experts see of rows."""
        x = columns_of(x, self.columns)
        return dropout(x, self.dropout) if self.training and self.dropout and isinstance(x, Tensor) else x
