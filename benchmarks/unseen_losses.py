"""Losses and starts that `unseen_without_fetch.py` compares and that the package does not offer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Beta

from dgl_rbm.data.neighbors import NeighborMean, gather_in_neighbors
from dgl_rbm.data.structure import compressed_with_weights
from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.regularizers.base import Regularizer
from dgl_rbm.rows.sparse import Rows, dropout, matmul, norms, take, transpose_matmul
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.students.base import Student
from dgl_rbm.tasks.multiclass import probabilities, soft_cross_entropy
from dgl_rbm.teachers.base import Teacher, TeacherOutput
from dgl_rbm.training.objective import ObjectiveConfig
from dgl_rbm.training.table import DistillationTable
from dgl_rbm.training.terms import Batch, LossTerm


class Ready(Regularizer):
    """Regularizer that gives a term what it reads from the graph and the teacher."""

    def __init__(self, term: GraphTerm) -> None:
        self.term = term

    def prepare(
        self,
        observed: ObservedGraph,
        teacher: Teacher,
        output: TeacherOutput,
        temperature: float,
        context: RunContext,
    ) -> LossTerm:
        term = self.term
        term.observed, term.teacher, term.context = observed, teacher, context
        term.targets = probabilities(output.logits / temperature)
        return term


class GraphTerm(LossTerm):
    """Loss term with the graph, the teacher and its predictions at hand, on the CPU."""

    observed: ObservedGraph
    teacher: Teacher
    context: RunContext
    targets: Tensor

    def bind(self, student: Student, table: DistillationTable, objective: ObjectiveConfig) -> None:
        self.student, self.table = student, table
        self.share = objective.shares(table)[1]

    def cross_entropy(self, inputs: Rows, targets: Tensor, batch: Batch) -> Tensor:
        """Return the mean cross-entropy of the predictions for `inputs`, summed over heads."""
        losses = [
            soft_cross_entropy(torch.log_softmax(logits, dim=1), targets) for logits in batch.forward(inputs).heads
        ]
        return self.share * torch.stack(losses).sum() / len(targets)


class Mixup(GraphTerm):
    """Convex combinations of two rows, and the same of the teacher's predictions (Zhang et al., ICLR 2018)."""

    name = "mixup"

    def __init__(self, *, neighbors: bool) -> None:
        self.neighbors = neighbors

    def loss_before_pass(self, batch: Batch) -> Tensor:
        rows = batch.rows
        others = self._neighbors_of(rows) if self.neighbors else rows[torch.randperm(len(rows))]
        share = Beta(1.0, 1.0).sample((len(rows), 1))
        first, second = (dense(take(self.table.inputs, of)) for of in (rows, others))
        return self.cross_entropy(
            share * first + (1 - share) * second,
            share * self.targets[rows] + (1 - share) * self.targets[others],
            batch,
        )

    def _neighbors_of(self, rows: Tensor) -> Tensor:
        """Return a random in-neighbour of each row that is trained on, or the row itself if it has none."""
        indptr, sources, _ = (
            None if part is None else torch.from_numpy(part) for part in compressed_with_weights(self.observed.graph)
        )
        at, found, _ = gather_in_neighbors(indptr, sources, rows)
        taught = torch.zeros(len(self.table), dtype=torch.bool)
        taught[self.table.distilled_rows] = True
        found = found.long()
        at, found = at[taught[found]], found[taught[found]]
        order = torch.randperm(len(found))
        chosen = rows.clone()
        chosen[at[order]] = found[order]
        return chosen


class MaskedTeacher(GraphTerm):
    """The teacher's predictions from masked features, for the masked rows; a new mask every five steps, of 20."""

    name = "masked_teacher"

    def bind(self, student: Student, table: DistillationTable, objective: ObjectiveConfig) -> None:
        super().bind(student, table, objective)
        self.steps, self.drawn = 0, []

    def loss_before_pass(self, batch: Batch) -> Tensor:
        if self.steps % 5 == 0 and len(self.drawn) < 20:
            features = dropout(self.observed.features, 0.5)
            logits = self.teacher.predict(self.observed, self.context, features=features).logits
            self.drawn.append((features, probabilities(logits)))
        self.steps += 1
        features, targets = self.drawn[int(torch.randint(len(self.drawn), ()))]
        return self.cross_entropy(take(features, batch.rows), targets[batch.rows], batch)


class Weighted(GraphTerm):
    """The teacher's predictions once more, with weights of the nodes less their mean: the sum weighs the nodes."""

    name = "weighted"

    def __init__(self, by: str) -> None:
        self.by = by

    def bind(self, student: Student, table: DistillationTable, objective: ObjectiveConfig) -> None:
        super().bind(student, table, objective)
        mean = NeighborMean(self.observed.graph)
        if self.by == "curvature":
            # Forman curvature of an edge: 4 − deg(u) − deg(v); the mean over a node's edges, as a share in (0, 1).
            degree = matmul(mean.neighbors, torch.ones(len(table), 1))
            curvature = (4 - degree - mean(degree)).squeeze(1)
            weights = torch.sigmoid((curvature - curvature.mean()) / curvature.std())
        else:
            agreement = (self.targets * mean(self.targets)).sum(dim=1)
            weights = agreement if self.by == "agreement" else 1.1 - agreement
        self.weights = weights / weights[table.distilled_rows].mean() - 1

    def loss(self, batch: Batch, output: Any) -> Tensor:
        targets = self.weights[batch.rows, None] * self.targets[batch.rows]
        losses = [soft_cross_entropy(torch.log_softmax(logits, dim=1), targets) for logits in output.heads]
        return self.share * torch.stack(losses).sum() / len(targets)


class TeacherStart(GraphTerm):
    """No loss; the first layer starts as that of the teacher, a SAGE with mean aggregation over node and neighbours."""

    name = "teacher_start"

    @torch.no_grad()
    def bind(self, student: Student, table: DistillationTable, objective: ObjectiveConfig) -> None:
        layer: Any = self.teacher.module.layers[0].conv  # type: ignore[attr-defined]
        first: Any = student.layers[0]  # type: ignore[union-attr, index]
        if student.kind == "mlp":
            first.weight.copy_(layer.fc_neigh.weight)
            first.bias.copy_(layer.bias)
            return
        # Experts scale their inputs by 1.1 and layers their outputs by 2.
        first.experts.weights.copy_((layer.fc_neigh.weight.t() / 2.2).expand_as(first.experts.weights))
        first.experts.bias.copy_((layer.bias / 2).expand_as(first.experts.bias))


class Aligned(GraphTerm):
    """No loss; the first layer's weights are W = U + E V, with U and V trained and E fixed.

    The columns ``x @ E`` are the ridge regression of the principal components of features that are averaged over
    neighbourhoods: a row's own estimate of its neighbourhood. Predictions cost nothing more, as W alone is used.
    """

    name = "aligned"

    def __init__(self, *, dim: int = 64, steps: int = 4, ridge: float = 1.0) -> None:
        self.dim, self.steps, self.ridge = dim, steps, ridge

    def bind(self, student: Student, table: DistillationTable, objective: ObjectiveConfig) -> None:
        super().bind(student, table, objective)
        coordinates = self._coordinates()
        self.pairs: list[tuple[nn.Parameter, int, nn.Parameter]] = []
        for weight, axis in first_weights(student):
            shape = [*weight.movedim(axis, -1).shape[:-1], coordinates.shape[1]]
            part = nn.Parameter(torch.empty(shape).uniform_(-1, 1) / sum(coordinates.shape) ** 0.5)
            weight.register_hook(partial(self._set_gradient, part, axis))
            self.pairs.append((weight, axis, part))
        self.coordinates, self.added = coordinates, [torch.zeros_like(part) for _, _, part in self.pairs]

    def parameters(self) -> list[nn.Parameter]:
        return [part for _, _, part in self.pairs]

    @torch.no_grad()
    def loss_before_pass(self, batch: Batch) -> None:
        # The change that the last step made to V.
        for (weight, axis, part), added in zip(self.pairs, self.added, strict=True):
            weight.movedim(axis, -1).add_((part - added) @ self.coordinates.t())
            added.copy_(part)

    def _set_gradient(self, part: nn.Parameter, axis: int, gradient: Tensor) -> None:
        part.grad = gradient.movedim(axis, -1) @ self.coordinates

    def _coordinates(self) -> Tensor:
        """Return E, ``[F, D]``, by conjugate gradients on the rows that are trained on."""
        features, mean = self.observed.features, NeighborMean(self.observed.graph)

        def averaged(values: Tensor, average: Callable[[Tensor], Tensor]) -> Tensor:
            for _ in range(self.steps):
                values = (values + average(values)) / 2
            return values

        basis = torch.randn(features.shape[1], min(self.dim, features.shape[1]))
        for _ in range(4):
            components = averaged(matmul(features, basis), mean)
            basis = torch.linalg.qr(transpose_matmul(features, averaged(components, mean.transposed)))[0]
        rows = self.table.distilled_rows
        taught, wanted = take(features, rows), averaged(matmul(features, basis), mean)[rows]
        ridge = self.ridge * float(norms(taught).square().sum()) / features.shape[1]
        found = torch.zeros_like(basis)
        residual = transpose_matmul(taught, wanted)
        direction, size = residual.clone(), residual.square().sum(dim=0)
        for _ in range(40):
            image = transpose_matmul(taught, matmul(taught, direction)) + ridge * direction
            step = size / (direction * image).sum(dim=0).clamp_min(1e-20)
            found += step * direction
            residual -= step * image
            last, size = size, residual.square().sum(dim=0)
            direction = residual + size / last.clamp_min(1e-20) * direction
        return found * (norms(features).mean() / norms(matmul(features, found)).mean())


def first_weights(student: Any) -> list[tuple[nn.Parameter, int]]:
    """Return the first-layer weights, each with its axis of the inputs."""
    if student.kind == "mlp":
        return [(student.layers[0].weight, 1)]
    return [(student.layers[0].experts.weights, 1)]


def dense(rows: Rows) -> Tensor:
    return rows if isinstance(rows, Tensor) else rows.to_dense()
