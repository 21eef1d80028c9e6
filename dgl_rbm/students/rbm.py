"""Routing-by-Memory: a mixture whose experts own regions of the space that a layer's inputs lie in."""

from __future__ import annotations

from typing import Literal, cast

from pydantic import Field
from torch import Tensor, nn

from dgl_rbm.norms import NormName
from dgl_rbm.objectives import commitment_loss, self_similarity_loss
from dgl_rbm.registry import students
from dgl_rbm.sparse import Rows
from dgl_rbm.students.layers.kmeans import kmeans_centres
from dgl_rbm.students.layers.memory import ExpertMemory, annealed_momentum
from dgl_rbm.students.layers.routing import MemoryRouter, Routing
from dgl_rbm.students.mixture import MixtureConfig, MixtureStudent

__all__ = ["RbM", "RbMConfig"]


class RbM(MixtureStudent):
    """Mixture of experts routed by memory (RbM paper, sections 4.1 and 4.3).

    The memories are left out of the optimiser. `after_step` takes a plain gradient step on the self-similarity
    loss, with a step size of 1 times its weight, and moves them towards the rows of the last
    `training_forward` in training mode. Nothing else writes them: neither evaluation, nor plain forward
    passes in training mode.

    Parameters
    ----------
    in_dim, num_classes : int
        F + P, and C.
    hidden_dim, num_layers, norm, dropout, num_experts, load_balance_weight, pretrain_epochs
        As for `MixtureStudent`.
    top_k : int
        k.
    memory_momentum, annealing, annealing_epochs
        λ0, Δ and T of equation 14.
    commitment_weight, self_similarity_weight : float
        Weights of equations 6 and 7.
    input_attention, output_scale : bool
        Whether experts scale their input and layers their output (eq. 5).
    """

    kind = "rbm"

    def __init__(
        self,
        in_dim: int,
        num_classes: int,
        *,
        hidden_dim: int = 256,
        num_layers: int = 2,
        norm: NormName = "none",
        dropout: float = 0.3,
        num_experts: int = 5,
        top_k: int = 3,
        memory_momentum: float = 0.9,
        annealing: float = 0.05,
        annealing_epochs: int = 200,
        commitment_weight: float = 0.05,
        self_similarity_weight: float = 0.01,
        load_balance_weight: float = 0.01,
        input_attention: bool = True,
        output_scale: bool = True,
        pretrain_epochs: int = 10,
    ) -> None:
        super().__init__(
            in_dim,
            num_classes,
            make_router=lambda width: MemoryRouter(width, num_experts, top_k),
            hidden_dim=hidden_dim,
            num_layers=num_layers,
            norm=norm,
            dropout=dropout,
            num_experts=num_experts,
            load_balance_weight=load_balance_weight,
            pretrain_epochs=pretrain_epochs,
            input_attention=input_attention,
            output_scale=output_scale,
            stop_gate_gradient=True,
        )
        self.memory_momentum = memory_momentum
        self.annealing = annealing
        self.annealing_epochs = annealing_epochs
        self.commitment_weight = commitment_weight
        self.self_similarity_weight = self_similarity_weight
        self._epoch = 0
        self._pending: list[tuple[Rows, Tensor]] = []

    def memories(self) -> list[ExpertMemory]:
        """Return the memory of each layer."""
        return [cast(MemoryRouter, layer.router).memory for layer in self._stack()]

    def trained_parameters(self) -> list[nn.Parameter]:
        # Adam steps by the learning rate however small the gradient is, and would carry a memory, whose only
        # gradient is the self-similarity's, out of the middle of its rows within a few steps.
        own = {id(memory.vectors) for memory in self.memories()}
        return [parameter for parameter in self.parameters() if id(parameter) not in own]

    def start_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def after_step(self) -> None:
        super().after_step()
        for memory in self.memories():
            memory.descend()
        if self.training and self._pending:
            momentum = annealed_momentum(self._epoch, self.memory_momentum, self.annealing, self.annealing_epochs)
            for memory, (rows, gates) in zip(self.memories(), self._pending, strict=True):
                memory.update(rows, gates, momentum)
        self._pending = []

    def _after_training_forward(self, passes: list[tuple[Rows, Routing]]) -> None:
        if self.training:
            self._pending = [
                (rows.detach().float() if isinstance(rows, Tensor) else rows, routing.gates.detach())
                for rows, routing in passes
            ]

    def _penalties(self, depth: int, routing: Routing) -> dict[str, Tensor]:
        commitment = commitment_loss(routing.cosines, routing.gates)
        similarity = self_similarity_loss(self.memories()[depth].vectors)
        return super()._penalties(depth, routing) | {
            "commitment": self.commitment_weight * commitment,
            "self_similarity": self.self_similarity_weight * similarity,
        }

    def _start_router(self, depth: int, x: Rows) -> None:
        memory = self.memories()[depth]
        memory.reset(kmeans_centres(x, len(memory.vectors)))


@students.register
class RbMConfig(MixtureConfig):
    """Options of Routing-by-Memory."""

    kind: Literal["rbm"] = Field(default="rbm", description="Mixture of experts routed by memory.")
    num_experts: int = Field(default=5, ge=1, description="Experts per layer.")
    pretrain_epochs: int = Field(
        default=10, ge=0, description="Epochs at the start in which every row passes through the first expert."
    )
    memory_momentum: float = Field(default=0.9, ge=0, le=1, description="Share of a memory that one step keeps, λ0.")
    annealing: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        description="Share of the way from memory_momentum to 1 gone after annealing_epochs, Δ.",
    )
    annealing_epochs: int = Field(default=200, ge=1, description="Epochs over which Δ is reached, T.")
    commitment_weight: float = Field(
        default=0.05, ge=0, description="Weight of the pull of hidden states towards their experts' memories."
    )
    self_similarity_weight: float = Field(
        default=0.01, ge=0, description="Weight of the push between the memories of a layer."
    )
    input_attention: bool = Field(default=True, description="Whether each expert scales its input by a learned vector.")
    output_scale: bool = Field(default=True, description="Whether each layer scales its output by a learned number.")

    def build(self, in_dim: int, num_classes: int, *, hidden_dim: int = 256, num_layers: int = 2) -> RbM:
        return RbM(
            in_dim,
            num_classes,
            hidden_dim=self.hidden_dim or hidden_dim,
            num_layers=self.num_layers or num_layers,
            norm=self.norm,
            dropout=self.dropout,
            num_experts=self.num_experts,
            top_k=self.top_k,
            memory_momentum=self.memory_momentum,
            annealing=self.annealing,
            annealing_epochs=self.annealing_epochs,
            commitment_weight=self.commitment_weight,
            self_similarity_weight=self.self_similarity_weight,
            load_balance_weight=self.load_balance_weight,
            input_attention=self.input_attention,
            output_scale=self.output_scale,
            pretrain_epochs=self.pretrain_epochs,
        )
