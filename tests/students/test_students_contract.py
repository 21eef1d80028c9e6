"""Contract of all registered students."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from dgl_rbm.errors import DataError
from dgl_rbm.registry import students
from dgl_rbm.students.base import Student

F, C = 7, 4
# `auto` chooses among the others, and `readout` has nothing to train.
KINDS = [name for name in students.names() if getattr(students.config_class(name), "trains", False)]
pytestmark = pytest.mark.parametrize("kind", KINDS)


def make(kind: str, **options: object) -> Student:
    torch.manual_seed(0)
    return students.resolve({"kind": kind, **options}).build(F, C, hidden_dim=8, num_layers=2)


def phases(kind: str) -> list[Student]:
    """Return the student in each of its phases."""
    student = make(kind)
    if not student.pretraining:
        return [student]
    routed = make(kind)
    routed.finish_pretraining(torch.rand(30, F))
    return [student, routed]


def test_sizes_are_the_configs_or_else_the_teachers(kind: str) -> None:
    config = students.resolve(kind)
    small, wide = config.build(F, C, hidden_dim=4, num_layers=2), config.build(F, C, hidden_dim=9, num_layers=2)
    deep = config.build(F, C, hidden_dim=4, num_layers=3)
    assert small.num_parameters() < wide.num_parameters()
    assert small.num_parameters() < deep.num_parameters()
    own = students.resolve({"kind": kind, "hidden_dim": 4, "num_layers": 2}).build(F, C, hidden_dim=9, num_layers=3)
    assert own.num_parameters() == small.num_parameters()


def test_the_factor_multiplies_the_configs_and_the_teachers_width(kind: str) -> None:
    wide = students.resolve(kind).build(F, C, hidden_dim=12, num_layers=2).num_parameters()
    config = students.resolve({"kind": kind, "width_factor": 3})
    assert config.build(F, C, hidden_dim=4, num_layers=2).num_parameters() == wide
    own = students.resolve({"kind": kind, "width_factor": 3, "hidden_dim": 4})
    assert own.build(F, C, hidden_dim=9, num_layers=2).num_parameters() == wide
    sized = config.sized(4, 2)
    assert (sized.hidden_dim, sized.width_factor) == (12, 1)
    assert sized.build(F, C).num_parameters() == wide


def test_config_and_module_have_the_same_defaults(kind: str) -> None:
    config = students.config_class(kind)
    torch.manual_seed(0)
    alone = config.module(F, C)
    torch.manual_seed(0)
    built = config().build(F, C)
    assert alone.state_dict().keys() == built.state_dict().keys()
    assert all(torch.equal(value, built.state_dict()[name]) for name, value in alone.state_dict().items())
    for one, other in zip(alone.modules(), built.modules(), strict=True):
        settings = {name: value for name, value in vars(one).items() if isinstance(value, (bool, int, float, str))}
        assert settings == {name: getattr(other, name) for name in settings}


def test_routings_match_routers_and_pretraining_can_be_skipped(kind: str) -> None:
    x = torch.rand(30, F)
    for student in phases(kind):
        routings = student.routings(x)
        assert len(routings) == (0 if student.pretraining else len(student.routers()))
        for router, (rows, routing) in zip(student.routers(), routings, strict=False):
            assert router.embed(rows).shape[0] == routing.scores.shape[0] == routing.gates.shape[0] == 30
        student.skip_pretraining()
        assert not student.pretraining
        assert student.multiply_adds(torch.ones(F, dtype=torch.float64)) > 0


def test_kind_is_set_and_all_options_are_described(kind: str) -> None:
    assert make(kind).kind == kind
    fields = students.config_class(kind).model_fields
    assert all(name == "kind" or field.description for name, field in fields.items())


def test_trains_with_finite_gradients_in_every_phase(kind: str) -> None:
    for student in phases(kind):
        student.train()
        student.start_epoch(0)
        output = student.training_forward(torch.rand(12, F))
        assert all(head.shape == (12, C) for head in output.heads)
        assert all(value.shape == () for value in output.penalties.values())
        torch.stack([*(head.sum() for head in output.heads), *output.penalties.values()]).sum().backward()
        gradients = [p.grad for p in student.parameters() if p.grad is not None]
        assert gradients
        assert all(torch.isfinite(gradient).all() for gradient in gradients)
        torch.optim.Adam(student.parameters()).step()
        student.after_step()
        assert all(torch.isfinite(value).all() for value in student.state_dict().values())


def test_predictions_accept_any_number_and_type_of_rows(kind: str) -> None:
    x = np.random.default_rng(0).integers(0, 2, (9, F))
    for student in phases(kind):
        expected = student.predict_proba(torch.from_numpy(x).float())
        assert expected.shape == (9, C)
        assert expected.dtype == torch.float32
        torch.testing.assert_close(expected.sum(dim=1), torch.ones(9))
        forms = [x, x.astype(np.float64), x.tolist(), torch.from_numpy(x), sp.csr_matrix(x), sp.coo_array(x)]
        for values in forms:
            torch.testing.assert_close(student.predict_proba(values), expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(student.predict_proba(x[:1]), expected[:1], rtol=1e-5, atol=1e-6)
        assert student.predict_proba(x[:0]).shape == (0, C)
        assert student.eval()(torch.empty(0, F)).shape == (0, C)
        assert torch.equal(student.predict(x), expected.argmax(dim=1))


def test_predictions_change_neither_mode_nor_state(kind: str) -> None:
    for student in phases(kind):
        student.train()
        before = {name: value.clone() for name, value in student.state_dict().items()}
        first, second = student.logits(torch.rand(5, F)), student.logits(torch.zeros(2, F))
        assert first.grad_fn is second.grad_fn is None
        assert student.training
        assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
def test_rows_with_nan_or_infinity_are_named(kind: str, form: type) -> None:
    x = np.ones((5, F))
    x[2, 1], x[4, 0] = np.nan, np.inf
    with pytest.raises(DataError, match="rows 2, 4"):
        make(kind).predict(form(x))


def test_wrong_numbers_of_columns_raise(kind: str) -> None:
    with pytest.raises(DataError, match=f"{F + 1} columns; this student reads {F}"):
        make(kind).predict(np.ones((2, F + 1)))


def test_equal_seeds_give_equal_weights(kind: str) -> None:
    first, second = make(kind).state_dict(), make(kind).state_dict()
    assert list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_trains_and_predicts_without_dgl(kind: str) -> None:
    script = f"""
import sys
sys.modules["dgl"] = None
import torch
from dgl_rbm.registry import students
student = students.resolve({kind!r}).build({F}, {C}, hidden_dim=8, num_layers=2)
student.train()
output = student.training_forward(torch.rand(6, {F}))
sum(head.sum() for head in output.heads).backward()
student.after_step()
student.finish_pretraining(torch.rand(6, {F}))
assert student.predict_proba(torch.rand(3, {F})).shape == (3, {C})
"""
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
