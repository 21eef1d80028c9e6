"""The vanilla mixture of experts, whose routing is learned by gradient in a projected space."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dgl_rbm.norms import NormName
from dgl_rbm.registry import DEFAULT_DEPTH, DEFAULT_WIDTH, students
from dgl_rbm.students.layers.routing import LearnedRouter
from dgl_rbm.students.mixture import MixtureConfig, MixtureStudent

__all__ = ["MoE", "MoEConfig"]


class MoE(MixtureStudent):
    """Mixture of experts with a learned router (RbM paper, eqs. 1, 2 and 8).

    Parameters
    ----------
    in_dim, num_classes : int
        F + P, and C.
    hidden_dim, num_layers, norm, dropout, num_experts, load_balance_weight, pretrain_epochs
        As for `MixtureStudent`.
    top_k : int
        k.
    routing_dim : int, optional
        Dimensions of the space that rows are routed in; `hidden_dim` by default.
    """

    kind = "moe"

    def __init__(
        self,
        in_dim: int,
        num_classes: int,
        *,
        hidden_dim: int = DEFAULT_WIDTH,
        num_layers: int = DEFAULT_DEPTH,
        norm: NormName = "none",
        dropout: float = 0.3,
        num_experts: int = 8,
        top_k: int = 3,
        routing_dim: int | None = None,
        load_balance_weight: float = 0.01,
        pretrain_epochs: int = 0,
    ) -> None:
        super().__init__(
            in_dim,
            num_classes,
            make_router=lambda _, width, count: LearnedRouter(width, count, top_k, routing_dim or hidden_dim),
            hidden_dim=hidden_dim,
            num_layers=num_layers,
            norm=norm,
            dropout=dropout,
            num_experts=[num_experts] * num_layers,
            load_balance_weight=load_balance_weight,
            pretrain_epochs=pretrain_epochs,
            input_attention=False,
            output_scale=False,
            stop_gate_gradient=False,
        )


@students.register
class MoEConfig(MixtureConfig):
    """Options of the vanilla mixture of experts."""

    kind: Literal["moe"] = Field(default="moe", description="Mixture of experts with a learned router.")
    routing_dim: int | None = Field(
        default=None, ge=1, description="Dimensions of the space that rows are routed in; null takes hidden_dim."
    )

    def build(
        self, in_dim: int, num_classes: int, *, hidden_dim: int = DEFAULT_WIDTH, num_layers: int = DEFAULT_DEPTH
    ) -> MoE:
        return MoE(
            in_dim,
            num_classes,
            hidden_dim=self.width(hidden_dim),
            num_layers=self.num_layers or num_layers,
            norm=self.norm,
            dropout=self.dropout,
            num_experts=self.num_experts,
            top_k=self.top_k,
            routing_dim=self.routing_dim,
            load_balance_weight=self.load_balance_weight,
            pretrain_epochs=self.pretrain_epochs,
        )
