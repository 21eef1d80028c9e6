"""Where tensors are made: a run on a GPU must make none on the CPU in passing.

With another device as torch's default, a tensor that is made without naming its device cannot meet those of the
table, which lie on the CPU here: the same mistake would fail on a GPU, where the default is the CPU.
"""

from __future__ import annotations

from typing import Any

import pytest
import scipy.sparse as sp
import torch
from torch import Tensor

from dgl_rbm.registry import students
from dgl_rbm.regularizers.adversarial import AdversarialRegularizer, AdversarialTerm
from dgl_rbm.regularizers.edge_consistency import EdgeConsistencyTerm
from dgl_rbm.regularizers.pseudo_labels import PseudoLabelRegularizer, PseudoLabelTerm
from dgl_rbm.regularizers.similarity import SimilarityRegularizer, SimilarityTerm
from dgl_rbm.rows.sparse import Rows, SparseRows
from dgl_rbm.rows.stacked import StackedRows
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.runtime.seeding import seeded
from dgl_rbm.training.neighbor_targets import ExpectedNeighborTargets, ReliableNeighborTargets, SampledNeighborTargets
from dgl_rbm.training.student import StudentTraining, fit_student
from dgl_rbm.training.table import DistillationTable
from dgl_rbm.training.terms import LossTerm

# `auto` trains some of the others and is no student of its own.
STUDENTS = [name for name in students.names() if getattr(students.config_class(name), "trains", False)]


def sparse(x: Tensor) -> SparseRows:
    return SparseRows.from_scipy(sp.csr_matrix(x.numpy()))


def make_table(form: str) -> DistillationTable:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(90) % 3
    x = torch.randn(90, 8, generator=generator) + 2 * torch.eye(8)[labels]
    inputs: Rows = {"dense": x, "sparse": sparse(x), "stacked": StackedRows([sparse(x[:, :3]), x[:, 3:]])}[form]
    known = torch.full((90,), -1)
    known[:60] = labels[:60]
    logits = 3 * torch.eye(3)[labels] + torch.randn(90, 3, generator=generator)
    idx = torch.arange(60)
    return DistillationTable(inputs, known, idx[:30], idx[30:], 3, teacher_logits=logits)


def krd_targets(estimator: type[ReliableNeighborTargets]) -> ReliableNeighborTargets:
    generator = torch.Generator().manual_seed(2)
    linked = (torch.rand(90, 90, generator=generator) < 0.05).float()
    logits = make_table("dense").teacher_logits
    assert logits is not None
    return estimator(sparse(linked), logits.softmax(dim=1), torch.rand(90, generator=generator), warmup_epochs=2)


@pytest.fixture(autouse=True)
def _adam_counts_steps_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep torch's own optimiser out of it: before 2.4 it counts its steps on the default device."""
    step = torch.optim.Adam.step

    def step_on_cpu(self: torch.optim.Adam, closure: Any = None) -> Any:
        with torch.device("cpu"):
            return step(self, closure)

    monkeypatch.setattr(torch.optim.Adam, "step", step_on_cpu)


@pytest.mark.parametrize("kind", STUDENTS)
@pytest.mark.parametrize("form", ["dense", "sparse", "stacked"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_training_a_student_makes_every_tensor_on_the_tables_device(kind: str, form: str, precision: str) -> None:
    fits = []
    training = StudentTraining(epochs=6, precision=precision)
    for default in ("cpu", "meta"):
        with seeded(0, "weights"):
            student = students.resolve(kind).build(8, 3, hidden_dim=8, num_layers=2)
        table, context, terms = make_table(form), RunContext(), [krd_targets(ExpectedNeighborTargets)]
        for part in getattr(table.inputs, "parts", [table.inputs]):
            if isinstance(part, SparseRows):
                # Kept from here on; on a CPU it is made from NumPy arrays.
                part.transposed()
        with torch.device(default):
            fit = fit_student(student, table, context, training, terms=terms)
            scores = student._logits(table.inputs)
        assert {value.device.type for value in [scores, *student.state_dict().values()]} == {"cpu"}
        fits.append((fit, context.history, scores.tolist()))
    assert fits[0] == fits[1]


def test_edge_consistency_in_batches_makes_every_tensor_on_its_device() -> None:
    neighbors = sparse((torch.rand(90, 90, generator=torch.Generator().manual_seed(2)) < 0.05).float())
    log_probs = torch.randn(40, 3).log_softmax(dim=1).requires_grad_(True)
    rows, found = torch.arange(0, 80, 2), []
    for default in ("cpu", "meta"):
        targets = EdgeConsistencyTerm(neighbors, 3)
        with torch.device(default):
            loss = targets.summed_loss(log_probs, rows)
            found.append([loss.detach(), *torch.autograd.grad(loss, log_probs)])
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


@pytest.mark.parametrize("estimator", [ExpectedNeighborTargets, SampledNeighborTargets])
def test_neighbour_targets_make_every_tensor_on_their_device(estimator: type[ReliableNeighborTargets]) -> None:
    targets, log_probs = krd_targets(estimator), torch.randn(90, 3).log_softmax(dim=1)
    rows = torch.arange(90)
    with torch.device("meta"):
        metrics = targets.end_epoch(3, log_probs)
        loss = targets.summed_loss(log_probs, rows) if estimator is ExpectedNeighborTargets else None
    assert metrics["krd_power"] != 1.0
    assert loss is None or loss.device.type == "cpu"


FULL_OPTIONS: list[dict[str, Any]] = [
    {"kind": "mlp", "norm": "batch"},
    {"kind": "ensemble"},
    {"kind": "moe"},
    {
        "kind": "rbm",
        "pretrain_epochs": 2,
        "learn_gate_scale": True,
        "router_inputs": "encoding",
        "expert_inputs": "features",
    },
    {"kind": "rbm", "pretrain_epochs": 2, "num_experts": [3, 4], "routing": "euclidean", "router_inputs": "features"},
]


@pytest.mark.parametrize("options", FULL_OPTIONS, ids=lambda options: options["kind"])
@pytest.mark.parametrize("form", ["dense", "stacked"])
def test_terms_and_options_make_every_tensor_on_the_tables_device(options: dict[str, Any], form: str) -> None:
    fits = []
    training = StudentTraining(epochs=5, averaging=0.9, schedule="cosine", record_routing=True)
    for default in ("cpu", "meta"):
        if options["kind"] == "rbm":
            options = options | {"encoding_dim": 5}
        with seeded(0, "weights"):
            student = students.resolve(options).build(8, 3, hidden_dim=8, num_layers=2)
        table, context = make_table(form), RunContext()
        neighbors = sparse((torch.rand(90, 90, generator=torch.Generator().manual_seed(2)) < 0.05).float())
        hidden = torch.rand(90, 4, generator=torch.Generator().manual_seed(2))
        terms: list[LossTerm] = [
            EdgeConsistencyTerm(neighbors, 3),
            SimilarityTerm(hidden, SimilarityRegularizer(weight=0.5, rows=40)),
            AdversarialTerm(AdversarialRegularizer(weight=0.2, rows=30)),
            PseudoLabelTerm(PseudoLabelRegularizer(rounds=2, every=2, confidence=0.2), neighbors),
        ]
        for part in [neighbors, *getattr(table.inputs, "parts", [table.inputs])]:
            if isinstance(part, SparseRows):
                part.transposed()
        with torch.device(default):
            fit = fit_student(student, table, context, training, terms=terms)
        assert {value.device.type for value in student.state_dict().values()} == {"cpu"}
        fits.append((fit, context.history, student._logits(table.inputs).tolist()))
    assert fits[0] == fits[1]
