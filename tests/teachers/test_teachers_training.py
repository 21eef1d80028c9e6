"""Training of teachers: learning, checkpoints, refused options, and labels that are never read."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from dgl_rbm.config import ComponentConfig, validated
from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.errors import ArtifactError, ConfigError, TrainingError
from dgl_rbm.registry import teachers
from dgl_rbm.rows.sparse import SparseRows
from dgl_rbm.runtime.callbacks import Callback
from dgl_rbm.runtime.checkpoint import CheckpointStore
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.runtime.seeding import seeded
from dgl_rbm.teachers.options import TeacherTraining
from dgl_rbm.teachers.resolve import as_teacher
from dgl_rbm.teachers.sampling import Placement
from dgl_rbm.teachers.training import GNNTeacher
from dgl_rbm.training import epochs

FULL = {"sampler": "full", "epochs": 25}
SAMPLED = {"sampler": "neighbor", "fanouts": [4, 4], "batch_size": 6, "epochs": 8}
samplers = pytest.mark.parametrize("training", [FULL, SAMPLED], ids=["full", "neighbor"])
kinds = pytest.mark.parametrize("kind", ["sage", "gcn"])


def build(kind: str, training: Mapping[str, Any], **options: Any) -> GNNTeacher:
    with seeded(0, "start"):
        return as_teacher({"kind": kind, "hidden_dim": 8, "training": dict(training), **options}, 6, 2)


def states_equal(left: GNNTeacher, right: GNNTeacher) -> bool:
    pairs = zip(left.state_dict().values(), right.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


class TwoLayers(nn.Module):
    """A user's own module: reads dense features only."""

    def __init__(self, out_dim: int = 2) -> None:
        super().__init__()
        self.first = dgl.nn.SAGEConv(6, 8, "mean")
        self.second = dgl.nn.SAGEConv(8, out_dim, "mean")

    def forward(self, graph: Any, x: Tensor) -> Tensor:
        first, second = graph if isinstance(graph, list) else (graph, graph)
        return self.second(second, torch.relu(self.first(first, x)))


class StopAt(Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_step(self, stage: str, done: int, metrics: Mapping[str, float]) -> None:
        if done == self.epoch:
            raise KeyboardInterrupt


@kinds
@samplers
def test_a_teacher_learns_and_leaves_no_trace(kind: str, training: dict[str, Any], observed: ObservedGraph) -> None:
    teacher, context = build(kind, training), RunContext()
    before = observed.graph.num_edges(), observed.features.clone(), observed.labels.clone()
    teacher.fit(observed, context)
    assert teacher.predict(observed, context).hidden is None
    output = teacher.predict(observed, context, return_hidden=True)
    predicted = output.logits.argmax(dim=1)
    assert (predicted == (torch.arange(60) >= 30).long())[observed.val_idx].float().mean() > 0.9
    assert output.logits.shape == (60, 2)
    assert output.hidden.shape == (60, 8)
    assert not observed.graph.ndata
    assert not observed.graph.edata
    assert observed.graph.num_edges() == before[0]
    assert torch.equal(observed.features, before[1])
    assert torch.equal(observed.labels, before[2])
    assert (teacher.kind, teacher.hidden_dim, teacher.num_layers) == (kind, 8, 2)
    assert teacher.num_parameters() == sum(value.numel() for value in teacher.state_dict().values())
    assert teacher.device.type == "cpu"


@kinds
@samplers
def test_the_same_seed_gives_the_same_bits(kind: str, training: dict[str, Any], observed: ObservedGraph) -> None:
    runs = []
    for seed in (0, 0, 1):
        teacher, context = build(kind, training), RunContext(seed=seed)
        teacher.fit(observed, context)
        runs.append((teacher, context.history))
    assert states_equal(runs[0][0], runs[1][0])
    assert runs[0][1] == runs[1][1]
    assert runs[0][1] != runs[2][1]


@kinds
@samplers
def test_an_interrupted_run_resumes_to_the_same_bits(
    kind: str, training: dict[str, Any], observed: ObservedGraph, tmp_path: Path
) -> None:
    whole, context = build(kind, training, norm="batch"), RunContext()
    whole.fit(observed, context)
    store = CheckpointStore(tmp_path, "same")
    stopped = build(kind, training, norm="batch")
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(observed, RunContext(checkpoints=store, callbacks=[StopAt(5)]))
    resumed, second = build(kind, training, norm="batch"), RunContext(checkpoints=store)
    resumed.fit(observed, second)
    assert states_equal(whole, resumed)
    assert second.history == context.history


def test_a_killed_run_resumes_from_its_last_checkpoint(
    observed: ObservedGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = build("sage", FULL)
    whole.fit(observed, RunContext())
    monkeypatch.setattr(epochs, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    store = CheckpointStore(tmp_path, "same")
    # What a run killed after epoch 7 leaves behind.
    build("sage", FULL | {"epochs": 7}).fit(observed, RunContext(checkpoints=store))
    resumed, context = build("sage", FULL), RunContext(checkpoints=store)
    resumed.fit(observed, context)
    assert states_equal(whole, resumed)
    assert [entry["step"] for entry in context.history] == list(range(1, len(context.history) + 1))


# A high rate, so that the validation loss rises again within the test's epochs.
@pytest.mark.parametrize(("select_by", "lr"), [("accuracy", 0.01), ("loss", 0.3)])
def test_the_first_of_the_best_epochs_is_kept_and_patience_stops(
    select_by: str, lr: float, observed: ObservedGraph
) -> None:
    options = {"select_by": select_by, "lr": lr}
    teacher, context = build("gcn", options | {"epochs": 100, "patience": 6}), RunContext()
    teacher.fit(observed, context)
    sign = -1 if select_by == "loss" else 1
    scores = [sign * entry[f"val_{select_by}"] for entry in context.history]
    best = scores.index(max(scores)) + 1
    assert len(scores) == best + 6 < 100
    # The best epoch is the last of a run that ends there and takes every epoch for its best.
    ending = [entry for entry in context.history if entry["step"] <= best]
    again, second = build("gcn", options | {"epochs": best}), RunContext()
    again.fit(observed, second)
    assert second.history == ending
    assert states_equal(teacher, again)


def test_the_validation_loss_is_the_mean_over_validation_nodes(observed: ObservedGraph) -> None:
    teacher, context = build("gcn", {"epochs": 30}), RunContext()
    teacher.fit(observed, context)
    logits = teacher.predict(observed, context).logits
    terms = [-float(logits[v].log_softmax(0)[observed.labels[v]]) for v in observed.val_idx.tolist()]
    best = min(entry["val_loss"] for entry in context.history)
    assert best == pytest.approx(sum(terms) / len(terms), rel=1e-4)


def test_patience_counts_epochs_that_were_looked_at(observed: ObservedGraph) -> None:
    context = RunContext()
    build("gcn", {"epochs": 100, "patience": 3, "eval_every": 4, "select_by": "accuracy"}).fit(observed, context)
    looked = {entry["step"]: entry["val_accuracy"] for entry in context.history if "val_accuracy" in entry}
    assert all(step % 4 == 0 for step in looked)
    best = max(looked, key=lambda step: (looked[step], -step))
    assert context.history[-1]["step"] == best + 4
    context = RunContext()
    build("gcn", {"epochs": 3, "eval_every": 10}).fit(observed, context)
    assert ["val_accuracy" in entry for entry in context.history] == [False, False, True]


@samplers
def test_labels_beyond_training_and_validation_are_not_looked_at(
    training: dict[str, Any], observed: ObservedGraph
) -> None:
    clean = build("sage", training)
    clean.fit(observed, RunContext())
    garbage = observed.labels.clone()
    garbage[garbage == -1] = 987654321
    other = build("sage", training)
    other.fit(dataclasses.replace(observed, labels=garbage), RunContext())
    assert states_equal(clean, other)


@samplers
def test_sparse_features_train_the_same_teacher(training: dict[str, Any], observed: ObservedGraph) -> None:
    rows = SparseRows.from_scipy(sp.csr_matrix(observed.features.numpy()))
    outputs = []
    for features in (observed.features, rows):
        teacher = build("sage", training | {"epochs": 5})
        view = dataclasses.replace(observed, features=features)
        teacher.fit(view, RunContext())
        outputs.append(teacher.predict(view, RunContext()).logits)
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-4, rtol=1e-4)


@samplers
@pytest.mark.parametrize("as_sparse", [False, True])
def test_any_module_can_be_a_teacher(training: dict[str, Any], as_sparse: bool, observed: ObservedGraph) -> None:
    features = observed.features
    if as_sparse:
        features = SparseRows.from_scipy(sp.csr_matrix(features.numpy()))
    view = dataclasses.replace(observed, features=features)
    with seeded(0, "start"):
        teacher = GNNTeacher(TwoLayers(), 2, validated(TeacherTraining, training | {"epochs": 40}, where="training"))
    teacher.fit(view, RunContext())
    output = teacher.predict(view, RunContext(), return_hidden=True)
    assert (output.logits.argmax(dim=1) == (torch.arange(60) >= 30).long())[observed.val_idx].float().mean() > 0.9
    assert output.hidden is None
    assert not teacher.predicts_single_nodes


def test_prediction_takes_other_features_and_goes_layer_by_layer_where_memory_is_short(
    observed: ObservedGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = build("gcn", FULL)
    shifted = observed.features + 1
    plain = teacher.predict(observed, RunContext())
    whole = teacher.predict(observed, RunContext(), features=shifted, return_hidden=True)
    assert not torch.equal(plain.logits, whole.logits)
    short = Placement(torch.device("cpu"), full_graph_fits=False, graph_on="cpu")
    monkeypatch.setattr("dgl_rbm.teachers.training.place", lambda *given: short)
    parts = teacher.predict(observed, RunContext(), features=shifted, return_hidden=True)
    torch.testing.assert_close(parts.logits, whole.logits)
    torch.testing.assert_close(parts.hidden, whole.hidden)
    logits, fetched = teacher.predict_nodes(observed, torch.tensor([59, 0]))
    torch.testing.assert_close(logits, plain.logits[[59, 0]])
    assert fetched > 2


def test_workers_sample_too_and_are_seeded(observed: ObservedGraph) -> None:
    trained = []
    for _ in range(2):
        teacher = build("sage", SAMPLED | {"epochs": 2, "num_workers": 1})
        teacher.fit(observed, RunContext())
        trained.append(teacher)
    assert states_equal(*trained)


@pytest.mark.parametrize(
    ("fits", "training", "expected"),
    [
        (True, {}, None),
        (False, {}, [10, 10]),
        (False, {"fanouts": [5, 3]}, [5, 3]),
        (False, {"sampler": "full"}, None),
        (True, {"sampler": "neighbor"}, [10, 10]),
    ],
)
def test_auto_samples_where_the_full_graph_does_not_fit(
    fits: bool, training: dict[str, Any], expected: list[int] | None
) -> None:
    assert build("sage", training).fanouts(Placement(torch.device("cpu"), fits, "cpu")) == expected


def test_a_module_of_unknown_depth_is_sampled_only_with_fanouts(observed: ObservedGraph) -> None:
    short = Placement(torch.device("cpu"), full_graph_fits=False, graph_on="cpu")
    assert GNNTeacher(TwoLayers(), 2).fanouts(short) is None
    with pytest.raises(ConfigError, match=r"TwoLayers.*number of layers") as caught:
        GNNTeacher(TwoLayers(), 2, TeacherTraining(sampler="neighbor")).fit(observed, RunContext())
    assert "fanouts" in caught.value.hint


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_refused(bad: float, observed: ObservedGraph) -> None:
    features = observed.features.clone()
    features[observed.train_idx[0], 0] = bad
    with pytest.raises(TrainingError, match="epoch 1") as caught:
        build("gcn", FULL).fit(dataclasses.replace(observed, features=features), RunContext())
    assert "teacher.training.lr=0.001" in caught.value.hint


def test_a_module_with_the_wrong_outputs_is_refused(observed: ObservedGraph) -> None:
    with pytest.raises(ConfigError, match="TwoLayers returned 5 scores for each node; the graph has 2 classes"):
        GNNTeacher(TwoLayers(out_dim=5), 2).fit(observed, RunContext())


def test_state_goes_to_a_teacher_of_the_same_config_only(observed: ObservedGraph) -> None:
    teacher = build("sage", FULL | {"epochs": 2})
    teacher.fit(observed, RunContext())
    other = build("sage", FULL)
    other.load_state_dict(teacher.state_dict())
    assert states_equal(teacher, other)
    with pytest.raises(ArtifactError, match="does not fit"):
        build("sage", FULL, hidden_dim=9).load_state_dict(teacher.state_dict())


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"training": {"fanouts": [5]}}, "1 numbers for 2 layers"),
        ({"training": {"fanouts": [5, 0]}}, "at least 1, or -1"),
        ({"training": {"fanouts": []}}, "fanouts"),
        ({"training": {"epoch": 3}}, "Did you mean 'epochs'"),
        ({"aggregator": "lstm"}, "aggregator"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        teachers.resolve({"kind": "sage", **options})


@pytest.mark.parametrize("kind", ["sage", "gcn", "logits"])
def test_every_option_is_described(kind: str) -> None:
    fields = dict(teachers.config_class(kind).model_fields)
    fields |= TeacherTraining.model_fields
    assert [name for name, field in fields.items() if not field.description] == []
    assert issubclass(teachers.config_class(kind), ComponentConfig)


def test_as_teacher_takes_what_may_name_a_teacher() -> None:
    teacher = build("gcn", FULL)
    assert as_teacher(teacher, 6, 2) is teacher
    module = TwoLayers()
    wrapped = as_teacher(module, 6, 2)
    assert isinstance(wrapped, GNNTeacher)
    assert wrapped.module is module
    assert wrapped.training == TeacherTraining()
    assert as_teacher("sage", 6, 2).kind == as_teacher(teachers.resolve("sage"), 6, 2).kind == "sage"
    with pytest.raises(ConfigError, match="teacher"):
        as_teacher(3, 6, 2)


def test_the_start_is_drawn_from_torchs_generator() -> None:
    assert states_equal(build("sage", FULL), build("sage", FULL))
    with seeded(1, "start"):
        other = as_teacher({"kind": "sage", "hidden_dim": 8}, 6, 2)
    assert not states_equal(build("sage", FULL), other)
