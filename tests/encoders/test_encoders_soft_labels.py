"""Soft-label encoder against plain loops, and its leaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.task import GraphView, ObservedGraph
from dgl_rbm.encoders.fit import WeightedEncoder, fit_encodings
from dgl_rbm.encoders.soft_labels import SoftLabelEncoder
from dgl_rbm.errors import ConfigError
from dgl_rbm.registry import encoders, teachers
from dgl_rbm.run.config import resolve_config
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.runtime.seeding import seeded
from dgl_rbm.teachers.base import Teacher, TeacherOutput
from dgl_rbm.teachers.none import NoTeacher

NODES, CLASSES = 7, 2
some_edges = st.lists(st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1)), max_size=25)
FEATURES = torch.randn(NODES, CLASSES, generator=torch.Generator().manual_seed(1))


class SumsNeighbors(Teacher):
    """Predicts a node from its own features and those of its in-neighbours, so that everyone shapes its neighbours."""

    def __init__(self) -> None:
        self.views: list[list[int]] = []

    def fit(self, observed: ObservedGraph, context: RunContext) -> None:
        pass

    def predict(self, view: GraphView, context: RunContext, **options: Any) -> TeacherOutput:
        self.views.append(view.node_ids.tolist())
        assert isinstance(view.features, torch.Tensor)
        logits = view.features.clone()
        for u, v in zip(*(ends.tolist() for ends in view.graph.edges()), strict=True):
            logits[v] += view.features[u]
        return TeacherOutput(logits)


def predictions(edges: list[tuple[int, int]], present: set[int]) -> dict[int, torch.Tensor]:
    """Return what `SumsNeighbors` says of the nodes that are present, one by one."""
    result = {}
    for v in present:
        logits = FEATURES[v].clone()
        for u, w in edges:
            if w == v and u in present:
                logits += FEATURES[u]
        result[v] = torch.softmax(logits, dim=0)
    return result


def fitted(observed: ObservedGraph, folds: int, seed: int = 0) -> tuple[Any, SumsNeighbors]:
    teacher = SumsNeighbors()
    output = teacher.predict(observed, RunContext())
    return SoftLabelEncoder(folds=folds).bind_teacher(teacher, output).fit(observed, RunContext(seed=seed)), teacher


@given(some_edges, st.sampled_from([0, 2, 3, 20]))
def test_a_fold_gets_the_mean_of_what_is_predicted_without_it(
    observed_graph: Callable[..., Any], edges: list[tuple[int, int]], folds: int
) -> None:
    observed = observed_graph(edges, NODES, features=FEATURES)
    output, teacher = fitted(observed, folds)
    everyone = predictions(edges, set(range(NODES)))
    torch.testing.assert_close(output.vectors, torch.stack([everyone[v] for v in range(NODES)]))
    # The graphs that the teacher was asked about tell the folds; whoever is missing belongs to that fold.
    hidden_sets = [set(range(NODES)) - set(ids) for ids in teacher.views[1:]] or [set()]
    if folds:
        assert sorted(v for hidden in hidden_sets for v in hidden) == list(range(NODES))
        assert len(hidden_sets) == min(folds, NODES)
    for hidden in hidden_sets:
        said = predictions(edges, set(range(NODES)) - hidden)
        for v in hidden or range(NODES):
            around = [said[u] for u, w in edges if w == v and u != v and u in said]
            expected = torch.stack(around).mean(dim=0) if around else torch.zeros(CLASSES)
            torch.testing.assert_close(output.encodings[v], expected)


def test_validation_nodes_are_a_fold_of_their_own(observed_graph: Callable[..., Any]) -> None:
    edges = [(u, v) for u in range(NODES) for v in range(NODES) if u != v]
    observed = observed_graph(edges, NODES, features=FEATURES, labels=[0, 1] * 3 + [0], train=[0], val=[2, 5])
    output, teacher = fitted(observed, 2)
    hidden = [set(range(NODES)) - set(ids) for ids in teacher.views[1:]]
    assert len(hidden) == 3
    assert hidden[-1] == {2, 5}
    # Just what they would have as unseen nodes.
    said = predictions(edges, set(range(NODES)) - {2, 5})
    torch.testing.assert_close(output.encodings[2], torch.stack(list(said.values())).mean(dim=0))


def test_own_features_reach_a_nodes_encoding_only_without_folds(observed_graph: Callable[..., Any]) -> None:
    edges = [(0, 1), (1, 0), (1, 2), (2, 1)]
    changed = FEATURES.clone()
    changed[0] += 5
    for folds, reaches in ((NODES, False), (0, True)):
        first, second = (fitted(observed_graph(edges, NODES, features=x), folds)[0] for x in (FEATURES, changed))
        assert torch.equal(first.encodings[0], second.encodings[0]) != reaches
        assert not torch.equal(first.encodings[2], second.encodings[2])


def test_the_seed_draws_the_folds(observed_graph: Callable[..., Any]) -> None:
    edges = [(u, v) for u in range(NODES) for v in range(NODES) if u != v]
    observed = observed_graph(edges, NODES, features=FEATURES)
    first, again, other = (fitted(observed, 2, seed)[0].encodings for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_unseen_nodes_get_the_mean_of_the_stored_predictions(observed_graph: Callable[..., Any]) -> None:
    observed = observed_graph([(0, 1), (1, 0)], NODES, features=FEATURES)
    teacher = SumsNeighbors()
    output = teacher.predict(observed, RunContext())
    part = WeightedEncoder(SoftLabelEncoder(), standardize=False).bind_teacher(teacher, output)
    encodings = fit_encodings([part], observed, RunContext())
    expected = torch.softmax(output.logits, dim=1)[[0, 2]].mean(dim=0)
    torch.testing.assert_close(encodings.from_neighbors([[0, 2]])[0], expected)


@pytest.mark.parametrize("kind", ["sage", "gcn", "appnp"])
def test_trained_teachers_are_read(kind: str, observed_graph: Callable[..., Any]) -> None:
    edges = [(0, 1), (1, 0), (1, 2), (2, 1), (5, 5)]
    observed = observed_graph(edges, NODES, features=FEATURES, labels=[0, 1, 0, 1, 0, 1, 0], train=[0, 1], val=[2])
    with seeded(0, "teacher"):
        teacher = teachers.resolve(kind).build(CLASSES, CLASSES)
    context = RunContext()
    encoder = SoftLabelEncoder(folds=3).bind_teacher(teacher, teacher.predict(observed, context))
    output = encoder.fit(observed, context)
    torch.testing.assert_close(output.vectors.sum(dim=1), torch.ones(NODES))
    sums = output.encodings.sum(dim=1)
    assert bool(((sums - 1).abs() < 1e-5).logical_or(sums == 0).all())
    assert not output.encodings[3:].any()


def test_without_predictions_there_is_nothing_to_read(observed_graph: Callable[..., Any]) -> None:
    observed = observed_graph([], 2, features=torch.eye(2))
    with pytest.raises(ConfigError, match="reads a teacher's predictions"):
        SoftLabelEncoder().fit(observed, RunContext())
    none = SoftLabelEncoder().bind_teacher(NoTeacher(), NoTeacher().predict(observed, RunContext()))
    with pytest.raises(ConfigError, match="reads a teacher's predictions"):
        none.fit(observed, RunContext())
    with pytest.raises(ConfigError, match="soft labels are the teacher's predictions"):
        resolve_config({"teacher": "none", "encoder": "soft_labels", "regularizer": "none"})


@pytest.mark.parametrize("folds", [1, -3])
def test_folds_that_hide_all_or_less_than_nothing_are_refused(folds: int) -> None:
    with pytest.raises(ConfigError, match="expected at least 2"):
        SoftLabelEncoder(folds=folds)
    with pytest.raises(ConfigError, match="folds"):
        encoders.resolve({"kind": "soft_labels", "folds": folds})


class AllRows(SumsNeighbors):
    """Returns one row per training node, for any view."""

    def predict(self, view: GraphView, context: RunContext, **options: Any) -> TeacherOutput:
        return TeacherOutput(FEATURES)


class NoIsolatedNodes(SumsNeighbors):
    def predict(self, view: GraphView, context: RunContext, **options: Any) -> TeacherOutput:
        if int(view.graph.in_degrees().min()) == 0:
            raise dgl.DGLError("There are 0-in-degree nodes in the graph")
        return super().predict(view, context)


@pytest.mark.parametrize(("teacher", "message"), [(AllRows(), "returned 7 rows"), (NoIsolatedNodes(), "0-in-degree")])
def test_a_teacher_that_cannot_predict_part_of_the_graph_is_refused(
    observed_graph: Callable[..., Any], teacher: Teacher, message: str
) -> None:
    observed = observed_graph([(u, (u + 1) % NODES) for u in range(NODES)], NODES, features=FEATURES)
    output = teacher.predict(observed, RunContext())
    with pytest.raises(ConfigError, match=message) as error:
        SoftLabelEncoder(folds=3).bind_teacher(teacher, output).fit(observed, RunContext())
    assert "folds" in str(error.value.hint)
    assert SoftLabelEncoder(folds=0).bind_teacher(teacher, output).fit(observed, RunContext()).encodings.any()


def test_own_predictions_are_refused_as_encodings() -> None:
    with pytest.raises(ConfigError, match="own vector is the prediction that the student learns"):
        encoders.resolve({"kind": "soft_labels", "consistent": False})
