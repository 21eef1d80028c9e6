"""Adversarial rows: where they lie, their gradient, and what they leave unchanged."""

from __future__ import annotations

from dataclasses import replace

import pytest
import scipy.sparse as sp
import torch
from torch import Tensor

from dgl_rbm.regularizers.adversarial import AdversarialRegularizer, AdversarialTerm
from dgl_rbm.rows.sparse import Rows, SparseRows
from dgl_rbm.rows.stacked import hstack
from dgl_rbm.runtime.seeding import seeded
from dgl_rbm.students.base import StudentOutput
from dgl_rbm.training.terms import Batch, LossTerm

from .conftest import KINDS, ROWS, base_loss, batch_of, make_student, make_table, routed, whole_loss


@pytest.mark.parametrize("kind", KINDS)
def test_adversarial_rows_lie_in_the_box_and_have_a_larger_loss(kind: str) -> None:
    table = make_table()
    student = routed(kind, table)
    loss = whole_loss(AdversarialTerm(AdversarialRegularizer(weight=1.0, eps=0.1)), student, table)
    rows, seen = torch.arange(ROWS), []

    def forward(inputs: Rows) -> StudentOutput:
        assert isinstance(inputs, Tensor)
        seen.append(inputs.detach().clone())
        return student.training_forward(inputs)

    _, parts = loss(replace(batch_of(student, table), forward=forward))
    assert isinstance(table.inputs, Tensor)
    assert len(seen) == 5 + 1 + 1
    assert torch.equal(seen[-1], table.inputs)
    for perturbed in seen[:-1]:
        assert float((perturbed - table.inputs).abs().max()) <= 0.1 + 1e-6
    # The steps have a size of a quarter of the radius.
    steps = (seen[1] - seen[0]).abs()
    assert float(steps.max()) == pytest.approx(0.025, abs=1e-5)
    losses = [
        float(base_loss(student.training_forward(x), table, rows).detach()) for x in (seen[0], seen[-2], seen[-1])
    ]
    assert losses[1] > losses[0]
    assert losses[1] > losses[2]
    heads = len(student.training_forward(table.inputs).heads)
    assert float(parts["adversarial"]) == pytest.approx(losses[1] / heads, rel=1e-4)


def test_the_gradient_is_that_at_the_perturbed_rows() -> None:
    table, student = make_table(), make_student("mlp")
    whole = whole_loss(AdversarialTerm(AdversarialRegularizer(weight=0.3, eps=0.1)), student, table)
    rows, seen = torch.arange(ROWS), []

    def forward(inputs: Rows) -> StudentOutput:
        seen.append(inputs)
        return student.training_forward(inputs)

    loss, _ = whole(replace(batch_of(student, table), forward=forward))
    loss.backward()
    found = [parameter.grad.clone() for parameter in student.parameters() if parameter.grad is not None]
    student.zero_grad()
    perturbed = seen[-2].detach()
    plain = base_loss(student.training_forward(table.inputs), table, rows)
    (plain + 0.3 * base_loss(student.training_forward(perturbed), table, rows)).backward()
    for mine, parameter in zip(found, student.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad)


@pytest.mark.parametrize("kind", ["mlp", "rbm"])
def test_adversarial_passes_write_no_memory_and_no_running_mean(kind: str) -> None:
    table = make_table()

    def after_a_step(term: LossTerm | None) -> dict[str, Tensor]:
        student = routed(kind, table, norm="batch")
        student.train()
        whole_loss(term, student, table)(batch_of(student, table))
        # No optimiser's step and no gradient: only what the student itself writes.
        student.after_step()
        return student.state_dict()

    with_term = after_a_step(AdversarialTerm(AdversarialRegularizer(weight=1.0, eps=5.0)))
    without = after_a_step(None)
    written = {
        name for name, value in with_term.items() if name in dict(routed(kind, table, norm="batch").named_buffers())
    }
    assert written
    for name, value in without.items():
        assert torch.equal(value, with_term[name]), name


def test_sparse_rows_are_perturbed_as_dense_ones_are() -> None:
    plain = make_table().inputs
    assert isinstance(plain, Tensor)
    dense = plain * (torch.rand(ROWS, 5, generator=torch.Generator().manual_seed(1)) < 0.4)
    sparse = SparseRows.from_scipy(sp.csr_matrix(dense[:, :3].numpy()))
    stacked = hstack(sparse, dense[:, 3:])
    parts = []
    for inputs in (dense, SparseRows.from_scipy(sp.csr_matrix(dense.numpy())), stacked):
        table = make_table(inputs=inputs)
        student = routed("rbm", make_table(inputs=dense))
        whole = whole_loss(AdversarialTerm(AdversarialRegularizer(weight=1.0)), student, table)
        with seeded(0, "rows"):
            loss, _ = whole(Batch(torch.arange(ROWS), inputs, student.training_forward))
        loss.backward()
        gradients = [p.grad for p in student.trained_parameters() if p.grad is not None]
        parts.append((loss.detach(), gradients))
    for loss, gradients in parts[1:]:
        torch.testing.assert_close(loss, parts[0][0])
        torch.testing.assert_close(gradients, parts[0][1])
