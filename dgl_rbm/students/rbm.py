"""Routing-by-Memory: a mixture whose experts own regions of the space that a layer's inputs lie in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Union, cast

from pydantic import Field
from torch import Tensor, nn

from dgl_rbm.norms import NormName
from dgl_rbm.objectives import commitment_loss, self_similarity_loss
from dgl_rbm.registry import DEFAULT_DEPTH, DEFAULT_WIDTH, students
from dgl_rbm.rows.sparse import Rows
from dgl_rbm.students.layers.cluster_count import MOST_EXPERTS, best_centres, candidate_counts, starting_counts
from dgl_rbm.students.layers.columns import Columns, input_columns
from dgl_rbm.students.layers.kmeans import kmeans_centres
from dgl_rbm.students.layers.memory import ExpertMemory, annealed_momentum
from dgl_rbm.students.layers.routing import MemoryRouter, Metric, Routing
from dgl_rbm.students.mixture import MixtureConfig, MixtureStudent

__all__ = ["RbM", "RbMConfig"]

_Count = Annotated[int, Field(ge=1)]
NumExperts = Union[_Count, Literal["auto"], Annotated[list[_Count], Field(min_length=1)]]  # noqa: UP007


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
    hidden_dim, num_layers, norm, dropout, load_balance_weight, pretrain_epochs
        As for `MixtureStudent`.
    num_experts : int, sequence of int, or "auto"
        E, of all layers or of each; "auto" chooses it when pre-training ends, from 3 to 8 and at least k, by the
        silhouette of the clusters of the layer's inputs (see `best_centres`).
    top_k : int
        k.
    memory_momentum, annealing, annealing_epochs
        λ0, Δ and T of equation 14.
    commitment_weight, self_similarity_weight : float
        Weights of equations 6 and 7.
    input_attention, output_scale : bool
        Whether experts scale their input and layers their output (eq. 5).
    routing, temperature, gate_scale
        Metric of `MemoryRouter`, whether its scale is learned, and its scale.
    route_on, feed : {"all", "encoding", "features"}
        The columns that the first layer routes on and that its experts see; deeper layers have them mixed already.
        `feed` is not "encoding".
    encoding_dim : int, optional
        P; needed where `route_on` or `feed` is not "all".

    Raises
    ------
    ConfigError
        Where there are not as many numbers of experts as layers, "auto" has no pre-training to choose after, or
        encodings are asked for and there are none.
    """

    kind = "rbm"

    def __init__(
        self,
        in_dim: int,
        num_classes: int,
        *,
        hidden_dim: int = DEFAULT_WIDTH,
        num_layers: int = DEFAULT_DEPTH,
        norm: NormName = "none",
        dropout: float = 0.3,
        num_experts: int | Sequence[int] | Literal["auto"] = 5,
        top_k: int = 3,
        memory_momentum: float = 0.99,
        annealing: float = 0.05,
        annealing_epochs: int = 200,
        commitment_weight: float = 0.05,
        self_similarity_weight: float = 0.01,
        load_balance_weight: float = 0.01,
        input_attention: bool = True,
        output_scale: bool = True,
        pretrain_epochs: int = 10,
        routing: Metric = "cosine",
        temperature: Literal["fixed", "learned"] = "fixed",
        gate_scale: float = 1.0,
        route_on: Columns = "all",
        feed: Literal["all", "features"] = "all",
        encoding_dim: int | None = None,
    ) -> None:
        routed = input_columns(route_on, in_dim, encoding_dim, "route_on")

        def make_router(depth: int, width: int, count: int) -> MemoryRouter:
            columns = None if depth else routed
            width = width if columns is None else len(range(width)[columns])
            learned = temperature == "learned"
            return MemoryRouter(
                width, count, top_k, metric=routing, gate_scale=gate_scale, learned_scale=learned, columns=columns
            )

        super().__init__(
            in_dim,
            num_classes,
            make_router=make_router,
            hidden_dim=hidden_dim,
            num_layers=num_layers,
            norm=norm,
            dropout=dropout,
            num_experts=starting_counts(num_experts, num_layers, pretrain_epochs),
            load_balance_weight=load_balance_weight,
            pretrain_epochs=pretrain_epochs,
            input_attention=input_attention,
            output_scale=output_scale,
            stop_gate_gradient=True,
            expert_columns=input_columns(feed, in_dim, encoding_dim, "feed"),
        )
        self.chooses_experts = num_experts == "auto"
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
        for layer in self._stack():
            router = cast(MemoryRouter, layer.router)
            router.cap()
            router.memory.descend()
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
        layer = self._stack()[depth]
        memory, seen = self.memories()[depth], layer.router.seen(x)
        if self.chooses_experts:
            centres = best_centres(seen, candidate_counts(layer.router.top_k), directions=memory.directions)
            layer.experts.resize(len(centres))
            memory.resize(len(centres))
        else:
            centres = kmeans_centres(seen, len(memory.vectors), directions=memory.directions)
        memory.reset(centres)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        if self.chooses_experts:
            for depth, layer in enumerate(self._stack()):
                saved = state_dict.get(f"{prefix}layers.{depth}.experts.bias")
                if saved is not None and len(saved) != layer.experts.num_experts:
                    layer.experts.resize(len(saved))
                    self.memories()[depth].resize(len(saved))
        super()._load_from_state_dict(state_dict, prefix, *rest)


@students.register
class RbMConfig(MixtureConfig):
    """Options of Routing-by-Memory."""

    kind: Literal["rbm"] = Field(default="rbm", description="Mixture of experts routed by memory.")
    num_experts: NumExperts = Field(  # type: ignore[assignment]
        default=5,
        description="Experts per layer: a number, a list with one for each layer, or 'auto', which chooses each "
        "layer's from 3 to 8 by the silhouette of clusters of its inputs when pre-training ends.",
    )
    pretrain_epochs: int = Field(
        default=10, ge=0, description="Epochs at the start in which every row passes through the first expert."
    )
    memory_momentum: float = Field(default=0.99, ge=0, le=1, description="Share of a memory that one step keeps, λ0.")
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

    routing: Metric = Field(
        default="cosine",
        description="Scores of rows with memories: their 'cosine', or minus the squared 'euclidean' distance in "
        "shares of a row's mean one.",
    )
    temperature: Literal["fixed", "learned"] = Field(
        default="fixed", description="Whether gate_scale is 'fixed' or 'learned' from the loss of the predictions."
    )
    gate_scale: float = Field(
        default=1.0, gt=0, le=100, description="What scores are multiplied by before the softmax over experts."
    )
    route_on: Columns = Field(
        default="all", description="Columns that the first layer routes on: 'all', 'encoding' or 'features'."
    )
    feed: Literal["all", "features"] = Field(
        default="all", description="Columns that the first layer's experts see: 'all' or 'features'."
    )
    encoding_dim: int | None = Field(
        default=None,
        ge=0,
        description="How many columns, the last ones, are encodings; a run sets it where it is needed.",
    )

    def for_columns(self, encoding_dim: int) -> RbMConfig:
        needed = self.route_on != "all" or self.feed != "all"
        return self.model_copy(update={"encoding_dim": encoding_dim}) if needed else self

    def _fewest_experts(self) -> int:
        counts = self.num_experts
        if isinstance(counts, str):
            return MOST_EXPERTS
        return counts if isinstance(counts, int) else min(counts)

    def build(
        self, in_dim: int, num_classes: int, *, hidden_dim: int = DEFAULT_WIDTH, num_layers: int = DEFAULT_DEPTH
    ) -> RbM:
        return RbM(
            in_dim,
            num_classes,
            hidden_dim=self.width(hidden_dim),
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
            routing=self.routing,
            temperature=self.temperature,
            gate_scale=self.gate_scale,
            route_on=self.route_on,
            feed=self.feed,
            encoding_dim=self.encoding_dim,
        )
