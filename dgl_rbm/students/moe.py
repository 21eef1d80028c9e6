"""Vanilla mixture of experts, with routing learned by gradient in a projected space."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from dgl_rbm.registry import DEFAULT_WIDTH, students
from dgl_rbm.students.layers.routing import LearnedRouter
from dgl_rbm.students.mixture import MixtureConfig, MixtureStudent

__all__ = ["MoE", "MoEConfig"]


class MoE(MixtureStudent):
    """Mixture of experts with a learned router (RbM paper, eqs. 1, 2 and 8).

    Parameters
    ----------
    in_dim, num_classes : int
        F + P, and C.
    num_experts : int
        E of each layer.
    top_k : int
        k.
    routing_dim : int, optional
        Dimensions of the space that rows are projected to for routing; `hidden_dim` by default.
    hidden_dim, **shared
        As for `MixtureStudent`.
    """

    kind = "moe"

    def __init__(
        self,
        in_dim: int,
        num_classes: int,
        *,
        num_experts: int = 8,
        top_k: int = 3,
        routing_dim: int | None = None,
        hidden_dim: int = DEFAULT_WIDTH,
        **shared: Any,
    ) -> None:
        super().__init__(
            in_dim,
            num_classes,
            make_router=lambda _, width, count: LearnedRouter(width, count, top_k, routing_dim or hidden_dim),
            num_experts=num_experts,
            hidden_dim=hidden_dim,
            **shared,
        )


@students.register
class MoEConfig(MixtureConfig):
    """Options of the vanilla mixture of experts."""

    module: ClassVar[Any] = MoE

    kind: Literal["moe"] = Field(default="moe", description="Mixture of experts with a learned router.")
    routing_dim: int | None = Field(
        default=None,
        ge=1,
        description="Dimensions of the space that rows are projected to for routing; null takes hidden_dim.",
    )
