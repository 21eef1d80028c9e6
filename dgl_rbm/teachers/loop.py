"""Training loop of a teacher, on the full graph or on sampled neighbourhoods."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dgl_rbm.data.dgl_compat import sampling_thread
from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.errors import ConfigError, TrainingError
from dgl_rbm.precision import Precision, mixed_precision
from dgl_rbm.rows.sparse import Rows
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.tasks.multiclass import class_weights, hard_label_loss, selection_score, validation_score
from dgl_rbm.teachers.gnn import annotation
from dgl_rbm.teachers.inference import readable
from dgl_rbm.teachers.message_passing import laid_out
from dgl_rbm.teachers.options import TeacherTraining
from dgl_rbm.teachers.sampling import OrderedNeighborSampler, Placement, batches, gather, placed
from dgl_rbm.training.epochs import EpochLoop, patience_in_epochs
from dgl_rbm.training.optimizer import make_optimizer, set_learning_rate

__all__ = ["Steps", "TrainingRun", "steps"]


class Steps(Protocol):
    """Forward passes of one epoch.

    Attributes
    ----------
    num_training, num_validation : int
        Number of nodes of the two parts.
    steps_per_epoch : int
        Number of batches of training nodes.
    """

    num_training: int
    num_validation: int
    steps_per_epoch: int

    def training(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield logits and labels of the training nodes, batch by batch."""
        ...

    def validation(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield logits and labels of the validation nodes, batch by batch."""
        ...


@contextmanager
def steps(
    module: nn.Module,
    observed: ObservedGraph,
    placement: Placement,
    options: TeacherTraining,
    fanouts: list[int] | None,
) -> Iterator[Steps]:
    """Move graph, features and labels to the devices of `placement`.

    Parameters
    ----------
    fanouts : list of int or None
        Neighbours sampled per layer; None for one step per epoch on the full graph.
    """
    if fanouts is None:
        yield _FullGraphSteps(module, observed, placement, options.precision)
        return
    with placed(observed.graph, placement) as graph:
        yield _SampledSteps(module, observed, graph, placement, options, fanouts)


class _FullGraphSteps:
    def __init__(self, module: nn.Module, observed: ObservedGraph, placement: Placement, precision: Precision) -> None:
        self.module, self.device, self.precision = module, placement.device, precision
        device = self.device
        self.num_training, self.num_validation = len(observed.train_idx), len(observed.val_idx)
        self.steps_per_epoch = 1
        self.graph = laid_out(observed.graph, device, placement.aggregation, annotation(module))
        self.features = readable(module, observed.features).to(device)
        self.parts = [
            (idx.to(device), observed.labels[idx].to(device)) for idx in (observed.train_idx, observed.val_idx)
        ]

    def training(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield self._forward(*self.parts[0], self.precision)

    def validation(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield self._forward(*self.parts[1], "float32")

    def _forward(self, idx: Tensor, labels: Tensor, precision: Precision) -> tuple[Tensor, Tensor]:
        logits = _logits(self.module, self.graph, self.features, self.graph.num_nodes(), precision)
        return logits[idx], labels


class _SampledSteps:
    """Batches in random order; validation uses the same fan-outs, which bounds its memory."""

    def __init__(
        self,
        module: nn.Module,
        observed: ObservedGraph,
        graph: Any,
        placement: Placement,
        options: TeacherTraining,
        fanouts: list[int],
    ) -> None:
        self.module, self.observed, self.graph = module, observed, graph
        self.placement, self.options = placement, options
        self.num_training, self.num_validation = len(observed.train_idx), len(observed.val_idx)
        self.steps_per_epoch = math.ceil(self.num_training / options.batch_size)
        self.sampler = OrderedNeighborSampler(fanouts, annotation(module))
        on_gpu = placement.graph_on == "gpu"
        self.features = observed.features.to(placement.device) if on_gpu else observed.features

    def training(self) -> Iterator[tuple[Tensor, Tensor]]:
        idx = self.observed.train_idx
        return self._forward(idx[torch.randperm(len(idx))], self.options.precision)

    def validation(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self._forward(self.observed.val_idx, "float32")

    def _forward(self, idx: Tensor, precision: Precision) -> Iterator[tuple[Tensor, Tensor]]:
        # DGL's generator cannot be saved in a checkpoint; seeded from torch's, it need not be.
        sampling_thread.seed(int(torch.randint(2**31 - 1, ())))
        device, labels = self.placement.device, self.observed.labels
        for inputs, outputs, blocks in batches(
            self.graph,
            idx,
            self.sampler,
            self.placement,
            batch_size=self.options.batch_size,
            num_workers=self.options.num_workers,
        ):
            x = readable(self.module, gather(self.features, inputs, device))
            logits = _logits(self.module, blocks, x, len(outputs), precision)
            yield logits, labels[outputs.to(labels.device)].to(device)


class TrainingRun(EpochLoop):
    """Trains a module in the stage ``"teacher"``.

    Parameters
    ----------
    module : nn.Module
        Trained in place; ends with the weights of its best epoch.
    of_epoch : Steps
        Forward passes of one epoch.
    options : TeacherTraining
    num_classes : int
        C.
    context : RunContext
    labels : Tensor
        Of the training nodes, int64.
    """

    def __init__(
        self,
        module: nn.Module,
        of_epoch: Steps,
        options: TeacherTraining,
        num_classes: int,
        context: RunContext,
        labels: Tensor,
    ) -> None:
        optimizer = make_optimizer(module.parameters(), options, steps_per_epoch=of_epoch.steps_per_epoch)
        patience = patience_in_epochs(options.patience, of_epoch.steps_per_epoch)
        super().__init__("teacher", module, optimizer, context, epochs=options.epochs, patience=patience)
        self.steps, self.options, self.num_classes = of_epoch, options, num_classes
        self._steps = 0
        self.class_weights = None if options.class_weight is None else class_weights(labels, num_classes)

    def extra_state(self) -> dict[str, Any]:
        return {"steps": self._steps}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self._steps = state["steps"]

    def train_epoch(self) -> dict[str, float]:
        self.module.train()
        total, count = 0.0, 0
        for logits, labels in self.steps.training():
            if logits.shape[1] != self.num_classes:
                raise ConfigError(
                    f"The teacher {type(self.module).__name__} returned {logits.shape[1]} scores for each node; "
                    f"the graph has {self.num_classes} classes."
                )
            loss = self._loss(logits, labels)
            value = loss.item()
            if not math.isfinite(value):
                raise TrainingError(
                    f"The teacher's loss is {value} in epoch {self.epoch + 1}.",
                    hint="Try a lower learning rate, such as "
                    f"--set teacher.training.lr={self.options.lr / 10:g}, or normalise the features.",
                )
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            set_learning_rate(self.optimizer, self.options, self._steps)
            self.optimizer.step()
            self._steps += 1
            total, count = total + value * len(labels), count + len(labels)
            self._report(count)
        return {"loss": total / count}

    @torch.no_grad()
    def end_epoch(self) -> dict[str, float]:
        if self.epoch % self.options.eval_every and self.epoch != self.options.epochs:
            return {}
        self.module.eval()
        right, loss, count = 0, 0.0, 0
        predicted: list[tuple[Tensor, Tensor]] = []
        compares = self.options.select_by in ("balanced_accuracy", "macro_f1")
        for logits, labels in self.steps.validation():
            right += int((logits.argmax(dim=1) == labels).sum())
            if compares:
                predicted.append((logits, labels))
            loss += float(nn.functional.cross_entropy(logits, labels, reduction="sum"))
            count += len(labels)
            self._report(self.steps.num_training + count)
        metrics = {"val_accuracy": right / count, "val_loss": loss / count}
        score = metrics["val_accuracy"]
        if compares:
            logits, labels = (torch.cat(parts) for parts in zip(*predicted, strict=True))
            score = metrics[f"val_{self.options.select_by}"] = validation_score(logits, labels, self.options.select_by)
        self.note(selection_score(score, metrics["val_loss"], self.options.select_by))
        return metrics

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.class_weights is None:
            return nn.functional.cross_entropy(logits, labels)
        weights = self.class_weights.to(logits.device)
        # Divided by the number of nodes: the weights' sum would differ from batch to batch.
        return hard_label_loss(torch.log_softmax(logits, dim=1), labels, weights) / len(labels)

    def _report(self, nodes: int) -> None:
        """Report how many nodes of the epoch are done."""
        self.context.substep(nodes, self.steps.num_training + self.steps.num_validation)


def _logits(module: nn.Module, graph: Any, x: Rows, rows: int, precision: Precision) -> Tensor:
    """Return the module's logits in float32, after a check of their shape."""
    with mixed_precision(precision, x.device):
        logits = module(graph, x)
    _check_shape(module, logits, rows)
    return logits.float() if precision == "bf16" else logits


def _check_shape(module: nn.Module, logits: Any, rows: int) -> None:
    if not isinstance(logits, Tensor) or logits.dim() != 2 or logits.shape[0] != rows:
        got = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise ConfigError(
            f"The teacher {type(module).__name__} returned {got} for {rows} nodes, expected logits of shape "
            f"({rows}, number of classes).",
            hint="A teacher's module returns one row of class scores per node, before any softmax.",
        )
