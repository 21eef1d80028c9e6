"""Averages of teachers: means, seeds, checkpoints, weights and errors."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dgl_rbm import Distiller, Run, make_task
from dgl_rbm.commands.base import gather
from dgl_rbm.console.describe import commented_yaml
from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.task import NodeTask, ObservedGraph
from dgl_rbm.errors import ArtifactError, ConfigError, TimeBudgetError, TrainingError
from dgl_rbm.registry import teachers
from dgl_rbm.run.config import resolve_config
from dgl_rbm.run.parts import TEACHER
from dgl_rbm.run.stages import stage_key
from dgl_rbm.runtime.callbacks import Callback
from dgl_rbm.runtime.checkpoint import CheckpointStore
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.runtime.seeding import seeded
from dgl_rbm.teachers.average import AverageTeacher, likeliest_temperature, likeliest_weights
from dgl_rbm.teachers.base import Teacher, TeacherOutput
from dgl_rbm.teachers.resolve import as_teacher


def member(kind: str, epochs: int = 12, **options: Any) -> dict[str, Any]:
    return {"kind": kind, "hidden_dim": 8, "training": {"epochs": epochs}, **options}


def build(*members: Any, **options: Any) -> AverageTeacher:
    with seeded(0, "start"):
        teacher = as_teacher({"kind": "average", "members": list(members), **options}, 6, 2)
    assert isinstance(teacher, AverageTeacher)
    return teacher


def equal(left: Any, right: Any) -> bool:
    if isinstance(left, dict):
        return all(equal(left[key], right[key]) for key in left.keys() | right.keys())
    if isinstance(left, list):
        return all(equal(a, b) for a, b in zip(left, right, strict=True))
    return torch.equal(left, right)


class Fixed(Teacher):
    """Says the same of every graph."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def fit(self, observed: ObservedGraph, context: RunContext) -> None:
        pass

    def predict(self, view: Any, context: RunContext, **options: Any) -> TeacherOutput:
        return TeacherOutput(self.logits)


@pytest.mark.parametrize("weights", [None, [3.0, 1.0, 0.5]])
def test_the_softmax_of_its_logits_is_the_mean_of_probabilities(
    weights: list[float] | None, observed: ObservedGraph
) -> None:
    torch.manual_seed(0)
    logits = [torch.randn(60, 4) * 5 for _ in range(3)]
    teacher = AverageTeacher([Fixed(rows) for rows in logits], weights)
    probabilities = teacher.predict(observed, RunContext()).logits.softmax(dim=1)
    shares = [w / sum(weights) for w in weights] if weights else [1 / 3] * 3
    for node in range(60):
        for label in range(4):
            expected = 0.0
            for share, rows in zip(shares, logits, strict=True):
                e = rows[node].double().exp()
                expected += share * float(e[label] / e.sum())
            assert float(probabilities[node, label]) == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_sure_members_give_finite_logits(observed: ObservedGraph) -> None:
    sure = torch.tensor([[300.0, -300.0]]).expand(60, 2)
    logits = AverageTeacher([Fixed(sure), Fixed(sure)]).predict(observed, RunContext()).logits
    assert torch.isfinite(logits).all()


def test_members_are_trained_and_averaged(observed: ObservedGraph) -> None:
    teacher, context = build(member("sage"), member("appnp", hidden_dim=5, steps=3)), RunContext()
    teacher.fit(observed, context)
    parts = [part.predict(observed, context, return_hidden=True) for part in teacher.members]
    output = teacher.predict(observed, context, return_hidden=True)
    mean = torch.stack([part.logits.softmax(dim=1) for part in parts]).mean(dim=0)
    torch.testing.assert_close(output.logits.softmax(dim=1), mean)
    assert torch.equal(output.hidden, torch.cat([part.hidden for part in parts], dim=1))
    assert teacher.predict(observed, context).hidden is None
    assert (teacher.kind, teacher.hidden_dim, teacher.num_layers) == ("average", 8, 2)
    assert teacher.num_parameters() == sum(part.num_parameters() for part in teacher.members)
    assert {entry["member"] for entry in context.history} == {0, 1}
    assert context.seconds["teacher"] > 0


def test_it_answers_to_other_features_and_for_single_nodes(observed: ObservedGraph) -> None:
    teacher, context = build(member("sage"), member("gcn", num_layers=1)), RunContext()
    shifted = observed.features + 1
    logits = [part.predict(observed, context, features=shifted).logits.softmax(1) for part in teacher.members]
    asked = teacher.predict(observed, context, features=shifted).logits
    torch.testing.assert_close(asked.softmax(1), torch.stack(logits).mean(0))
    assert teacher.predicts_single_nodes
    ids = torch.tensor([7, 59, 7])
    answer, fetched = teacher.predict_nodes(observed, ids)
    torch.testing.assert_close(answer, teacher.predict(observed, context).logits[ids])
    assert fetched == teacher.members[0].predict_nodes(observed, ids)[1]
    assert not AverageTeacher([*teacher.members, Fixed(torch.zeros(60, 2))]).predicts_single_nodes


def test_repeated_members_start_and_train_differently(observed: ObservedGraph) -> None:
    config = teachers.resolve({"kind": "average", "members": [member("sage")] * 3})
    with seeded(0, "start"):
        teacher = config.build(6, 2)
    starts = [part.state_dict()["layers.0.conv.fc_neigh.weight"].clone() for part in teacher.members]
    assert not torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[1], starts[2])
    context = RunContext()
    # From the same start too: what is dropped differs.
    for part in teacher.members[1:]:
        part.load_state_dict(teacher.members[0].state_dict())
    teacher.fit(observed, context)
    losses = [[entry["loss"] for entry in context.history if entry["member"] == i] for i in range(3)]
    assert len(losses[0]) == 12
    assert losses[0] != losses[1] != losses[2] != losses[0]


def test_the_same_seed_gives_the_same_bits(observed: ObservedGraph) -> None:
    states = []
    for seed in (0, 0, 1):
        teacher = build(member("sage"), member("gcn"))
        teacher.fit(observed, RunContext(seed=seed))
        states.append(teacher.state_dict())
    assert equal(states[0], states[1])
    assert not equal(states[0], states[2])


class StopAt(Callback):
    """Stops the run at the given step of the given member."""

    def __init__(self, member: int, step: int) -> None:
        self.place, self.seen = (member, step), -1

    def on_stage_start(self, stage: str, total: int, unit: str) -> None:
        self.seen += 1

    def on_step(self, stage: str, done: int, metrics: Any) -> None:
        if (self.seen, done) == self.place:
            raise KeyboardInterrupt


@pytest.mark.parametrize("place", [(0, 4), (1, 1), (1, 12), (2, 7)])
def test_a_stopped_run_resumes_to_the_same_bits(
    place: tuple[int, int], observed: ObservedGraph, tmp_path: Path
) -> None:
    members = (member("sage"), member("appnp", steps=2), member("sage"))
    whole, context = build(*members), RunContext()
    whole.fit(observed, context)
    store = CheckpointStore(tmp_path, "same")
    with pytest.raises(KeyboardInterrupt):
        build(*members).fit(observed, RunContext(checkpoints=store, callbacks=[StopAt(*place)]))
    resumed, second = build(*members), RunContext(checkpoints=store)
    steps: list[int] = []

    class Counting(Callback):
        def on_step(self, stage: str, done: int, metrics: Any) -> None:
            steps.append(done)

    second.callbacks = [Counting()]
    resumed.fit(observed, second)
    assert equal(whole.state_dict(), resumed.state_dict())
    assert second.history == context.history
    # Nothing that was done is done again.
    assert len(steps) == 36 - 12 * place[0] - place[1]
    assert set(second.seconds) == {"teacher"}


def test_errors_name_the_member_and_its_options(observed: ObservedGraph) -> None:
    broken = observed.features.clone()
    broken[observed.train_idx[0]] = float("nan")
    teacher = build(member("sage"), member("gcn"))
    teacher.members[0] = Fixed(torch.zeros(60, 2))
    bad = ObservedGraph(**(vars(observed) | {"features": broken}))
    with pytest.raises(TrainingError, match=r"^teacher\.members\.1 \('gcn'\): The teacher's loss") as caught:
        teacher.fit(bad, RunContext())
    assert "--set teacher.members.1.training.lr=0.001" in caught.value.hint
    assert str(caught.value).endswith(caught.value.hint)


def test_a_time_budget_is_not_a_members_fault(observed: ObservedGraph) -> None:
    class OutOfTime(Fixed):
        def fit(self, observed: ObservedGraph, context: RunContext) -> None:
            raise TimeBudgetError("used up")

    with pytest.raises(TimeBudgetError, match=r"^used up$"):
        AverageTeacher([OutOfTime(torch.zeros(60, 2))]).fit(observed, RunContext())


def test_state_goes_to_an_average_of_the_same_members_only() -> None:
    state = build("sage", "gcn").state_dict()
    other = build("sage", "gcn")
    other.load_state_dict(state)
    assert equal(other.state_dict(), state)
    with pytest.raises(ArtifactError, match="2 members; this one has 1"):
        build("sage").load_state_dict(state)
    with pytest.raises(ArtifactError, match="no members"):
        build("sage").load_state_dict({})
    with pytest.raises(ArtifactError, match=r"teacher\.members\.0 \('gcn'\)"):
        build("gcn", "sage").load_state_dict(state)


@pytest.mark.parametrize("spec", ["sage+appnp", " sage + appnp", ["sage", "appnp"], ("sage", {"kind": "appnp"})])
def test_lists_and_sums_of_names_are_averages(spec: Any) -> None:
    config = resolve_config({"teacher": spec}).teacher
    assert config == teachers.resolve({"kind": "average", "members": ["sage", "appnp"]})
    built = as_teacher(spec, 6, 2)
    assert [part.kind for part in built.members] == ["sage", "appnp"]
    assert resolve_config({"teacher": ["sage"]}).teacher == teachers.resolve("sage")
    assert as_teacher(["sage"], 6, 2).kind == "sage"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"members": []}, "members: .*at least 1"),
        ({"members": "sage"}, "members: expected a list of teachers"),
        ({"members": ["sage", "gnc"]}, "member 1: There is no teacher 'gnc'. Did you mean 'gcn'"),
        ({"members": [{"kind": "sage", "dropuot": 0.1}]}, "member 0: .*\n.*Did you mean 'dropout'"),
        ({"members": ["rbm", "moe"]}, "(?s)member 0: There is no teacher 'rbm'.*member 1"),
        ({"members": ["sage"], "weights": [1.0, 2.0]}, "2 weights for 1 members"),
        ({"members": ["sage", "gcn"], "weights": [1.0, 0.0]}, "above zero"),
        ({"members": ["sage", "gcn"], "weights": [1.0, -2.0]}, "above zero"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        resolve_config({"teacher": {"kind": "average", **options}})


def test_teachers_that_are_built_by_hand_are_checked_too() -> None:
    with pytest.raises(ConfigError, match="no members"):
        AverageTeacher([])
    with pytest.raises(ConfigError, match=r"weights \[1.0\] for 2 members"):
        AverageTeacher([Fixed(torch.zeros(1, 2))] * 2, [1.0])
    with pytest.raises(ConfigError, match=r"weights 'valid' for 2 members; .*or 'validation'"):
        AverageTeacher([Fixed(torch.zeros(1, 2))] * 2, "valid")  # type: ignore[arg-type]


def test_krd_is_refused_if_a_member_rejects_perturbed_features(tmp_path: Path) -> None:
    logits = {"kind": "logits", "path": str(tmp_path / "scores.npy")}
    with pytest.raises(ConfigError, match="perturbed features, which the teacher 'average' does not make"):
        resolve_config({"teacher": ["sage", logits], "regularizer": "krd"})
    resolve_config({"teacher": ["sage", "gcn"], "regularizer": "krd"})


def small_task() -> NodeTask:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(40) % 2
    ends = torch.randint(40, (2, 160), generator=generator)
    ends = ends[:, labels[ends[0]] == labels[ends[1]]]
    graph = dgl.graph((torch.cat([ends[0], ends[1]]), torch.cat([ends[1], ends[0]])), num_nodes=40)
    parts = {"train": torch.arange(12), "val": torch.arange(12, 22), "test": torch.arange(22, 40)}
    return make_task(graph, features=torch.randn(40, 6, generator=generator), labels=labels, **parts)


QUICK = {"student": "mlp", "encoder": "none", "training": {"epochs": 3}, "device": "cpu"}


def test_a_whole_run_is_saved_and_loaded(tmp_path: Path) -> None:
    teacher = {"kind": "average", "members": [member("sage", 3), member("gcn", 3)], "weights": [2.0, 1.0]}
    distiller = Distiller(teacher=teacher, regularizer={"kind": "krd", "noise_samples": 2}, **QUICK)
    result = distiller.fit(small_task(), out=tmp_path / "run")
    result.save(tmp_path / "run")
    assert result.metrics.teacher.kind == "average"
    assert result.metrics.teacher.latency is not None
    saved = Run.load(tmp_path / "run")
    assert equal(saved.teacher.state_dict(), result.teacher.state_dict())
    assert torch.equal(saved.teacher_logits, result.teacher_logits)
    # All the way round: model to values to YAML to model.
    for text in (yaml.safe_dump(result.config.to_values()), commented_yaml(resolve_config({"teacher": teacher}))):
        assert resolve_config(yaml.safe_load(text) | {"dataset": "digits"}).teacher == result.config.teacher


def test_instances_among_names(tmp_path: Path) -> None:
    module = nn.Linear(6, 2)

    class OnFeatures(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = module

        def forward(self, graph: Any, x: Tensor) -> Tensor:
            return self.linear(x)

    result = Distiller(teacher=[member("sage", 3), OnFeatures()], regularizer="none", **QUICK).fit(small_task())
    assert [part.kind for part in result.teacher.members] == ["sage", "custom"]
    assert result.teacher.members[1].module.linear is module


def test_the_command_line_sets_options_of_members(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("teacher: [sage, appnp]\n")
    for file, option in ((None, "sage+appnp"), (path, None)):
        overrides = ["teacher.members.1.alpha=0.2", "teacher.weights=[1, 3]"]
        config = gather(file, overrides, teacher=option).teacher
        assert [part.kind for part in config.members] == ["sage", "appnp"]
        assert (config.members[1].alpha, config.weights) == (0.2, [1.0, 3.0])
        # An option that a member has and the average does not.
        with pytest.raises(ConfigError, match=r"teacher -> training: no such option\. Options: kind, members, weights"):
            gather(file, ["teacher.training.epochs=3"], teacher=option)


def test_files_of_members_belong_to_the_key_of_the_teacher(tmp_path: Path) -> None:
    path, prints = tmp_path / "scores.npy", []
    spec = ["sage", {"kind": "logits", "path": str(path)}]
    config = resolve_config({"teacher": spec, "regularizer": "none"})
    for value in (0.0, 1.0, 0.0):
        np.save(path, np.full((40, 2), value))
        prints.append(stage_key(TEACHER, config, []))
    assert prints[0] == prints[2] != prints[1]


def test_every_option_is_described() -> None:
    fields = teachers.config_class("average").model_fields
    assert [name for name, field in fields.items() if not field.description] == []


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)), min_size=1, max_size=12))
def test_likeliest_weights_are_the_best_of_a_fine_grid(pairs: list[tuple[float, float]]) -> None:
    def log_likelihood(share: float) -> float:
        return sum(math.log(share * first + (1 - share) * second) for first, second in pairs)

    weights = likeliest_weights(torch.tensor(pairs, dtype=torch.float64)).tolist()
    assert sum(weights) == pytest.approx(1)
    best = max(log_likelihood(i / 200) for i in range(201))
    assert log_likelihood(weights[0]) >= best - 1e-3 * len(pairs)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(-4, 4), st.integers(0, 1)), min_size=1, max_size=12))
def test_the_likeliest_temperature_is_the_best_of_a_fine_grid(rows: list[tuple[float, int]]) -> None:
    def loss(temperature: float) -> float:
        return sum(math.log(1 + math.exp((-z if label else z) / temperature)) for z, label in rows)

    logits = torch.tensor([[0.0, z] for z, _ in rows])
    temperature = likeliest_temperature(logits, torch.tensor([label for _, label in rows]))
    grid = [math.exp(math.log(0.02) + i / 300 * math.log(50 / 0.02)) for i in range(301)]
    assert loss(temperature) <= min(loss(t) for t in grid) + 1e-3 * len(rows)


def test_an_unsure_member_that_is_right_gets_its_share(observed: ObservedGraph) -> None:
    right = torch.nn.functional.one_hot(observed.labels.clamp(min=0), 2).float()
    mistaken = right.clone()
    mistaken[observed.val_idx[::3]] = 1 - right[observed.val_idx[::3]]
    teacher = AverageTeacher([Fixed(0.01 * right), Fixed(2 * mistaken)], "validation")
    teacher.fit(observed, RunContext())
    assert teacher.temperatures[0] < 0.05
    assert teacher.weights[0] > 0.9
    probabilities = torch.softmax(teacher.predict(observed, RunContext()).logits, dim=1)
    expected = sum(
        share * torch.softmax(member.logits / temperature, dim=1)  # type: ignore[attr-defined]
        for share, member, temperature in zip(teacher.weights, teacher.members, teacher.temperatures, strict=True)
    )
    torch.testing.assert_close(probabilities, expected)


def test_weights_by_validation_read_no_other_labels(observed: ObservedGraph, tmp_path: Path) -> None:
    right = 4.0 * torch.nn.functional.one_hot(observed.labels.clamp(min=0), 2).float()
    wrong_there = right.clone()
    wrong_there[observed.val_idx] = -right[observed.val_idx]
    wrong_elsewhere = -right
    wrong_elsewhere[observed.val_idx] = right[observed.val_idx]
    teacher = AverageTeacher([Fixed(wrong_there), Fixed(wrong_elsewhere)], "validation")
    teacher.fit(observed, RunContext())
    assert teacher.weights[1] > 0.99
    again = AverageTeacher([Fixed(wrong_there), Fixed(wrong_elsewhere)], "validation")
    again.load_state_dict(teacher.state_dict())
    assert again.weights == teacher.weights


def test_fitted_weights_survive_a_run_that_is_saved(tmp_path: Path) -> None:
    spec = {"kind": "average", "members": [member("sage"), member("gcn", epochs=1)], "weights": "validation"}
    result = Distiller(teacher=spec, student="mlp", encoder="none", training={"epochs": 2}).fit("digits")
    folder = result.save(tmp_path / "run")
    teacher = Run.load(folder).teacher
    assert isinstance(teacher, AverageTeacher)
    assert teacher.weights == result.teacher.weights  # type: ignore[attr-defined]
    assert teacher.weights[0] > 0.5
