"""Routing-by-Memory: a mixture of experts, each responsible for a region of the space of a layer's inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Union, cast

from pydantic import Field, field_validator
from torch import Tensor, nn

from dgl_rbm.objectives import commitment_loss, self_similarity_loss
from dgl_rbm.registry import students
from dgl_rbm.rows.sparse import Rows
from dgl_rbm.students.layers.cluster_count import MAX_EXPERTS, candidate_counts, centres_by_silhouette
from dgl_rbm.students.layers.columns import Columns, column_slice
from dgl_rbm.students.layers.kmeans import kmeans_centres
from dgl_rbm.students.layers.memory import ExpertMemory, annealed_momentum
from dgl_rbm.students.layers.routing import MemoryRouter, Metric, Routing
from dgl_rbm.students.mixture import MixtureConfig, MixtureStudent

__all__ = ["RbM", "RbMConfig"]

_Count = Annotated[int, Field(ge=1, le=4096)]
NumExperts = Union[_Count, Literal["auto"], Annotated[list[_Count], Field(min_length=1)]]  # noqa: UP007


class RbM(MixtureStudent):
    """Mixture of experts routed by memory (RbM paper, sections 4.1 and 4.3).

    The optimiser does not step the memories. `after_step` takes a plain gradient step on the self-similarity loss, with
    a step size of 1 times its weight, and then moves the memories towards the rows of the last `training_forward` in
    training mode. Neither evaluation nor plain forward passes in training mode change them.

    Parameters
    ----------
    in_dim, num_classes : int
        F + P, and C.
    num_experts : int, sequence of int, or "auto"
        E of all layers or of each. "auto" chooses it at the end of pre-training, from 3 to 8 and at least k, by the
        silhouette of the clusters of the layer's inputs (see `centres_by_silhouette`).
    top_k : int
        k.
    memory_momentum, annealing, annealing_epochs
        λ0, Δ and T of equation 14.
    commitment_weight, self_similarity_weight : float
        Weights of equations 6 and 7.
    input_attention, output_scale : bool
        Whether experts scale their inputs and layers their outputs (eq. 5).
    routing, gate_scale, learn_gate_scale
        Metric of `MemoryRouter`, its scale, and whether the scale is learned.
    router_inputs : {"all", "encoding", "features"}
        Columns that the first layer's router reads; deeper layers read hidden states, which mix all columns.
    expert_inputs : {"all", "features"}
        Columns that the first layer's experts read.
    encoding_dim : int, optional
        P; required if `router_inputs` or `expert_inputs` is not "all".
    pretrain_epochs, **shared
        As for `MixtureStudent`.

    Raises
    ------
    ConfigError
        If `num_experts` does not fit the number of layers, is "auto" without pre-training, or if there are no columns
        of the kind that `router_inputs` or `expert_inputs` names.
    """

    kind = "rbm"

    def __init__(
        self,
        in_dim: int,
        num_classes: int,
        *,
        num_experts: int | Sequence[int] | Literal["auto"] = 5,
        top_k: int = 3,
        memory_momentum: float = 0.99,
        annealing: float = 0.05,
        annealing_epochs: int = 200,
        commitment_weight: float = 0.05,
        self_similarity_weight: float = 0.01,
        input_attention: bool = True,
        output_scale: bool = True,
        routing: Metric = "cosine",
        gate_scale: float = 1.0,
        learn_gate_scale: bool = False,
        router_inputs: Columns = "all",
        expert_inputs: Literal["all", "features"] = "all",
        encoding_dim: int | None = None,
        pretrain_epochs: int = 10,
        **shared: Any,
    ) -> None:
        router_columns = column_slice(router_inputs, in_dim, encoding_dim, "router_inputs")

        def make_router(depth: int, width: int, count: int) -> MemoryRouter:
            columns = None if depth else router_columns
            return MemoryRouter(
                width if columns is None else len(range(width)[columns]),
                count,
                top_k,
                metric=routing,
                gate_scale=gate_scale,
                learn_gate_scale=learn_gate_scale,
                columns=columns,
            )

        super().__init__(
            in_dim,
            num_classes,
            make_router=make_router,
            num_experts=num_experts,
            input_attention=input_attention,
            output_scale=output_scale,
            stop_gate_gradient=True,
            expert_columns=column_slice(expert_inputs, in_dim, encoding_dim, "expert_inputs"),
            pretrain_epochs=pretrain_epochs,
            **shared,
        )
        self.chooses_num_experts = num_experts == "auto"
        self.memory_momentum = memory_momentum
        self.annealing = annealing
        self.annealing_epochs = annealing_epochs
        self.commitment_weight = commitment_weight
        self.self_similarity_weight = self_similarity_weight
        self._epoch = 0
        self._pending: list[tuple[Rows, Tensor]] = []

    def memories(self) -> list[ExpertMemory]:
        """Return the memory of each layer."""
        return [router.memory for router in self._memory_routers()]

    def trained_parameters(self) -> list[nn.Parameter]:
        # The only gradient of a memory is that of the self-similarity loss. Adam's steps have the size of the learning
        # rate however small the gradient is, and would move a memory away from its rows within a few steps.
        own = {id(memory.vectors) for memory in self.memories()}
        return [parameter for parameter in self.parameters() if id(parameter) not in own]

    def start_epoch(self, epoch: int) -> None:
        super().start_epoch(epoch)
        self._epoch = epoch

    def after_step(self) -> None:
        super().after_step()
        for router in self._memory_routers():
            router.cap()
            router.memory.gradient_step()
        if self.training and self._pending:
            momentum = annealed_momentum(self._epoch, self.memory_momentum, self.annealing, self.annealing_epochs)
            for memory, (rows, gates) in zip(self.memories(), self._pending, strict=True):
                memory.update(rows, gates, momentum)
        self._pending = []

    def _record_training_forward(self, routings: list[tuple[Rows, Routing]]) -> None:
        if self.training:
            self._pending = [
                (rows.detach().float() if isinstance(rows, Tensor) else rows, routing.gates.detach())
                for rows, routing in routings
            ]

    def _penalties(self, depth: int, routing: Routing) -> dict[str, Tensor]:
        commitment = commitment_loss(routing.scores, routing.gates)
        similarity = self_similarity_loss(self.memories()[depth].vectors)
        return super()._penalties(depth, routing) | {
            "commitment": self.commitment_weight * commitment,
            "self_similarity": self.self_similarity_weight * similarity,
        }

    def _initialize_router(self, depth: int, x: Rows) -> None:
        layer, router = self._stack()[depth], self._memory_routers()[depth]
        memory, rows = router.memory, router.select_columns(x)
        if self.chooses_num_experts:
            centres = centres_by_silhouette(rows, candidate_counts(router.top_k), spherical=router.spherical)
            layer.experts.resize(len(centres))
            memory.resize(len(centres))
        else:
            centres = kmeans_centres(rows, len(memory.vectors), spherical=router.spherical)
        memory.reset(centres)

    def _memory_routers(self) -> list[MemoryRouter]:
        return cast("list[MemoryRouter]", self.routers())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        if self.chooses_num_experts:
            for depth, layer in enumerate(self._stack()):
                saved = state_dict.get(f"{prefix}layers.{depth}.router.memory.vectors")
                if saved is not None and len(saved) != layer.experts.num_experts:
                    layer.experts.resize(len(saved))
                    self.memories()[depth].resize(len(saved))
        super()._load_from_state_dict(state_dict, prefix, *rest)


@students.register
class RbMConfig(MixtureConfig):
    """Options of Routing-by-Memory."""

    module: ClassVar[Any] = RbM
    former_names: ClassVar[Any] = {
        "temperature": "learn_gate_scale",
        "route_on": "router_inputs",
        "feed": "expert_inputs",
    }

    kind: Literal["rbm"] = Field(default="rbm", description="Mixture of experts routed by memory.")
    num_experts: NumExperts = Field(  # type: ignore[assignment]
        default=5,
        description="Experts per layer: a number, a list with a number for each layer, or 'auto', which chooses a "
        "number from 3 to 8 for each layer by the silhouette of the clusters of its inputs at the end of pre-training.",
    )
    pretrain_epochs: int = Field(
        default=10,
        ge=0,
        description="Epochs at the start in which every row passes through the shared or the first expert.",
    )
    memory_momentum: float = Field(default=0.99, ge=0, le=1, description="Share of a memory that one step keeps, λ0.")
    annealing: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        description="Share of the way from memory_momentum to 1 covered after annealing_epochs, Δ.",
    )
    annealing_epochs: int = Field(default=200, ge=1, description="Epochs until Δ is reached, T.")
    commitment_weight: float = Field(
        default=0.05, ge=0, description="Weight of the loss that pulls hidden states to their experts' memories."
    )
    self_similarity_weight: float = Field(
        default=0.01, ge=0, description="Weight of the loss that pushes the memories of a layer apart."
    )
    input_attention: bool = Field(default=True, description="Whether each expert scales its input by a learned vector.")
    output_scale: bool = Field(default=True, description="Whether each layer scales its output by a learned number.")

    routing: Metric = Field(
        default="cosine",
        description="Scores of a row and the memories: their 'cosine', or the negative squared 'euclidean' distances "
        "divided by the row's mean squared distance.",
    )
    learn_gate_scale: bool = Field(
        default=False,
        description="Whether the loss of the predictions trains the scale of the gates; gate_scale is its start.",
    )
    gate_scale: float = Field(
        default=1.0, gt=0, le=100, description="Factor of the scores before the softmax over experts."
    )
    router_inputs: Columns = Field(
        default="all", description="Columns that the first layer's router reads: 'all', 'encoding' or 'features'."
    )
    expert_inputs: Literal["all", "features"] = Field(
        default="all", description="Columns that the first layer's experts read: 'all' or 'features'."
    )
    encoding_dim: int | None = Field(
        default=None,
        ge=0,
        description="Number of encoding columns, the last ones; set by the run if needed.",
    )

    @field_validator("learn_gate_scale", mode="before")
    @classmethod
    def _read_former_temperature(cls, value: Any) -> Any:
        return {"fixed": False, "learned": True}.get(value, value) if isinstance(value, str) else value

    def with_encoding_dim(self, encoding_dim: int) -> RbMConfig:
        needed = self.router_inputs != "all" or self.expert_inputs != "all"
        return self.model_copy(update={"encoding_dim": encoding_dim}) if needed else self

    def _fewest_experts(self) -> int:
        counts = self.num_experts
        if isinstance(counts, str):
            return MAX_EXPERTS
        return counts if isinstance(counts, int) else min(counts)
