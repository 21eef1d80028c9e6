"""Custom components: an encoder and a student, registered and then used by name like the built-in ones."""

import argparse
import tempfile
from pathlib import Path
from typing import Literal

import matplotlib.pyplot as plt
import torch
from pydantic import Field
from torch import Tensor, nn

from dgl_rbm import Distiller, RunContext
from dgl_rbm.data import ObservedGraph
from dgl_rbm.encoders import Encoder, EncoderConfig, EncoderOutput, NeighborMean, encoder_output
from dgl_rbm.registry import encoders, students
from dgl_rbm.students.base import Student, StudentConfig


@encoders.register
class LandmarksConfig(EncoderConfig):
    """Proximity to random landmarks: PageRank with restarts at each landmark."""

    kind: Literal["landmarks"] = "landmarks"
    dim: int = Field(default=64, ge=1, description="Number of landmarks.")

    def build(self) -> Encoder:
        return Landmarks(self.dim, self.consistent)


class Landmarks(Encoder):
    def __init__(self, dim: int, consistent: bool) -> None:
        self.dim, self.consistent = dim, consistent

    def fit(self, observed: ObservedGraph, context: RunContext) -> EncoderOutput:
        with context.stage("encoder"):  # seeds the random generators
            mean = NeighborMean(observed.graph)
            landmarks = torch.randperm(len(observed))[: self.dim]
            rank = restart = nn.functional.one_hot(landmarks, len(observed)).float().t()
            for _ in range(20):
                rank = 0.9 * mean(rank) + 0.1 * restart
        return encoder_output(mean, torch.log(rank + 1e-5), consistent=self.consistent)


@students.register
class ResidualConfig(StudentConfig):
    """Sum of a linear model and an MLP."""

    kind: Literal["residual"] = "residual"

    def build(
        self, in_dim: int, num_classes: int, *, hidden_dim: int | None = None, num_layers: int | None = None
    ) -> Student:
        return Residual(in_dim, num_classes, self.sized(hidden_dim, num_layers).hidden_dim)


class Residual(Student):
    kind = "residual"

    def __init__(self, in_dim: int, num_classes: int, width: int) -> None:
        super().__init__(in_dim, num_classes)
        self.linear = nn.Linear(in_dim, num_classes)
        self.rest = nn.Sequential(nn.Linear(in_dim, width), nn.ReLU(), nn.Linear(width, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.rest(x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("examples/output"), help="folder for the figures")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    plt.switch_backend("Agg")
    errors = {}
    # All runs share one teacher.
    with tempfile.TemporaryDirectory() as shared:
        for student in ("mlp", "residual"):
            for encoder in ("none", "diffusion", "landmarks", "diffusion+landmarks"):
                distiller = Distiller("sage", {"kind": student, "hidden_dim": 64}, encoder, training={"epochs": 120})
                metrics = distiller.fit({"kind": "synthetic", "num_nodes": 2000}, shared=shared).metrics
                errors[f"{student} with {encoder}"] = 100 - 100 * metrics.student.test_accuracy
    errors["teacher"] = 100 - 100 * metrics.teacher.test_accuracy
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    bars = axes.barh(list(errors), list(errors.values()), color=["tab:gray"] * 4 + ["tab:red"] * 4 + ["black"])
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.invert_yaxis()
    axes.set(xlabel="Test error (%)", xmargin=0.1, title="A custom student (red) and a custom encoder, landmarks")
    figure.savefig(out / "custom_component.png", dpi=120)
    print("\n".join(f"{name}: test error {error:.1f} %" for name, error in errors.items()))


if __name__ == "__main__":
    main()
