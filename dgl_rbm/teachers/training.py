"""Trainable teachers: any message-passing module, and the options that GNNs share."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from dgl_rbm.data.task import GraphView, ObservedGraph
from dgl_rbm.errors import ArtifactError, ConfigError
from dgl_rbm.norms import NormName
from dgl_rbm.precision import check_precision
from dgl_rbm.rows.sparse import Rows
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.teachers.base import Teacher, TeacherConfig, TeacherOutput
from dgl_rbm.teachers.gnn import LayeredGNN
from dgl_rbm.teachers.inference import full_graph_output, layerwise_output, predict_nodes
from dgl_rbm.teachers.loop import TrainingRun, steps
from dgl_rbm.teachers.message_passing import Aggregation
from dgl_rbm.teachers.options import TeacherTraining
from dgl_rbm.teachers.sampling import Placement, place
from dgl_rbm.teachers.traits import ModuleTraits

__all__ = ["GNNConfig", "GNNTeacher"]

_DEFAULT_FANOUT = 10


class GNNTeacher(Teacher):
    """Teacher that trains any message-passing module on the observed graph.

    Parameters
    ----------
    module : nn.Module
        Called as ``module(graph, x)`` with a DGL graph of N nodes and float32 ``[N, F]``, and, for sampled
        training, with a list of blocks and one row per source node of the first; returns logits ``[N, C]``,
        or one row per destination node of the last block. Its optional attributes are those of `ModuleTraits`.
    num_classes : int
        C.
    training : TeacherTraining, optional
    kind : str
        The registry name.

    Attributes
    ----------
    device : torch.device
        Device of the module's last run: the run's device, or the CPU if DGL is built for CPUs only and the module does
        not accept a `CSCGraph`.
    aggregation : {"dgl", "torch"}
        Library whose kernels aggregate there.
    """

    def __init__(
        self,
        module: nn.Module,
        num_classes: int,
        training: TeacherTraining | None = None,
        *,
        kind: str = "custom",
    ) -> None:
        self.module = module
        self.num_classes = num_classes
        self.training = training or TeacherTraining()
        self.kind = kind
        traits = ModuleTraits.of(module)
        self.hidden_dim, self.num_layers = traits.hidden_dim, traits.num_layers
        self.predicts_single_nodes = isinstance(module, LayeredGNN)
        self.device = torch.device("cpu")
        self.aggregation: Aggregation = "dgl"

    def fit(self, observed: ObservedGraph, context: RunContext) -> None:
        """Train in the stage ``"teacher"`` and keep the first epoch with the best validation score.

        Raises
        ------
        ConfigError
            If the module's outputs have the wrong shape, or the requested sampling is not possible.
        TrainingError
            If the loss is no longer finite.
        """
        placement = self._place(observed, context)
        if not any(parameter.requires_grad for parameter in self.module.parameters()):
            # A frozen module, trained elsewhere.
            with context.stage("teacher"):
                return
        self._check_precision(placement)
        fanouts = self.fanouts(placement)
        with steps(self.module, observed, placement, self.training, fanouts) as of_epoch:
            labels = observed.labels[observed.train_idx]
            TrainingRun(self.module, of_epoch, self.training, self.num_classes, context, labels).run()

    def predict(
        self, view: GraphView, context: RunContext, *, features: Rows | None = None, return_hidden: bool = False
    ) -> TeacherOutput:
        """Predict every node of `view`: all at once if that fits in memory, otherwise layer by layer."""
        placement = self._place(view, context)
        rows = view.features if features is None else features
        if isinstance(self.module, LayeredGNN) and not placement.full_graph_fits:
            return layerwise_output(
                self.module, view.graph, rows, placement, return_hidden=return_hidden, report=context.substep
            )
        return full_graph_output(
            self.module, view.graph, rows, placement.device, placement.aggregation, return_hidden=return_hidden
        )

    def predict_nodes(self, view: GraphView, node_ids: Tensor) -> tuple[Tensor, int]:
        """Predict a few nodes from their complete neighbourhoods; see `Teacher.predict_nodes`."""
        return predict_nodes(self.module, view, node_ids, self.aggregation)

    def num_parameters(self) -> int:
        """Return the number of trained parameters."""
        return sum(parameter.numel() for parameter in self.module.parameters())

    def state_dict(self) -> dict[str, Any]:
        """Return the module's state."""
        return self.module.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the module's state; raises `ArtifactError` if it belongs to another module."""
        try:
            self.module.load_state_dict(state)
        except RuntimeError as error:
            raise ArtifactError(f"The saved teacher does not fit this one: {error}") from None

    def fanouts(self, placement: Placement) -> list[int] | None:
        """Return the number of sampled neighbours per layer in training, or None for the full graph."""
        options = self.training
        if options.sampler == "full" or (options.sampler == "auto" and placement.full_graph_fits):
            return None
        if options.fanouts is not None:
            return options.fanouts
        if self.num_layers is not None:
            return [_DEFAULT_FANOUT] * self.num_layers
        if options.sampler == "auto":
            return None
        raise ConfigError(
            f"Neighbours cannot be sampled for {type(self.module).__name__}, whose number of layers is not known.",
            hint="Give `fanouts`, one number per layer, or set the module's attribute `num_layers`.",
        )

    def _place(self, view: GraphView, context: RunContext) -> Placement:
        placement = place(self.module, view, context.device, self.training.sampling_device)
        self.device, self.aggregation = placement.device, placement.aggregation
        self.module.to(self.device)
        return placement

    def _check_precision(self, placement: Placement) -> None:
        precision = self.training.precision
        if precision != "float32" and not ModuleTraits.of(self.module).reads_csc:
            raise ConfigError(
                f"teacher.training.precision is '{precision}', but {type(self.module).__name__} may use parts of DGL "
                "that do not run under autocast.",
                hint="Use float32, or aggregate with dgl_rbm.teachers.message_passing.aggregate alone and set the "
                "module's attribute `reads_csc`.",
            )
        check_precision(precision, placement.device, where="teacher.training.precision")


class GNNConfig(TeacherConfig):
    """Options that all layered GNNs share; subclasses build the network."""

    hidden_dim: int = Field(default=128, ge=1, description="Columns of the hidden layers.")
    num_layers: int = Field(default=2, ge=1, le=200, description="Number of layers, the output layer included.")
    dropout: float = Field(default=0.5, ge=0, lt=1, description="Dropout rate of the hidden layers.")
    norm: NormName = Field(default="none", description="Normalisation of hidden values: 'none', 'batch' or 'layer'.")
    training: TeacherTraining = Field(default_factory=TeacherTraining, description="Training options.")

    @model_validator(mode="after")
    def _one_fanout_per_layer(self) -> GNNConfig:
        fanouts = self.training.fanouts
        if fanouts is not None and len(fanouts) != self.num_layers:
            raise ValueError(
                f"training.fanouts has {len(fanouts)} numbers for {self.num_layers} layers; expected one per layer"
            )
        return self

    def module(self, in_dim: int, num_classes: int) -> LayeredGNN:
        """Build the network; its random initial values is drawn from torch's generator."""
        raise NotImplementedError

    def build(self, in_dim: int, num_classes: int) -> GNNTeacher:
        """Build the teacher."""
        return GNNTeacher(self.module(in_dim, num_classes), num_classes, self.training, kind=self.kind)
