"""What the mixtures of experts, `moe` and `rbm`, share: layers, phases, load balance and options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import relu

from dgl_rbm.norms import NormName, make_norm
from dgl_rbm.objectives import load_balance_loss
from dgl_rbm.precision import in_float32
from dgl_rbm.rows.sparse import Rows
from dgl_rbm.students.base import Student, StudentConfig, StudentOutput
from dgl_rbm.students.layers.experts import PackedExperts
from dgl_rbm.students.layers.kmeans import subsample
from dgl_rbm.students.layers.mixture import MixtureLayer
from dgl_rbm.students.layers.routing import Routing, TopKRouter

__all__ = ["MixtureConfig", "MixtureStudent"]


class MixtureStudent(Student):
    """A stack of mixture-of-experts layers with ReLU between them.

    In the pre-training phase every row passes through the first expert of each layer. A student with
    `pretrain_epochs` starts in it and stays until `finish_pretraining`; one without never has it.

    Parameters
    ----------
    in_dim, num_classes : int
        F + P, and C.
    make_router : callable
        Makes the router of a layer from the layer's depth, counted from 0, the width of its inputs, and its E.
    hidden_dim, num_layers : int
        Width of the hidden layers; number of layers, the output layer included.
    norm : {"none", "batch", "layer"}
        Normalisation before each ReLU, and so before the next layer's router.
    dropout : float
        Share of the experts' input dropped in training, in every layer but the first.
    num_experts : sequence of int
        E of each layer.
    load_balance_weight : float
        Weight of equation 8 of the RbM paper.
    pretrain_epochs : int
        Length of the pre-training phase.
    input_attention, output_scale : bool
        As for `PackedExperts`.
    stop_gate_gradient : bool
        As for `MixtureLayer`.
    expert_columns : slice, optional
        The columns of the inputs that the first layer's experts see, where not all.
    """

    routed: Tensor

    def __init__(
        self,
        in_dim: int,
        num_classes: int,
        *,
        make_router: Callable[[int, int, int], TopKRouter],
        hidden_dim: int,
        num_layers: int,
        norm: NormName,
        dropout: float,
        num_experts: Sequence[int],
        load_balance_weight: float,
        pretrain_epochs: int,
        input_attention: bool,
        output_scale: bool,
        stop_gate_gradient: bool,
        expert_columns: slice | None = None,
    ) -> None:
        super().__init__(in_dim, num_classes)
        widths = [in_dim, *[hidden_dim] * (num_layers - 1), num_classes]
        seen = len(range(in_dim)[expert_columns]) if expert_columns is not None else in_dim
        self.layers = nn.ModuleList(
            MixtureLayer(
                make_router(depth, before, count),
                PackedExperts(
                    count,
                    before if depth else seen,
                    after,
                    input_attention=input_attention,
                    output_scale=output_scale,
                ),
                dropout=dropout if depth else 0.0,
                stop_gate_gradient=stop_gate_gradient,
                columns=None if depth else expert_columns,
            )
            for depth, ((before, after), count) in enumerate(zip(pairwise(widths), num_experts, strict=True))
        )
        self.norms = nn.ModuleList(make_norm(norm, hidden_dim) for _ in range(num_layers - 1))
        self.load_balance_weight = load_balance_weight
        self.pretrain_epochs = pretrain_epochs
        # A buffer, so that a saved student comes back in its phase.
        self.register_buffer("routed", torch.tensor(pretrain_epochs == 0))

    @property
    def pretraining(self) -> bool:
        return not bool(self.routed)

    def forward(self, x: Rows) -> Tensor:
        return self._run(x)

    def training_forward(self, x: Rows) -> StudentOutput:
        states: list[Tensor] = []
        if self.pretraining:
            return StudentOutput([self._run(x, states=states)], hidden=states[-1:])
        passes: list[tuple[Rows, Routing]] = []
        logits = self._run(x, passes, states)
        penalties: dict[str, Tensor] = {}
        with in_float32(x.device):
            for depth, (_, routing) in enumerate(passes):
                for name, value in self._penalties(depth, routing).items():
                    penalties[name] = penalties[name] + value if name in penalties else value
        self._after_training_forward(passes)
        return StudentOutput([logits], penalties, states[-1:])

    def after_step(self) -> None:
        for layer in self._stack():
            layer.experts.cap()

    @torch.no_grad()
    def finish_pretraining(self, x: Rows) -> None:
        """Copy the first expert into the others and start routing (RbM paper, section 4.3).

        Layer by layer, in evaluation mode: a layer's router is started from the layer's inputs, and the
        routed output of the layer so made is the input of the next. Does nothing once routing has begun.
        Of very many rows a random part is used.
        """
        if not self.pretraining:
            return
        was_training = self.training
        self.eval()
        hidden: Rows = subsample(x).to(self.routed.device)
        for depth, layer in enumerate(self._stack()):
            layer.experts.copy_first()
            self._start_router(depth, hidden)
            hidden = self._between(depth, layer(hidden)[0])
        self.routed.fill_(True)
        self.train(was_training)

    @torch.no_grad()
    def routings(self, x: Rows) -> list[tuple[Rows, Routing]]:
        """Return what each layer's router sees and decides in evaluation mode; empty while pre-training.

        Parameters
        ----------
        x : Tensor or SparseRows
            float32 ``[B, F + P]``, on the student's device.

        Returns
        -------
        list of (rows, Routing)
            Per layer what its router reads of its input, ``[B, D]``, and cosines and gates ``[B, E]``.
        """
        was_training = self.training
        self.eval()
        passes: list[tuple[Rows, Routing]] = []
        self._run(x, passes)
        self.train(was_training)
        return passes

    def num_active_parameters(self) -> int:
        idle = 0
        for layer in self._stack():
            active = 1 if self.pretraining else min(layer.router.top_k, layer.experts.num_experts)
            idle += (layer.experts.num_experts - active) * layer.experts.parameters_per_expert()
            if self.pretraining:
                idle += sum(parameter.numel() for parameter in layer.router.parameters())
        return self.num_parameters() - idle

    def _stack(self) -> list[MixtureLayer]:
        return cast("list[MixtureLayer]", list(self.layers))

    def _run(
        self, x: Rows, passes: list[tuple[Rows, Routing]] | None = None, states: list[Tensor] | None = None
    ) -> Tensor:
        """Return the logits; append each layer's input and routing to `passes` in the routed phase.

        Hidden states, what layers but the first read, are appended to `states` in any phase.
        """
        pretraining = self.pretraining
        hidden: Rows = x
        for depth, layer in enumerate(self._stack()):
            if pretraining:
                output = layer.first_expert(hidden)
            elif passes is None:
                output = layer.answer(hidden)
            else:
                output, routing = layer(hidden)
                passes.append((layer.router.seen(hidden), routing))
            hidden = self._between(depth, output)
            if states is not None and depth < len(self.norms):
                states.append(hidden)
        return output

    def _between(self, depth: int, output: Tensor) -> Tensor:
        """Turn the output of layer `depth` into the input of the next; the last one's is left as it is."""
        return relu(self.norms[depth](output)) if depth < len(self.norms) else output

    def _penalties(self, depth: int, routing: Routing) -> dict[str, Tensor]:
        """Return the weighted penalties of layer `depth`."""
        return {"load_balance": self.load_balance_weight * load_balance_loss(routing.gates)}

    def _after_training_forward(self, passes: list[tuple[Rows, Routing]]) -> None:
        """Take note of the layers' inputs and routings of a routed training forward."""

    def _start_router(self, depth: int, x: Rows) -> None:
        """Start the router of layer `depth` from the layer's inputs when pre-training ends."""


class MixtureConfig(StudentConfig):
    """Options that the mixtures of experts share."""

    norm: NormName = Field(default="none", description="Normalisation of the hidden layers.")
    num_experts: int = Field(default=8, ge=1, description="Experts per layer.")
    top_k: int = Field(default=3, ge=1, description="Experts that each row passes through.")
    load_balance_weight: float = Field(
        default=0.01, ge=0, description="Weight of the penalty on unequal use of the experts."
    )
    pretrain_epochs: int = Field(
        default=0, ge=0, description="Epochs at the start in which every row passes through the first expert."
    )

    @model_validator(mode="after")
    def _enough_experts(self) -> MixtureConfig:
        if self.top_k > self._fewest_experts():
            raise ValueError(f"top_k ({self.top_k}) is larger than num_experts ({self.num_experts})")
        return self

    def _fewest_experts(self) -> int:
        return self.num_experts
