"""Base of the mixtures of experts, `moe` and `rbm`: layers, training phases, load balancing and shared options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import relu

from dgl_rbm.errors import ConfigError
from dgl_rbm.norms import NormName, make_norm
from dgl_rbm.objectives import load_balance_loss
from dgl_rbm.precision import in_float32
from dgl_rbm.registry import DEFAULT_DEPTH, DEFAULT_WIDTH
from dgl_rbm.rows.sparse import Rows
from dgl_rbm.students.base import Student, StudentConfig, StudentOutput
from dgl_rbm.students.layers.cluster_count import initial_counts
from dgl_rbm.students.layers.experts import PackedExperts
from dgl_rbm.students.layers.kmeans import subsample
from dgl_rbm.students.layers.mixture import MixtureLayer
from dgl_rbm.students.layers.residual_experts import ResidualExperts
from dgl_rbm.students.layers.routing import Routing, TopKRouter

__all__ = ["MixtureConfig", "MixtureStudent"]

_RANK_WITHOUT_SHARED = "expert_rank is given, but the layers have no shared expert that residuals could correct."
_SHARE_AN_EXPERT = "Set shared_expert to true."


class MixtureStudent(Student):
    """Stack of mixture-of-experts layers with ReLU between them.

    In the pre-training phase every row passes through the shared expert of each layer, or the first one if none is
    shared. The phase lasts from the start to `finish_pretraining`; a student with ``pretrain_epochs=0`` has none.

    Parameters
    ----------
    in_dim, num_classes : int
        F + P, and C.
    make_router : callable
        Makes a layer's router from the layer's depth, counted from 0, the width of its inputs, and its E.
    num_experts : int, sequence of int, or "auto"
        E of all layers or of each; with "auto" as for `initial_counts`.
    hidden_dim, num_layers : int
        Width of the hidden layers; number of layers, the output layer included.
    norm : {"none", "batch", "layer"}
        Normalisation before each ReLU, and so before the next layer's router.
    dropout : float
        Share of the experts' inputs dropped in training, in every layer but the first.
    load_balance_weight : float
        Weight of equation 8 of the RbM paper.
    pretrain_epochs : int
        Length of the pre-training phase.
    input_attention, output_scale : bool
        As for `PackedExperts`.
    stop_gate_gradient : bool
        As for `MixtureLayer`.
    expert_columns : slice, optional
        Columns of the inputs that the first layer's experts read; all by default.
    shared_expert : bool
        Whether each layer adds the output of an expert that every row passes through. The routed experts then start
        at zero, so that a student with pre-training starts routing with the predictions of a trained perceptron.
    expert_rank : int, optional
        Rank of the routed experts, which then are `ResidualExperts`; full by default. Needs a shared expert.
    soft_routing_epochs : int
        Epochs after pre-training in which the mix of the experts changes linearly from the softmax over all experts
        to that over the top k.
    expert_dropout : float
        As for `MixtureLayer`.

    Raises
    ------
    ConfigError
        If `num_experts` does not fit `num_layers` or `pretrain_epochs`, or `expert_rank` lacks a shared expert.
    """

    routed: Tensor

    def __init__(
        self,
        in_dim: int,
        num_classes: int,
        *,
        make_router: Callable[[int, int, int], TopKRouter],
        num_experts: int | Sequence[int] | Literal["auto"],
        hidden_dim: int = DEFAULT_WIDTH,
        num_layers: int = DEFAULT_DEPTH,
        norm: NormName = "none",
        dropout: float = 0.3,
        load_balance_weight: float = 0.01,
        pretrain_epochs: int = 0,
        input_attention: bool = False,
        output_scale: bool = False,
        stop_gate_gradient: bool = False,
        expert_columns: slice | None = None,
        shared_expert: bool = False,
        expert_rank: int | None = None,
        soft_routing_epochs: int = 0,
        expert_dropout: float = 0.0,
    ) -> None:
        super().__init__(in_dim, num_classes)
        if expert_rank is not None and not shared_expert:
            raise ConfigError(_RANK_WITHOUT_SHARED, hint=_SHARE_AN_EXPERT)
        counts = initial_counts(num_experts, num_layers, pretrain_epochs)
        widths = [in_dim, *[hidden_dim] * (num_layers - 1), num_classes]
        expert_dim = len(range(in_dim)[expert_columns]) if expert_columns is not None else in_dim
        layers: list[MixtureLayer] = []
        for depth, ((before, after), count) in enumerate(zip(pairwise(widths), counts, strict=True)):
            width = before if depth else expert_dim
            factors = {"input_attention": input_attention, "output_scale": output_scale}
            experts: PackedExperts | ResidualExperts
            if expert_rank is None:
                experts = PackedExperts(count, width, after, **factors)
                if shared_expert:
                    experts.clear()
            else:
                experts = ResidualExperts(count, width, after, rank=expert_rank)
            layer = MixtureLayer(
                make_router(depth, before, count),
                experts,
                dropout=dropout if depth else 0.0,
                stop_gate_gradient=stop_gate_gradient,
                columns=None if depth else expert_columns,
                shared=PackedExperts(1, width, after, **factors) if shared_expert else None,
                expert_dropout=expert_dropout,
            )
            layers.append(layer)
        self.layers = nn.ModuleList(layers)
        self.norms = nn.ModuleList(make_norm(norm, hidden_dim) for _ in range(num_layers - 1))
        self.load_balance_weight = load_balance_weight
        self.pretrain_epochs = pretrain_epochs
        self.soft_routing_epochs = soft_routing_epochs
        # A buffer, so that a saved student keeps its phase.
        self.register_buffer("routed", torch.tensor(pretrain_epochs == 0))

    @property
    def pretraining(self) -> bool:
        return not bool(self.routed)

    def forward(self, x: Rows) -> Tensor:
        return self._run(x)

    def training_forward(self, x: Rows) -> StudentOutput:
        hidden: list[Tensor] = []
        if self.pretraining:
            return StudentOutput([self._run(x, hidden=hidden)], hidden=hidden[-1:])
        routings: list[tuple[Rows, Routing]] = []
        logits = self._run(x, routings, hidden)
        penalties: dict[str, Tensor] = {}
        with in_float32(x.device):
            for depth, (_, routing) in enumerate(routings):
                for name, value in self._penalties(depth, routing).items():
                    penalties[name] = penalties[name] + value if name in penalties else value
        self._record_training_forward(routings)
        return StudentOutput([logits], penalties, hidden[-1:])

    @property
    def patience_starts_at(self) -> int:
        return self.pretrain_epochs + self.soft_routing_epochs

    def start_epoch(self, epoch: int) -> None:
        for layer in self._stack():
            layer.softness = max(0.0, 1 - epoch / self.soft_routing_epochs) if self.soft_routing_epochs else 0.0

    def after_step(self) -> None:
        for layer in self._stack():
            layer.cap()

    @torch.no_grad()
    def finish_pretraining(self, x: Rows) -> None:
        """Copy the first expert into the others, if none is shared, and start routing (RbM paper, section 4.3).

        Layer by layer, in evaluation mode: the layer's router is initialised from the layer's inputs, and the layer's
        routed outputs are the inputs of the next. Does nothing after the pre-training phase. Large inputs are
        subsampled.
        """
        if not self.pretraining:
            return
        was_training = self.training
        self.eval()
        hidden: Rows = subsample(x).to(self.routed.device)
        for depth, layer in enumerate(self._stack()):
            layer.start_routing()
            self._initialize_router(depth, hidden)
            hidden = self._activate(depth, layer(hidden)[0])
        self.routed.fill_(True)
        self.train(was_training)

    def skip_pretraining(self) -> None:
        # A buffer on the meta device has no value; `pretraining` reads this one.
        self.routed = torch.tensor(True, device="cpu" if self.routed.is_meta else self.routed.device)

    def routers(self) -> list[TopKRouter]:
        return [layer.router for layer in self._stack()]

    @torch.no_grad()
    def routings(self, x: Rows) -> list[tuple[Rows, Routing]]:
        was_training = self.training
        self.eval()
        routings: list[tuple[Rows, Routing]] = []
        self._run(x, routings)
        self.train(was_training)
        return routings

    def num_active_parameters(self) -> int:
        idle = sum(layer.idle_parameters(routed=not self.pretraining) for layer in self._stack())
        return self.num_parameters() - idle

    def multiply_adds(self, column_shares: Tensor) -> float:
        total = 0.0
        for layer in self._stack():
            total += layer.multiply_adds(column_shares, routed=not self.pretraining)
            column_shares = torch.ones(layer.experts.out_dim, dtype=torch.float64)
        return total

    def _stack(self) -> list[MixtureLayer]:
        return cast("list[MixtureLayer]", list(self.layers))

    def _run(
        self, x: Rows, routings: list[tuple[Rows, Routing]] | None = None, hidden: list[Tensor] | None = None
    ) -> Tensor:
        """Return the logits; append to `routings` each layer's, after pre-training, and to `hidden` all hidden states.

        Hidden states are the inputs of all layers but the first.
        """
        pretraining = self.pretraining
        state: Rows = x
        for depth, layer in enumerate(self._stack()):
            if pretraining:
                output = layer.forward_first(state)
            elif routings is None:
                output = layer.output(state)
            else:
                output, routing = layer(state)
                routings.append((layer.router.select_columns(state), routing))
            state = self._activate(depth, output)
            if hidden is not None and depth < len(self.norms):
                hidden.append(state)
        return output

    def _activate(self, depth: int, output: Tensor) -> Tensor:
        """Return the input of the next layer from the output of layer `depth`; the last layer has no activation."""
        return relu(self.norms[depth](output)) if depth < len(self.norms) else output

    def _penalties(self, depth: int, routing: Routing) -> dict[str, Tensor]:
        """Return the weighted penalties of layer `depth`."""
        return {"load_balance": self.load_balance_weight * load_balance_loss(routing.gates)}

    def _record_training_forward(self, routings: list[tuple[Rows, Routing]]) -> None:
        """Record the layers' routings of a training forward pass for `after_step`."""

    def _initialize_router(self, depth: int, x: Rows) -> None:
        """Initialise the router of layer `depth` from the layer's inputs at the end of pre-training."""


class MixtureConfig(StudentConfig):
    """Options that the mixtures of experts share."""

    num_experts: int = Field(default=8, ge=1, le=4096, description="Experts per layer.")
    top_k: int = Field(default=3, ge=1, description="Experts that each row passes through.")
    load_balance_weight: float = Field(
        default=0.01, ge=0, description="Weight of the penalty on unequal expert utilisation."
    )
    pretrain_epochs: int = Field(
        default=0,
        ge=0,
        description="Epochs at the start in which every row passes through the shared or the first expert.",
    )
    shared_expert: bool = Field(
        default=False,
        description="Whether each layer adds the output of an expert that every row passes through. The routed experts "
        "then start at zero.",
    )
    expert_rank: int | None = Field(
        default=None,
        ge=1,
        description="Rank of the routed experts, as corrections of the shared expert; null for full experts.",
    )
    soft_routing_epochs: int = Field(
        default=0,
        ge=0,
        description="Epochs after pre-training in which training changes from mixing all experts to the top_k alone.",
    )
    expert_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Probability that a row leaves out one of its experts in training."
    )

    @model_validator(mode="after")
    def _check_experts(self) -> MixtureConfig:
        if self.top_k > self._fewest_experts():
            raise ValueError(f"top_k ({self.top_k}) is larger than num_experts ({self.num_experts})")
        if self.expert_rank is not None and not self.shared_expert:
            raise ValueError(f"{_RANK_WITHOUT_SHARED} {_SHARE_AN_EXPERT}")
        return self

    def _fewest_experts(self) -> int:
        return self.num_experts
