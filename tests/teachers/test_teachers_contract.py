"""What every registered teacher guarantees, with its default options where they are quick enough."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dgl_rbm.data import make_task
from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.task import NodeTask, ObservedGraph
from dgl_rbm.errors import ConfigError
from dgl_rbm.registry import teachers
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.runtime.seeding import seeded
from dgl_rbm.teachers.base import Teacher, TeacherConfig

NODES, FEATURES, CLASSES = 60, 6, 2
QUICK = {"hidden_dim": 8, "training": {"epochs": 4}}
every_teacher = pytest.mark.parametrize("kind", teachers.names())

Make = Callable[[str], TeacherConfig]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return a function from the name of a teacher to its config with few epochs and the required options."""
    path = tmp_path / "scores.npy"
    np.save(path, np.random.default_rng(0).standard_normal((NODES, CLASSES)))
    required: dict[str, dict[str, Any]] = {
        "logits": {"path": str(path)},
        "average": {"members": [{"kind": "sage", **QUICK}, {"kind": "gcn", **QUICK}]},
    }

    def config(kind: str) -> TeacherConfig:
        fields = teachers.config_class(kind).model_fields
        quick = {name: value for name, value in QUICK.items() if name in fields}
        return teachers.resolve({"kind": kind, **quick, **required.get(kind, {})})

    return config


def build(config: TeacherConfig, seed: int = 0) -> Teacher:
    with seeded(seed, "start"):
        return config.build(FEATURES, CLASSES)


def fitted(config: TeacherConfig, observed: ObservedGraph, seed: int = 0) -> Teacher:
    teacher = build(config, seed)
    teacher.fit(observed, RunContext(seed=seed))
    return teacher


def logits(teacher: Teacher, observed: ObservedGraph) -> torch.Tensor:
    return teacher.predict(observed, RunContext()).logits


@every_teacher
def test_predictions_are_finite_float32_rows_and_the_graph_stays_as_it_is(
    kind: str, make: Make, observed: ObservedGraph
) -> None:
    before = observed.graph.num_edges(), observed.features.clone(), observed.labels.clone()
    config = make(kind)
    teacher, context = build(config), RunContext()
    assert teacher.kind == kind
    teacher.fit(observed, context)
    plain, output = (teacher.predict(observed, context, return_hidden=hidden) for hidden in (False, True))
    assert output.logits.shape == (NODES, CLASSES if config.has_predictions else 0)
    assert torch.equal(plain.logits, output.logits)
    assert plain.hidden is None
    for rows in (output.logits, *([] if output.hidden is None else [output.hidden])):
        assert len(rows) == NODES
        assert rows.dtype == torch.float32
        assert rows.device.type == "cpu"
        assert not rows.requires_grad
        assert bool(torch.isfinite(rows).all())
    assert (observed.graph.num_edges(), len(observed.graph.ndata), len(observed.graph.edata)) == (before[0], 0, 0)
    assert torch.equal(observed.features, before[1])
    assert torch.equal(observed.labels, before[2])


@every_teacher
def test_the_seed_determines_the_predictions(kind: str, make: Make, observed: ObservedGraph) -> None:
    config = make(kind)
    first, same, other = (fitted(config, observed, seed) for seed in (0, 0, 1))
    assert torch.equal(logits(first, observed), logits(same, observed))
    if first.num_parameters():
        assert not torch.equal(logits(first, observed), logits(other, observed))


@every_teacher
def test_a_saved_state_restores_the_predictions(kind: str, make: Make, observed: ObservedGraph) -> None:
    config = make(kind)
    teacher, file = fitted(config, observed), io.BytesIO()
    torch.save(teacher.state_dict(), file)
    file.seek(0)
    restored = build(config, seed=1)
    restored.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(logits(restored, observed), logits(teacher, observed))
    assert restored.num_parameters() == teacher.num_parameters()


@every_teacher
def test_perturbed_features_are_predicted_from_or_refused(kind: str, make: Make, observed: ObservedGraph) -> None:
    config = make(kind)
    teacher, shifted = fitted(config, observed), observed.features + 1
    if config.accepts_perturbed_features:
        output = teacher.predict(observed, RunContext(), features=shifted)
        assert torch.equal(output.logits, logits(teacher, dataclasses.replace(observed, features=shifted)))
        assert not torch.equal(output.logits, logits(teacher, observed))
    elif config.has_predictions:
        with pytest.raises(ConfigError, match="perturbed features"):
            teacher.predict(observed, RunContext(), features=shifted)


@every_teacher
def test_single_nodes_are_predicted_as_in_the_whole_graph(kind: str, make: Make, observed: ObservedGraph) -> None:
    teacher, ids = fitted(make(kind), observed), torch.tensor([7, NODES - 1, 7])
    if not teacher.predicts_single_nodes:
        with pytest.raises((NotImplementedError, ConfigError)):
            teacher.predict_nodes(observed, ids)
        return
    rows, fetched = teacher.predict_nodes(observed, ids)
    torch.testing.assert_close(rows, logits(teacher, observed)[ids])
    assert 2 <= fetched <= NODES


def inductive_task(*, changed: bool) -> NodeTask:
    """Return a task with five unseen nodes; `changed` alters the unseen part and every test label."""
    random = np.random.default_rng(0)
    source, destination = random.integers(0, NODES, (2, 300))
    features = random.standard_normal((NODES, FEATURES)).astype(np.float32)
    labels, test = np.arange(NODES) % CLASSES, np.arange(50, NODES)

    def task() -> NodeTask:
        graph = dgl.graph((torch.from_numpy(source), torch.from_numpy(destination)), num_nodes=NODES)
        return make_task(
            graph,
            features=features,
            labels=labels,
            train=np.arange(30),
            val=np.arange(30, 50),
            test=test,
            setting="inductive",
            unseen_fraction=0.5,
        )

    original = task()
    if not changed:
        return original
    unseen = original.unseen_idx.numpy()
    assert len(unseen) == 5
    touched = np.isin(source, unseen) | np.isin(destination, unseen)
    source = np.concatenate([source[~touched], np.repeat(unseen, NODES)])
    destination = np.concatenate([destination[~touched], np.tile(np.arange(NODES), len(unseen))])
    features, labels = features.copy(), labels.copy()
    features[unseen] *= -3
    labels[test] = 1 - labels[test]
    return task()


@every_teacher
def test_unseen_nodes_and_test_labels_do_not_matter(kind: str, make: Make) -> None:
    config, tasks = make(kind), [inductive_task(changed=changed) for changed in (False, True)]
    first, second = (fitted(config, task.observed()) for task in tasks)
    assert torch.equal(logits(first, tasks[0].observed()), logits(second, tasks[1].observed()))
    assert len(first.predict(tasks[0].full(), RunContext()).logits) == NODES


@every_teacher
def test_files_exist_and_reach_an_average(kind: str, make: Make) -> None:
    config = make(kind)
    files = config.files()
    assert all(path.is_file() for path in files)
    if config.has_predictions:
        assert teachers.resolve({"kind": "average", "members": [config, config]}).files() == files * 2


@every_teacher
def test_every_option_has_a_description(kind: str) -> None:
    fields = teachers.config_class(kind).model_fields
    assert [name for name, field in fields.items() if not field.description] == []
