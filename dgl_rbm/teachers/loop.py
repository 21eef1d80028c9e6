"""The epochs of a teacher's training, on the full graph or on sampled neighbourhoods."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dgl_rbm._dgl import dgl
from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.errors import ConfigError, TrainingError
from dgl_rbm.teachers.gnn import LayeredGNN
from dgl_rbm.teachers.inference import readable
from dgl_rbm.teachers.options import TeacherTraining
from dgl_rbm.teachers.sampling import OrderedNeighborSampler, Placement, batches, gather, placed
from dgl_rbm.training.checkpoint import restore_rng_state, rng_state
from dgl_rbm.training.context import RunContext

__all__ = ["Steps", "TrainingRun", "steps"]

_SECONDS_BETWEEN_CHECKPOINTS = 20.0
_PROGRESS = "teacher-progress"


class Steps(Protocol):
    """How the module is run on the nodes of one epoch."""

    def training(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield logits and labels of the training nodes, batch after batch."""
        ...

    def validation(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield logits and labels of the validation nodes, batch after batch."""
        ...


@contextmanager
def steps(
    module: nn.Module,
    observed: ObservedGraph,
    placement: Placement,
    options: TeacherTraining,
    fanouts: list[int] | None,
) -> Iterator[Steps]:
    """Lay graph, features and labels where `placement` wants them.

    Parameters
    ----------
    fanouts : list of int or None
        Neighbours sampled per layer; None for one step an epoch on the full graph.
    """
    if fanouts is None:
        yield _FullGraphSteps(module, observed, placement.device)
        return
    with placed(observed.graph, placement) as graph:
        yield _SampledSteps(module, observed, graph, placement, options, fanouts)


class _FullGraphSteps:
    def __init__(self, module: nn.Module, observed: ObservedGraph, device: torch.device) -> None:
        self.module = module
        self.graph = observed.graph.to(device)
        self.features = readable(module, observed.features).to(device)
        self.parts = [
            (idx.to(device), observed.labels[idx].to(device)) for idx in (observed.train_idx, observed.val_idx)
        ]

    def training(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield self._forward(*self.parts[0])

    def validation(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield self._forward(*self.parts[1])

    def _forward(self, idx: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return self.module(self.graph, self.features)[idx], labels


class _SampledSteps:
    """Batches in random order; validation nodes are sampled with the same fan-outs, which bounds their memory."""

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
        self.sampler = OrderedNeighborSampler(fanouts, module.annotate if isinstance(module, LayeredGNN) else None)
        on_gpu = placement.graph_on == "gpu"
        self.features = observed.features.to(placement.device) if on_gpu else observed.features

    def training(self) -> Iterator[tuple[Tensor, Tensor]]:
        idx = self.observed.train_idx
        return self._forward(idx[torch.randperm(len(idx))])

    def validation(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self._forward(self.observed.val_idx)

    def _forward(self, idx: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        # DGL's generator cannot be saved; seeded from torch's, it needs no saving.
        dgl.seed(int(torch.randint(2**31 - 1, ())))
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
            yield self.module(blocks, x), labels[outputs.to(labels.device)].to(device)


class TrainingRun:
    """One training run: all of its state is in a checkpoint, so that a killed run resumes to the same result.

    Parameters
    ----------
    module : nn.Module
        Trained in place and left in its best epoch.
    of_epoch : Steps
        How it is run.
    options : TeacherTraining
    num_classes : int
        C.
    context : RunContext
    """

    def __init__(
        self,
        module: nn.Module,
        of_epoch: Steps,
        options: TeacherTraining,
        num_classes: int,
        context: RunContext,
    ) -> None:
        self.module, self.steps, self.options = module, of_epoch, options
        self.num_classes, self.context = num_classes, context
        self.optimizer = torch.optim.Adam(module.parameters(), lr=options.lr, weight_decay=options.weight_decay)
        self.epoch = 0
        self.best_epoch = 0
        self.best_accuracy = -1.0
        self.best_state: dict[str, Any] = {}
        self.last_checkpoint = time.monotonic()

    def fit(self) -> None:
        """Train in the stage ``"teacher"``."""
        with self.context.stage("teacher", self.options.epochs) as stage:
            self._resume()
            while self.epoch < self.options.epochs and not self._out_of_patience():
                metrics = {"loss": self._train()}
                self.epoch += 1
                if self.epoch % self.options.eval_every == 0 or self.epoch == self.options.epochs:
                    metrics["val_accuracy"] = self._validate()
                try:
                    stage.step(self.epoch, **metrics)
                except BaseException:
                    # Between two epochs the state is whole, so whoever stops the run here loses nothing.
                    self._checkpoint()
                    raise
                if time.monotonic() - self.last_checkpoint > _SECONDS_BETWEEN_CHECKPOINTS:
                    self._checkpoint()
        self.module.load_state_dict(self.best_state)
        self.context.checkpoints.discard(_PROGRESS)

    def _out_of_patience(self) -> bool:
        evaluated = self.epoch - self.epoch % self.options.eval_every
        return evaluated - self.best_epoch >= self.options.patience and self.best_epoch > 0

    def _train(self) -> float:
        """Run one epoch; return the mean loss of the training nodes."""
        self.module.train()
        total, count = 0.0, 0
        for logits, labels in self.steps.training():
            self._check_shape(logits, len(labels))
            loss = nn.functional.cross_entropy(logits, labels)
            value = loss.item()
            if not math.isfinite(value):
                raise TrainingError(
                    f"The teacher's loss is {value} in epoch {self.epoch + 1}.",
                    hint="Try a lower learning rate, such as "
                    f"--set teacher.training.lr={self.options.lr / 10:g}, or normalise the features.",
                )
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            total, count = total + value * len(labels), count + len(labels)
        return total / count

    @torch.no_grad()
    def _validate(self) -> float:
        """Return the accuracy on the validation nodes; keep the module's state where it is the best so far."""
        self.module.eval()
        right, count = 0, 0
        for logits, labels in self.steps.validation():
            right += int((logits.argmax(dim=1) == labels).sum())
            count += len(labels)
        accuracy = right / count
        if accuracy > self.best_accuracy:
            self.best_accuracy, self.best_epoch = accuracy, self.epoch
            self.best_state = copy.deepcopy(self.module.state_dict())
        return accuracy

    def _check_shape(self, logits: Any, rows: int) -> None:
        expected = (rows, self.num_classes)
        if not isinstance(logits, Tensor) or tuple(logits.shape) != expected:
            got = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
            raise ConfigError(
                f"The teacher {type(self.module).__name__} returned {got} for {rows} nodes, expected logits of "
                f"shape {expected}.",
                hint="A teacher's module returns one row of class scores per node, before any softmax.",
            )

    def _checkpoint(self) -> None:
        if not self.context.checkpoints.enabled:
            return
        state: dict[str, Any] = {
            "epoch": self.epoch,
            "best": [self.best_epoch, self.best_accuracy, self.best_state],
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": rng_state(),
            "history": [entry for entry in self.context.history if entry["stage"] == "teacher"],
        }
        self.context.checkpoints.save(_PROGRESS, state)
        self.last_checkpoint = time.monotonic()

    def _resume(self) -> None:
        state = self.context.checkpoints.load(_PROGRESS)
        if state is None:
            return
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch = state["epoch"]
        self.best_epoch, self.best_accuracy, self.best_state = state["best"]
        self.context.history.extend(state["history"])
        restore_rng_state(state["rng"])
