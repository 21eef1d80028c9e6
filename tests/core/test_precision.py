"""Mixed precision: bfloat16 products, float32 routing and losses, and refused devices."""

from __future__ import annotations

from typing import Any

import pytest
import scipy.sparse as sp
import torch
from torch import Tensor

from dgl_rbm import Distiller
from dgl_rbm.config import validated
from dgl_rbm.errors import ConfigError
from dgl_rbm.objectives import self_similarity_loss
from dgl_rbm.precision import autocast_inputs, check_precision, in_float32, mixed_precision
from dgl_rbm.registry import students
from dgl_rbm.rows.sparse import Rows, SparseRows, matmul
from dgl_rbm.rows.stacked import StackedRows
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.runtime.seeding import seeded
from dgl_rbm.students.layers.dispatch import mix
from dgl_rbm.students.layers.memory import ExpertMemory
from dgl_rbm.students.layers.routing import MemoryRouter, top_k_gates
from dgl_rbm.teachers.options import TeacherTraining
from dgl_rbm.training.student import StudentTraining, fit_student
from dgl_rbm.training.table import DistillationTable

# `auto` selects among the other students and has no module of its own.
STUDENTS = [name for name in students.names() if getattr(students.config_class(name), "trains", False)]

CPU = torch.device("cpu")
GPU = torch.device("cuda", 0)


@pytest.mark.parametrize("capability", [(8, 0), (8, 6), (9, 0), (12, 0)])
def test_bf16_is_accepted_from_compute_capability_8(capability: tuple[int, int]) -> None:
    check_precision("bf16", GPU, where="training.precision", capability=capability)


@pytest.mark.parametrize("capability", [(6, 1), (7, 0), (7, 5)])
def test_bf16_is_refused_below_compute_capability_8_with_a_hint(capability: tuple[int, int]) -> None:
    check_precision("float32", GPU, where="training.precision", capability=capability)
    with pytest.raises(ConfigError, match=rf"GPU cuda:0 has compute capability {capability[0]}\.\d") as caught:
        check_precision("bf16", GPU, where="teacher.training.precision", capability=capability)
    assert caught.value.hint == "Use --set teacher.training.precision=float32."


def test_bf16_is_accepted_on_cpus() -> None:
    check_precision("bf16", CPU, where="training.precision")


@pytest.mark.parametrize("options", [StudentTraining, TeacherTraining])
def test_an_unknown_precision_is_refused(options: Any) -> None:
    assert options().precision == "float32"
    with pytest.raises(ConfigError, match=r"precision.*float32.*bf16"):
        validated(options, {"precision": "fp8"}, where="training")


def test_contexts_enter_and_leave_bfloat16() -> None:
    x = torch.randn(4, 4)
    with mixed_precision("float32", CPU):
        assert (x @ x).dtype == torch.float32
        assert autocast_inputs(x) == (x,)
    with mixed_precision("bf16", CPU):
        assert (x @ x).dtype == torch.bfloat16
        assert [part.dtype for part in autocast_inputs(x, x)] == [torch.bfloat16] * 2
        with in_float32(CPU):
            assert torch.equal(x @ x, torch.mm(x, x))
            assert (x @ x).dtype == torch.float32
            assert autocast_inputs(x) == (x,)
        assert (x @ x).dtype == torch.bfloat16


def sparse(x: Tensor) -> SparseRows:
    return SparseRows.from_scipy(sp.csr_matrix(x.numpy()))


def forms(x: Tensor) -> list[Rows]:
    return [x, sparse(x), StackedRows([sparse(x[:, :3]), x[:, 3:]])]


def test_sparse_products_and_their_gradients_stay_in_float32() -> None:
    x, weight = torch.randn(7, 5), torch.randn(5, 3, requires_grad=True)
    expected = matmul(sparse(x), weight)
    (gradient,) = torch.autograd.grad(expected.sum(), weight)
    with mixed_precision("bf16", CPU):
        product = matmul(sparse(x), weight)
    assert torch.equal(product, expected)
    product.sum().backward()
    assert torch.equal(weight.grad, gradient)


def test_routing_is_identical_under_autocast_for_every_row_format() -> None:
    torch.manual_seed(0)
    router, dense = MemoryRouter(6, 5, 2), torch.randn(50, 6)
    for x in forms(dense):
        expected = router(x)
        with mixed_precision("bf16", CPU):
            routing = router(x)
        assert torch.equal(routing.scores, expected.scores)
        assert torch.equal(routing.gates, expected.gates)
    with mixed_precision("bf16", CPU):
        assert router(dense.bfloat16()).gates.dtype == torch.float32


def test_bf16_mixing_of_experts_is_close_and_has_float32_gradients() -> None:
    torch.manual_seed(0)
    dense, gates = torch.randn(40, 8), top_k_gates(torch.randn(40, 4), 2).requires_grad_()
    weights, bias = torch.randn(4, 8, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    wanted = [gates, weights, bias]
    upstream = torch.randn(40, 3)
    for x in forms(dense):
        plain = mix(x, gates, weights, bias)
        expected = torch.autograd.grad((plain * upstream).sum(), wanted)
        with mixed_precision("bf16", CPU):
            mixed = mix(x, gates, weights, bias)
        found = torch.autograd.grad((mixed.float() * upstream).sum(), wanted)
        assert mixed.dtype == (torch.bfloat16 if isinstance(x, Tensor) else torch.float32)
        for value, reference in zip([mixed.float(), *found], [plain, *expected], strict=True):
            assert value.dtype == torch.float32
            assert float(((value - reference).norm() / reference.norm()).detach()) < 0.02


def make_table(form: int) -> DistillationTable:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(300) % 3
    inputs = torch.randn(300, 8, generator=generator) + 3 * torch.eye(8)[labels]
    known = torch.full((300,), -1)
    known[:60], known[60:200] = labels[:60], labels[60:200]
    logits = 3 * torch.eye(3)[labels] + 0.1 * torch.randn(300, 3, generator=generator)
    parts = torch.arange(60), torch.arange(60, 200)
    return DistillationTable(forms(inputs)[form], known, *parts, num_classes=3, teacher_logits=logits)


@pytest.mark.parametrize("kind", STUDENTS)
@pytest.mark.parametrize("form", [0, 1, 2], ids=["dense", "sparse", "stacked"])
@pytest.mark.parametrize("batch_size", [None, 150])
def test_students_reach_the_same_accuracy_in_bf16_and_float32(kind: str, form: int, batch_size: int | None) -> None:
    accuracy, losses = {}, {}
    for precision in ("float32", "bf16"):
        with seeded(0, "weights"):
            student = students.resolve(kind).build(8, 3, hidden_dim=16, num_layers=3)
        context, training = (
            RunContext(),
            StudentTraining(epochs=15, lr=0.01, precision=precision, batch_size=batch_size),
        )
        accuracy[precision] = fit_student(student, make_table(form), context, training).val_accuracy
        losses[precision] = [entry["loss"] for entry in context.history]
        floats = [value for value in student.state_dict().values() if value.is_floating_point()]
        assert {value.dtype for value in floats} == {torch.float32}
        assert student._logits(make_table(form).inputs).dtype == torch.float32
    assert losses["bf16"] != losses["float32"]
    assert accuracy["bf16"] == pytest.approx(accuracy["float32"], abs=0.05)
    assert accuracy["float32"] > 0.8


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("kind", ["mlp", "rbm"])
def test_students_with_normalisation_train_in_bf16(kind: str, norm: str) -> None:
    with seeded(0, "weights"):
        student = students.resolve({"kind": kind, "norm": norm}).build(8, 3, hidden_dim=16, num_layers=2)
    fit = fit_student(student, make_table(0), RunContext(), StudentTraining(epochs=15, lr=0.01, precision="bf16"))
    assert fit.val_accuracy > 0.8
    assert not any(value.dtype == torch.bfloat16 for value in student.state_dict().values())


@pytest.mark.parametrize("kind", ["moe", "rbm"])
def test_routing_memory_and_penalties_are_computed_in_float32(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, set[torch.dtype]] = {}

    def note(name: str, *tensors: Any) -> None:
        seen.setdefault(name, set()).update(tensor.dtype for tensor in tensors if isinstance(tensor, Tensor))

    update = ExpertMemory.update

    def noted_update(self: ExpertMemory, x: Rows, gates: Tensor, momentum: float) -> None:
        note("memory", x, gates)
        update(self, x, gates, momentum)

    def noted_similarity(memory: Tensor) -> Tensor:
        loss = self_similarity_loss(memory)
        note("similarity", loss)
        # A float32 result could still come from a bfloat16 product, so compare values too.
        torch.testing.assert_close(loss, self_similarity_loss(memory.double()).float(), atol=1e-6, rtol=1e-5)
        return loss

    monkeypatch.setattr(ExpertMemory, "update", noted_update)
    monkeypatch.setattr("dgl_rbm.students.rbm.self_similarity_loss", noted_similarity)
    with seeded(0, "weights"):
        student = students.resolve(kind).build(8, 3, hidden_dim=16, num_layers=2)
    context, training = RunContext(), StudentTraining(epochs=12, lr=0.01, precision="bf16")
    fit_student(student, make_table(0), context, training)
    with mixed_precision("bf16", CPU):
        output = student.train().training_forward(make_table(0).inputs)
        note("penalties", *output.penalties.values())
        note("routing", *(part for _, routing in student.routings(make_table(0).inputs) for part in routing))
    assert set(seen) == {"penalties", "routing"} | ({"memory", "similarity"} if kind == "rbm" else set())
    assert all(dtypes == {torch.float32} for dtypes in seen.values())


@pytest.mark.parametrize("kind", ["mlp", "ensemble", "moe", "rbm"])
def test_scores_on_digits_are_close_to_those_in_float32(kind: str) -> None:
    accuracy = {}
    for precision in ("float32", "bf16"):
        # Few epochs, without weight averaging: every expert has its own number of rows, and a CPU compiles a kernel for
        # each shape.
        training = {"epochs": 30, "averaging": 0.0, "precision": precision}
        teacher = {"kind": "sage", "hidden_dim": 32, "training": {"epochs": 30, "precision": precision}}
        result = Distiller(teacher=teacher, student=kind, training=training, device="cpu").fit("digits")
        accuracy[precision] = [model.test_accuracy for model in (result.metrics.teacher, result.metrics.student)]
    assert accuracy["bf16"] == pytest.approx(accuracy["float32"], abs=0.03)
    assert min(accuracy["float32"]) > 0.9
