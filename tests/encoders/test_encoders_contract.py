"""What every registered encoder guarantees, with its default options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from dgl_rbm.data import make_task
from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.task import GraphView, NodeTask, ObservedGraph
from dgl_rbm.encoders.base import Encoder, EncoderConfig, EncoderOutput
from dgl_rbm.encoders.fit import WeightedEncoder, encode_nodes, fit_encodings
from dgl_rbm.errors import ConfigError
from dgl_rbm.registry import encoders
from dgl_rbm.rows.sparse import Rows
from dgl_rbm.runtime.callbacks import Callback
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.teachers.base import Teacher, TeacherOutput

NODES = 6
KINDS = [kind for kind in encoders.names() if issubclass(encoders.config_class(kind), EncoderConfig)]
every_encoder = pytest.mark.parametrize("kind", KINDS)


class MeanTeacher(Teacher):
    """Has a logit per class from a node's own features and those of its neighbours."""

    def fit(self, observed: ObservedGraph, context: RunContext) -> None:
        return

    def predict(
        self, view: GraphView, context: RunContext, *, features: Rows | None = None, return_hidden: bool = False
    ) -> TeacherOutput:
        x = view.features if features is None else features
        return TeacherOutput((x + dgl.ops.copy_u_sum(view.graph, x))[:, :2])


def bound(encoder: Encoder, observed: ObservedGraph) -> Encoder:
    teacher = MeanTeacher()
    return encoder.bind_teacher(teacher, teacher.predict(observed, RunContext()))


def fit(kind: str, observed: ObservedGraph, context: RunContext | None = None, **options: Any) -> EncoderOutput:
    encoder = encoders.resolve({"kind": kind, **options}).build()
    return bound(encoder, observed).fit(observed, context or RunContext(seed=3))


@pytest.fixture
def path_graph(observed_graph: Callable[..., ObservedGraph]) -> ObservedGraph:
    """Return the path 0 - 1 - 2 - 3 and the isolated nodes 4 and 5, the last with a self-loop."""
    edges = [(0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2), (5, 5)]
    features = torch.randn(NODES, 3, generator=torch.Generator().manual_seed(1))
    return observed_graph(edges, NODES, features=features, labels=[0, 1, 0, 1, 0, -1], train=[0, 1, 4], val=[2, 3])


@every_encoder
def test_outputs_are_finite_float32_rows_and_the_graph_stays_as_it_is(kind: str, path_graph: ObservedGraph) -> None:
    features = path_graph.features.clone()
    output = fit(kind, path_graph)
    for values in (output.vectors, output.encodings):
        assert values.shape == (NODES, output.vectors.shape[1])
        assert values.dtype == torch.float32
        assert values.device.type == "cpu"
        assert not values.requires_grad
        assert bool(torch.isfinite(values).all())
    assert torch.equal(path_graph.features, features)
    assert path_graph.graph.num_edges() == 7
    assert not path_graph.graph.ndata
    assert not path_graph.graph.edata


@every_encoder
def test_the_same_seed_gives_the_same_bits(kind: str, path_graph: ObservedGraph) -> None:
    first, second = fit(kind, path_graph), fit(kind, path_graph)
    assert torch.equal(first.vectors, second.vectors)
    assert torch.equal(first.encodings, second.encodings)


@every_encoder
def test_nodes_without_neighbours_are_encoded_as_zeros(kind: str, path_graph: ObservedGraph) -> None:
    assert not fit(kind, path_graph).encodings[4:].any()


@every_encoder
def test_a_graph_without_edges_is_encoded_as_zeros(kind: str, observed_graph: Callable[..., ObservedGraph]) -> None:
    isolated = observed_graph([], 3, features=torch.eye(3), labels=[0, 1, -1], train=[0], val=[1])
    output = fit(kind, isolated)
    assert output.encodings.shape == output.vectors.shape
    assert not output.encodings.any()


@every_encoder
def test_steps_are_reported_up_to_the_total(kind: str, path_graph: ObservedGraph) -> None:
    stages: list[tuple[str, int]] = []
    steps: list[int] = []

    class Recorder(Callback):
        def on_stage_start(self, stage: str, total: int, unit: str) -> None:
            stages.append((stage, total))

        def on_step(self, stage: str, done: int, metrics: Any) -> None:
            steps.append(done)

    fit(kind, path_graph, RunContext(callbacks=[Recorder()]))
    # 'none' has no stage.
    assert stages == ([("encoder", len(steps))] if steps else [])
    assert steps == list(range(1, len(steps) + 1))
    assert bool(steps) == (kind != "none")


def inductive_task(*, changed: bool) -> NodeTask:
    """Return a task of 24 nodes, of which two are unseen; `changed` alters the unseen part and every test label."""
    random = np.random.default_rng(0)
    count, test = 24, np.arange(18, 24)
    source, destination = random.integers(0, count, (2, 80))
    features = random.standard_normal((count, 4)).astype(np.float32)
    labels = np.arange(count) % 2
    options = {"train": np.arange(12), "val": np.arange(12, 18), "test": test, "setting": "inductive"}

    def task() -> NodeTask:
        graph = dgl.graph((torch.from_numpy(source), torch.from_numpy(destination)), num_nodes=count)
        return make_task(graph, features=features, labels=labels, unseen_fraction=1 / 3, **options)

    original = task()
    if not changed:
        return original
    unseen = original.unseen_idx.numpy()
    assert len(unseen) == 2
    touched = np.isin(source, unseen) | np.isin(destination, unseen)
    assert touched.any()
    extra = np.repeat(unseen, count), np.tile(np.arange(count), len(unseen))
    source = np.concatenate([source[~touched], extra[0]])
    destination = np.concatenate([destination[~touched], extra[1]])
    features, labels = features.copy(), labels.copy()
    features[unseen] *= -3
    labels[test] = 1 - labels[test]
    return task()


@every_encoder
def test_unseen_nodes_and_test_labels_do_not_matter(kind: str) -> None:
    config = encoders.resolve(kind)

    def encodings(task: NodeTask) -> Any:
        observed = task.observed()
        part = WeightedEncoder(bound(config.build(), observed), config.standardize, config.weight)
        return fit_encodings([part], observed, RunContext(seed=3))

    task = inductive_task(changed=False)
    first, second = encodings(task), encodings(inductive_task(changed=True))
    for name in ("node_ids", "vectors", "values", "shift", "scale"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name
    assert encode_nodes(first, task, task.unseen_idx).shape == (2, first.dim)


@pytest.mark.parametrize("kind", ["deepwalk", "spectral", "diffusion"])
def test_consistent_encodings_are_means_of_the_stored_vectors(kind: str, path_graph: ObservedGraph) -> None:
    own, means = (fit(kind, path_graph, consistent=consistent, dim=2) for consistent in (False, True))
    assert torch.equal(own.encodings, own.vectors)
    assert torch.equal(means.vectors, own.vectors)
    torch.testing.assert_close(means.encodings[0], means.vectors[1])
    torch.testing.assert_close(means.encodings[1], (means.vectors[0] + means.vectors[2]) / 2)


def test_random_encoders_depend_on_the_seed(path_graph: ObservedGraph) -> None:
    first, second = (fit("deepwalk", path_graph, RunContext(seed=seed)).vectors for seed in (1, 2))
    assert not torch.equal(first, second)


@every_encoder
def test_unknown_options_are_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match="no such option"):
        encoders.resolve({"kind": kind, "no_such": 3})


@every_encoder
def test_every_option_has_a_description(kind: str) -> None:
    fields = encoders.config_class(kind).model_fields
    assert [name for name, field in fields.items() if name != "kind" and not field.description] == []
