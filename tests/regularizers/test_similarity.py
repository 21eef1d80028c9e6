"""The similarity of hidden states against its definition, written with loops."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from dgl_rbm.errors import ConfigError
from dgl_rbm.regularizers.similarity import SimilarityRegularizer, SimilarityTerm
from dgl_rbm.run.config import resolve_config
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.training.student import StudentTraining, fit_student

from .conftest import (
    KINDS,
    base_loss,
    batch_of,
    make_student,
    make_table,
    penalties,
    routed,
    teacher_hidden,
    whole_loss,
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("phase", ["pretraining", "routed"])
def test_hidden_states_are_the_inputs_of_the_last_layer(kind: str, phase: str) -> None:
    table = make_table()
    student = make_student(kind) if phase == "pretraining" else routed(kind, table)
    read: list[Tensor] = []
    stacks = student.members if hasattr(student, "members") else [student]
    for stack in stacks:
        last = stack.layers[-1]
        # Mixtures call `forward_first` in pre-training, which no hook of a module sees.
        for name in ("forward", "forward_first"):
            if hasattr(last, name):
                setattr(last, name, noted(getattr(last, name), read))
    output = student.training_forward(table.inputs)
    assert len(output.hidden) == len(output.heads) == len(read)
    for states, seen in zip(output.hidden, read, strict=True):
        assert torch.equal(states, seen)


def noted(call: Callable[..., Any], read: list[Tensor]) -> Callable[..., Any]:
    def wrapper(x: Tensor, *rest: Any) -> Any:
        read.append(x)
        return call(x, *rest)

    return wrapper


def test_a_student_of_one_layer_has_no_hidden_states() -> None:
    for kind in KINDS:
        assert make_student(kind, num_layers=1).training_forward(make_table().inputs).hidden == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("normalize", [False, True])
def test_the_loss_follows_its_definition(kind: str, normalize: bool) -> None:
    table, hidden = make_table(), teacher_hidden()
    student = routed(kind, table)
    term = SimilarityTerm(hidden, SimilarityRegularizer(weight=0.7, normalize=normalize))
    rows = torch.tensor([1, 5, 8, 20])
    loss, parts = whole_loss(term, student, table)(batch_of(student, table, rows))
    output = student.training_forward(table.inputs[rows])  # type: ignore[index]
    total = 0.0
    for states, projection in zip(output.hidden, term.projections, strict=True):
        ours = (states @ projection.weight.t() + projection.bias).clamp(min=0).detach()
        theirs = hidden[rows]
        for u in range(len(rows)):
            for v in range(len(rows)):
                products = [float(side[u] @ side[v]) for side in (ours, theirs)]
                if normalize:
                    lengths = [float(side[u].norm() * side[v].norm()) for side in (ours, theirs)]
                    products = [
                        product / length if length else 0.0 for product, length in zip(products, lengths, strict=True)
                    ]
                total += (products[0] - products[1]) ** 2 / len(rows) ** 2
    base = float(base_loss(output, table, rows).detach()) + penalties(output)
    assert float(loss.detach()) == pytest.approx(base + 0.7 * total, rel=1e-4)
    assert float(parts["similarity"]) == pytest.approx(0.7 * total / len(output.heads), rel=1e-4)


def test_larger_batches_are_subsampled() -> None:
    table, student = make_table(), make_student("mlp")
    loss = whole_loss(SimilarityTerm(teacher_hidden(), SimilarityRegularizer(rows=5)), student, table)
    assert len({float(loss(batch_of(student, table))[1]["similarity"]) for _ in range(8)}) > 1


def test_binding_does_not_change_the_student() -> None:
    table = make_table()
    student = routed("rbm", table, norm="batch")
    before = copy.deepcopy(student.state_dict())
    student.train()
    whole_loss(SimilarityTerm(teacher_hidden(), SimilarityRegularizer()), student, table)
    assert student.training
    assert student._pending == []
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())


def test_missing_hidden_states_are_an_error() -> None:
    table = make_table()
    with pytest.raises(ConfigError, match="student 'mlp' has none"):
        whole_loss(SimilarityTerm(teacher_hidden(), SimilarityRegularizer()), make_student("mlp", num_layers=1), table)
    with pytest.raises(ConfigError, match="'similarity' needs the hidden states of a teacher"):
        resolve_config({"teacher": "none", "regularizer": "similarity"})


def test_projections_are_trained_and_stay_out_of_the_student() -> None:
    table, student = make_table(), make_student("mlp")
    names = set(student.state_dict())
    term = SimilarityTerm(teacher_hidden(), SimilarityRegularizer())
    starts = []
    bind = term.bind

    def bound(*parts: Any) -> None:
        bind(*parts)
        starts.extend(copy.deepcopy(term.parameters()))

    term.bind = bound  # type: ignore[method-assign]
    fit_student(student, table, RunContext(), StudentTraining(epochs=3), terms=[term])
    assert all(not torch.equal(before, after) for before, after in zip(starts, term.parameters(), strict=True))
    assert set(student.state_dict()) == names
