"""KRD: targets from reliable neighbours (Wu et al., ICML 2023; paper, eqs. 10 to 12)."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from dgl_rbm.data.neighbors import in_neighbors
from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.registry import regularizers
from dgl_rbm.regularizers.base import Regularizer, RegularizerConfig
from dgl_rbm.rows.sparse import Rows, SparseRows
from dgl_rbm.runtime.checkpoint import restore_rng_state, rng_state
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.tasks.multiclass import probabilities
from dgl_rbm.teachers.base import Teacher, TeacherOutput
from dgl_rbm.training.neighbor_targets import (
    ExpectedNeighborTargets,
    ReliableNeighborTargets,
    SampledNeighborTargets,
    predicted_entropy,
)

__all__ = ["KrdConfig", "KrdRegularizer", "perturbed"]

# The state between two noise draws; dropped once the part "reliability" is finished.
_PROGRESS = "reliability-progress"

# Noise makes a sparse matrix dense; beyond this size only its stored entries get noise.
_MOST_DENSE_BYTES = 2 * 2**30


def perturbed(features: Rows, noise_std: float, most_dense_bytes: int = _MOST_DENSE_BYTES) -> Rows:
    """Return `features` with Gaussian noise from torch's generator added.

    Parameters
    ----------
    features : Tensor or SparseRows
        float32 ``[N, F]``.
    noise_std : float
        Standard deviation of the noise.
    most_dense_bytes : int
        Sparse features become dense up to this size; larger ones get noise on their stored entries only.

    Returns
    -------
    Tensor or SparseRows
        float32 ``[N, F]``.
    """
    if not isinstance(features, Tensor):
        if features.shape.numel() * 4 > most_dense_bytes:
            noisy = features.to_scipy().copy()
            noisy.data += noise_std * torch.randn(noisy.nnz).numpy()
            return SparseRows.from_scipy(noisy).to(features.device)
        features = features.to_dense()
    # In place, so that features mapped from a file have one copy in memory.
    return torch.randn(features.shape).to(features.device).mul_(noise_std).add_(features)


class KrdRegularizer(Regularizer):
    """Regularizer with the neighbours' soft labels as targets, weighted by the teacher's reliability at each of them.

    Parameters
    ----------
    estimator : {"expected", "sampled"}
        The expectation over neighbours in closed form, or neighbours sampled in every step.
    samples : int
        Neighbours that ``"sampled"`` samples for each node.
    noise_std, noise_samples : float, int
        δ of equation 10 in units of the features, and the number of draws that estimate its expectation.
    **targets
        Options of the loss term: ``initial_power``, ``warmup_epochs``, ``momentum``, ``bins`` and ``weight`` of
        `dgl_rbm.training.neighbor_targets.ReliableNeighborTargets`.
    """

    kind = "krd"
    needs_perturbed_predictions = True

    def __init__(
        self,
        *,
        estimator: Literal["expected", "sampled"] = "expected",
        samples: int = 1,
        noise_std: float = 1.0,
        noise_samples: int = 10,
        **targets: Any,
    ) -> None:
        self.estimator, self.samples = estimator, samples
        self.noise_std, self.noise_samples = noise_std, noise_samples
        self.targets = targets

    def prepare(
        self,
        observed: ObservedGraph,
        teacher: Teacher,
        output: TeacherOutput,
        temperature: float,
        context: RunContext,
    ) -> ReliableNeighborTargets:
        """Return the loss term, whose targets are softmax(logits / temperature); see `Regularizer`.

        Reliability is a property of the teacher; as published, it is measured without temperature.
        """
        make: Callable[..., ReliableNeighborTargets] = ExpectedNeighborTargets
        if self.estimator == "sampled":
            make = partial(SampledNeighborTargets, samples=self.samples)
        return make(
            in_neighbors(observed.graph),
            probabilities(output.logits if temperature == 1 else output.logits / temperature),
            context.cached("reliability", lambda: self._reliability(observed, teacher, output, context)),
            **self.targets,
        )

    def _reliability(
        self, observed: ObservedGraph, teacher: Teacher, output: TeacherOutput, context: RunContext
    ) -> Tensor:
        """Return ρ, ``[N]``: the mean squared change of entropy under feature noise over δ² (paper, eq. 10)."""
        clean = predicted_entropy(output.logits)
        total, done, before = torch.zeros_like(clean), 0, 0.0
        with context.stage("regularizer", self.noise_samples, unit="noise draws") as stage:
            start = time.perf_counter()
            kept = context.checkpoints.load(_PROGRESS)
            if kept is not None:
                total, done, before = kept["total"], kept["done"], kept["seconds"]
                context.seconds[stage.name] = context.seconds.get(stage.name, 0.0) + before
                restore_rng_state(kept["rng"])
            while done < self.noise_samples:
                noisy = self._noisy_logits(observed, teacher, context)
                total += (predicted_entropy(noisy) - clean).square()
                del noisy
                done += 1
                seconds = before + time.perf_counter() - start
                context.checkpoints.save(
                    _PROGRESS, {"total": total, "done": done, "seconds": seconds, "rng": rng_state()}
                )
                stage.step(done)
        return total / (self.noise_samples * self.noise_std**2)

    def _noisy_logits(self, observed: ObservedGraph, teacher: Teacher, context: RunContext) -> Tensor:
        return teacher.predict(observed, context, features=perturbed(observed.features, self.noise_std)).logits


@regularizers.register
class KrdConfig(RegularizerConfig):
    """Soft labels of reliable neighbours as additional targets."""

    module: ClassVar[Any] = KrdRegularizer

    kind: Literal["krd"] = "krd"
    estimator: Literal["expected", "sampled"] = Field(
        default="expected",
        description="The exact expectation over neighbours, or neighbours sampled in every step, as published.",
    )
    samples: int = Field(default=1, ge=1, description="Neighbours that the estimator 'sampled' samples for each node.")
    noise_std: float = Field(
        default=1.0, gt=0, description="Standard deviation of the feature noise that measures reliability."
    )
    noise_samples: int = Field(default=10, ge=1, description="Draws of that noise; each costs a teacher's prediction.")
    warmup_epochs: int = Field(default=50, ge=0, description="Epochs before the power of the reliability is fitted.")
    momentum: float = Field(default=0.99, ge=0, le=1, description="Share of its value that the power keeps per epoch.")
    bins: int = Field(default=50, ge=2, le=10_000, description="Bins of the histogram to which the power is fitted.")
    initial_power: float = Field(default=1.0, gt=0, description="Power of the reliability at the start.")
    weight: float = Field(default=1.0, ge=0, description="Scale of the loss on the neighbours' targets.")
