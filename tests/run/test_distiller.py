"""The whole pipeline: components by name, config and instance; saving; resuming; serving."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import dgl_rbm
from dgl_rbm import Callback, Distiller, NodeTask, Run
from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.encoders.base import Encoder, EncoderOutput
from dgl_rbm.errors import ArtifactError, ConfigError, DataError
from dgl_rbm.evaluation.scores import score
from dgl_rbm.registry import encoders, regularizers, students, teachers
from dgl_rbm.students.base import Student
from dgl_rbm.students.mlp import MLP
from dgl_rbm.training.student import StudentFit, fit_student
from dgl_rbm.training.table import DistillationTable

from .conftest import NODES, community_arrays, community_task, quick_distiller

METRICS = {
    "": ["dataset", "setting", "seed", "agreement", "versions"],
    "teacher": ["kind", "test_accuracy", "val_accuracy", "parameters", "seconds"],
    "student": [
        "kind",
        "test_accuracy",
        "val_accuracy",
        "parameters",
        "active_parameters",
        "best_epoch",
        "seconds",
    ],
    "encoder": ["seconds"],
}


@pytest.fixture(scope="module")
def finished() -> Run:
    return quick_distiller(student="rbm").fit(community_task("inductive"))


def test_a_run_learns_and_reports_what_it_must(finished: Run) -> None:
    for section, names in METRICS.items():
        values = finished.metrics.to_values()[section] if section else finished.metrics.to_values()
        assert set(names) <= set(values), section
    assert finished.metrics.student.test_accuracy > 0.8
    assert finished.metrics.student.active_parameters < finished.metrics.student.parameters
    assert finished.metrics.student.latency.p50_us > 0
    assert finished.metrics.teacher.latency.fetched_rows > 1
    json.dumps(finished.metrics.to_values())


def test_metrics_can_be_computed_again_from_the_logits(finished: Run) -> None:
    task = finished.task
    for role, logits in (("student", finished.student_logits), ("teacher", finished.teacher_logits)):
        labels, predicted = task.test_labels().tolist(), logits.argmax(1)[task.test_idx].tolist()
        unseen = set(task.unseen_idx.tolist())
        hits: dict[bool, list[bool]] = {True: [], False: []}
        for node, label, guess in zip(task.test_idx.tolist(), labels, predicted, strict=True):
            hits[node in unseen].append(label == guess)
        shares = {key: sum(values) / len(values) for key, values in hits.items()}
        metrics = getattr(finished.metrics, role)
        assert metrics.test_accuracy == pytest.approx(shares[True])
        assert metrics.observed_test_accuracy == pytest.approx(shares[False])
        assert metrics.production_accuracy == pytest.approx(0.8 * shares[False] + 0.2 * shares[True])


def test_hiding_every_test_node_leaves_no_production_score() -> None:
    parts = community_arrays()
    task = dgl_rbm.make_task(
        dgl.graph(parts["edges"], num_nodes=NODES),
        features=parts["features"],
        labels=parts["labels"],
        train=range(30),
        val=range(30, 60),
        test=range(60, NODES),
        setting="inductive",
        unseen_fraction=1.0,
    )
    scores = score(task, {"model": torch.eye(3)[torch.arange(NODES) % 3]})["model"]
    assert scores["test_accuracy"] == 1.0
    assert scores["observed_test_accuracy"] is None
    assert scores["production_accuracy"] is None


@pytest.mark.parametrize("setting", ["transductive", "inductive"])
def test_runs_are_bit_reproducible(setting: str) -> None:
    first, second = (quick_distiller(encoder="deepwalk", seed=3).fit(community_task(setting)) for _ in range(2))
    assert torch.equal(first.student_logits, second.student_logits)
    assert first.history == second.history
    other = quick_distiller(encoder="deepwalk", seed=4).fit(community_task(setting))
    assert not torch.equal(first.student_logits, other.student_logits)


@pytest.mark.parametrize(
    "teacher", [name for name in teachers.names() if name not in ("average", "logits", "mlp", "none")]
)
def test_every_teacher_distils(teacher: str, task: NodeTask) -> None:
    result = quick_distiller(teacher={"kind": teacher, "hidden_dim": 8, "training": {"epochs": 25}}, student="mlp")
    assert result.fit(task).metrics.teacher.test_accuracy > 0.7


@pytest.mark.parametrize("regularizer", regularizers.names())
@pytest.mark.parametrize("student", [name for name in students.names() if name != "readout"])
def test_every_student_and_regularizer_distils(student: str, regularizer: str, task: NodeTask) -> None:
    result = quick_distiller(student=student, regularizer=regularizer, training={"epochs": 40, "lr": 0.03}).fit(task)
    assert result.metrics.student.test_accuracy > 0.7


def test_every_encoder_distils_alone_and_beside_others(task: NodeTask) -> None:
    # The choice among several cannot stand beside others, and has tests of its own.
    names = [name for name in encoders.names() if name not in ("none", "auto")]
    widths = []
    for encoder in [*names, "+".join(names)]:
        result = quick_distiller(student="mlp", encoder=encoder).fit(task)
        widths.append(result.encodings.dim)
        assert result.student.in_dim == task.features.shape[1] + result.encodings.dim
    assert widths[-1] == sum(widths[:-1])
    assert torch.isfinite(result.encodings.values).all()


def test_students_take_their_size_from_the_teacher(task: NodeTask) -> None:
    result = quick_distiller(teacher={"kind": "sage", "hidden_dim": 6, "num_layers": 3, "training": {"epochs": 2}})
    saved = result.fit(task).config.student
    assert (saved.hidden_dim, saved.num_layers) == (6, 3)  # type: ignore[attr-defined]


class TwoHops(nn.Module):
    """A module of a user's own, called as ``module(graph, x)``."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 3)

    def forward(self, graph: Any, x: Tensor) -> Tensor:
        with graph.local_scope():
            graph.ndata["h"] = self.linear(x)
            for _ in range(2):
                graph.update_all(dgl.function.copy_u("h", "m"), dgl.function.mean("m", "h"))
            return graph.ndata["h"]


class Degrees(Encoder):
    """An encoder of a user's own."""

    kind = "degrees"

    def fit(self, observed: Any, context: Any) -> EncoderOutput:
        degrees = observed.graph.in_degrees().float()[:, None]
        return EncoderOutput(degrees, degrees)


def test_instances_are_components_too(task: NodeTask, tmp_path: Path) -> None:
    student = MLP(7, 3, hidden_dim=8, num_layers=2)
    result = quick_distiller(teacher=TwoHops(), student=student, encoder=Degrees(), regularizer="krd").fit(task)
    assert result.student is student
    assert result.encodings.dim == 1
    assert result.metrics.teacher.test_accuracy > 0.7
    assert result.config.teacher.kind == "custom"
    folder = result.save(tmp_path / "run")
    with pytest.raises(ArtifactError, match=r"Run\.load\(folder, student=instance\)"):
        Run.load(folder)
    again = Run.load(folder, student=MLP(7, 3, hidden_dim=8, num_layers=2))
    torch.testing.assert_close(again.student.logits(torch.ones(2, 7)), student.logits(torch.ones(2, 7)))


def test_a_student_of_the_wrong_shape_is_refused(task: NodeTask) -> None:
    with pytest.raises(ConfigError, match="reads 4 columns and predicts 3 classes; this task has 6 columns"):
        quick_distiller(student=MLP(4, 3, hidden_dim=8, num_layers=2), encoder="none").fit(task)


def test_precomputed_logits_are_a_teacher(task: NodeTask, tmp_path: Path) -> None:
    import numpy as np

    logits = 4 * torch.eye(3)[community_arrays()["labels"]]
    np.save(tmp_path / "logits.npy", logits.numpy())
    teacher = {"kind": "logits", "path": str(tmp_path / "logits.npy")}
    result = quick_distiller(teacher=teacher, regularizer="none").fit(task)
    assert result.metrics.teacher.test_accuracy == 1.0
    with pytest.raises(ConfigError, match="perturbed features"):
        quick_distiller(teacher=teacher, regularizer="krd")
    folder = tmp_path / "run"
    quick_distiller(teacher=teacher, regularizer="none").fit(task, out=folder)
    np.save(tmp_path / "logits.npy", -logits.numpy())
    changed = quick_distiller(teacher=teacher, regularizer="none").fit(task, out=folder)
    assert changed.metrics.teacher.test_accuracy == 0.0, "a checkpoint of other logits was used"


def test_a_users_graph_keeps_its_data_and_names_its_fields(tmp_path: Path) -> None:
    parts = community_arrays()
    graph = dgl.graph(parts["edges"], num_nodes=NODES)
    graph.ndata["x"], graph.ndata["y"] = parts["features"], parts["labels"]
    before = {name: tensor.clone() for name, tensor in graph.ndata.items()}
    result = quick_distiller(student="mlp").fit(graph, features="x", labels="y", split="0.5/0.2/0.3")
    assert result.metrics.nodes == NODES
    assert set(graph.ndata) == set(before)
    assert all(torch.equal(graph.ndata[name], tensor) for name, tensor in before.items())
    assert not graph.edata
    with pytest.raises(DataError, match="feat"):
        quick_distiller().fit(graph, labels="y", split="0.5/0.2/0.3")
    dgl.save_graphs(str(tmp_path / "mine.bin"), [graph])
    saved = quick_distiller(student="mlp").fit(tmp_path / "mine.bin", features="x", labels="y", split="0.5/0.2/0.3")
    assert torch.equal(saved.student_logits, result.student_logits)


def test_saved_runs_predict_the_same(finished: Run, tmp_path: Path) -> None:
    folder = finished.save(tmp_path / "run")
    names = {path.name for path in folder.iterdir()}
    expected = {"config.yaml", "metrics.json", "manifest.json", "history.jsonl", "report.md"}
    assert names == expected | {f"{part}.safetensors" for part in ("student", "teacher", "task", "encodings")}
    run = Run.load(folder)
    task = finished.task
    observed = finished.encodings.node_ids
    raw = task.features[observed]
    torch.testing.assert_close(
        run.predictor.predict_proba(raw, node_ids=observed), torch.softmax(finished.student_logits[observed], 1)
    )
    neighbors = [task.graph.in_edges(int(node))[0].tolist() for node in task.unseen_idx]
    torch.testing.assert_close(
        run.predictor.predict_proba(task.features[task.unseen_idx], neighbors=neighbors),
        torch.softmax(finished.student_logits[task.unseen_idx], 1),
    )
    assert run.metrics == finished.metrics


def test_predictors_explain_wrong_requests(finished: Run) -> None:
    predictor = finished.predictor
    with pytest.raises(DataError, match="have 2 columns; this run was trained on 6"):
        predictor.predict(torch.ones(1, 2))
    with pytest.raises(DataError, match="pass one or the other"):
        predictor.predict(torch.ones(1, 6), node_ids=[0], encodings=torch.zeros(1, 0))
    with pytest.raises(DataError, match="1 lists for 2 rows"):
        predictor.predict(torch.ones(2, 6), neighbors=[[1]])
    assert predictor.predict(torch.ones(0, 6)).shape == (0,)


@pytest.mark.parametrize("name", ["student.safetensors", "encodings.safetensors", "metrics.json"])
def test_damaged_runs_are_refused(finished: Run, tmp_path: Path, name: str) -> None:
    folder = finished.save(tmp_path / "run")
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ArtifactError, match="truncated"):
        Run.load(folder)
    (folder / name).unlink()
    with pytest.raises(ArtifactError):
        Run.load(folder)
    with pytest.raises(ArtifactError, match="does not exist"):
        Run.load(tmp_path / "absent")


class Watcher(Callback):
    """Notes which stages are taken from a checkpoint, and the steps of the others."""

    def __init__(self) -> None:
        self.reused: list[str] = []
        self.steps: dict[str, list[int]] = {}

    def on_stage_reused(self, stage: str, seconds: float) -> None:
        self.reused.append(stage)

    def on_step(self, stage: str, done: int, metrics: Any) -> None:
        self.steps.setdefault(stage, []).append(done)


class StopIn(Callback):
    """Stops a run in a stage, as Ctrl-C does."""

    def __init__(self, stage: str, step: int) -> None:
        self.stage, self.step = stage, step

    def on_step(self, stage: str, done: int, metrics: Any) -> None:
        if (stage, done) == (self.stage, self.step):
            raise KeyboardInterrupt

    def on_stage_start(self, stage: str, total: int, unit: str) -> None:
        if (stage, 0) == (self.stage, self.step):
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("stop", "reused"),
    [
        (("teacher", 7), []),
        (("logits", 0), []),
        (("encoder", 0), ["teacher", "logits"]),
        (("regularizer", 0), ["teacher", "logits", "encoder"]),
        (("regularizer", 4), ["teacher", "logits", "encoder"]),
        (("student", 5), ["teacher", "logits", "encoder", "regularizer"]),
        (("student", 25), ["teacher", "logits", "encoder", "regularizer"]),
        (("evaluation", 0), ["teacher", "logits", "encoder", "regularizer", "student"]),
    ],
)
def test_a_stopped_run_continues_to_the_same_result(
    stop: tuple[str, int], reused: list[str], tmp_path: Path, task: NodeTask
) -> None:
    whole = quick_distiller().fit(task)
    with pytest.raises(KeyboardInterrupt):
        quick_distiller(callbacks=[StopIn(*stop)]).fit(task, out=tmp_path)
    watcher = Watcher()
    resumed = quick_distiller(callbacks=[watcher]).fit(task, out=tmp_path)
    assert watcher.reused == reused
    if stop[1] > 0:
        assert watcher.steps[stop[0]][0] == stop[1] + 1, "work that was done is done again"
    if stop[0] == "logits":
        assert "teacher" not in watcher.steps, "the trained teacher was lost"
    assert torch.equal(resumed.student_logits, whole.student_logits)
    assert torch.equal(resumed.teacher_logits, whole.teacher_logits)
    assert resumed.history == whole.history


def test_seconds_of_a_stage_count_what_came_before_a_stop(tmp_path: Path, task: NodeTask) -> None:
    class Slow(Callback):
        def on_step(self, stage: str, done: int, metrics: Any) -> None:
            if stage == "student" and done == 3:
                time.sleep(0.5)

    with pytest.raises(KeyboardInterrupt):
        quick_distiller(callbacks=[Slow(), StopIn("student", 5)]).fit(task, out=tmp_path)
    assert quick_distiller().fit(task, out=tmp_path).metrics.student.seconds > 0.5


def test_checkpoints_of_other_options_or_data_are_not_used(tmp_path: Path, task: NodeTask) -> None:
    first = quick_distiller(student="mlp").fit(task, out=tmp_path)
    reused: list[str] = []

    class Recorder(Callback):
        def on_stage_reused(self, stage: str, seconds: float) -> None:
            reused.append(stage)

    quick_distiller(student="mlp", seed=1, callbacks=[Recorder()]).fit(task, out=tmp_path)
    changed = community_task(features=community_arrays()["features"] + 1)
    quick_distiller(student="mlp", seed=1, callbacks=[Recorder()]).fit(changed, out=tmp_path)
    assert not reused
    quick_distiller(student="mlp", seed=1, callbacks=[Recorder()]).fit(changed, out=tmp_path)
    assert {"teacher", "encoder", "student"} <= set(reused)
    assert first.metrics.seed == 0


def test_saving_over_a_run_never_mixes_two(finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = finished.save(tmp_path / "run")

    def fail(*_: object) -> str:
        raise OSError("disk full")

    monkeypatch.setattr("dgl_rbm.run.run.render_report", fail)
    with pytest.raises(OSError, match="disk full"):
        finished.save(folder)
    with pytest.raises(ArtifactError, match="holds no finished run"):
        Run.load(folder)


def test_results_and_saved_runs_show_themselves_in_a_line(finished: Run, tmp_path: Path) -> None:
    assert "rbm from sage on communities, inductive" in repr(finished)
    assert len(repr(finished)) < 200
    assert len(repr(Run.load(finished.save(tmp_path / "run")))) < 400


class Returns(nn.Module):
    """A module that returns what it is told to."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output, self.weight = output, nn.Parameter(torch.zeros(()))

    def forward(self, graph: Any, x: Tensor) -> Any:
        return self.output


@pytest.mark.parametrize(
    ("output", "part"),
    [
        ((torch.zeros(NODES, 3), None), "returned tuple"),
        (torch.zeros(5, 3), r"returned shape \(5, 3\) for 90 nodes"),
        (torch.zeros(NODES, 7), "returned 7 scores for each node; the graph has 3 classes"),
    ],
    ids=["tuple", "rows", "classes"],
)
def test_modules_that_return_something_else_are_explained(output: Any, part: str, task: NodeTask) -> None:
    with pytest.raises(ConfigError, match=part):
        quick_distiller(teacher=Returns(output)).fit(task)


def test_a_frozen_module_is_used_as_it_is(task: NodeTask) -> None:
    module = TwoHops().requires_grad_(False)
    before = module.linear.weight.clone()
    result = quick_distiller(teacher=module, student="mlp").fit(task)
    assert torch.equal(module.linear.weight, before)
    torch.testing.assert_close(result.teacher_logits, module(task.graph, task.features))


def test_two_encoders_of_one_kind_draw_different_numbers(task: NodeTask) -> None:
    random = {"kind": "diffusion", "projection": "random", "dim": 4}
    values = quick_distiller(student="mlp", encoder=[random, random]).fit(task).encodings.values
    assert not torch.allclose(values[:, :4], values[:, 4:])
    assert quick_distiller(student="mlp", encoder=[]).fit(task).encodings.dim == 0


def test_options_are_checked_before_work_starts() -> None:
    with pytest.raises(ConfigError, match="MlpConfig configures a student"):
        Distiller(teacher=students.resolve("mlp"))
    with pytest.raises(ConfigError, match="already has a split"):
        quick_distiller().fit(community_task(), split="20/30")
    with pytest.raises(ConfigError, match="already has a split: split_index, allow_missing_classes"):
        quick_distiller().fit(community_task(), split_index=0, allow_missing_classes=True)
    with pytest.raises(ConfigError, match="must be names of node fields, not arrays"):
        quick_distiller().fit(community_task(), features=torch.ones(3, 3))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="Did you mean 'rbm'"):
        Distiller(student="rmb")
    with pytest.raises(ConfigError, match="setting"):
        Distiller(setting="inductve")
    with pytest.raises(ConfigError, match="no device 'tpux'"):
        quick_distiller(device="tpux").fit(community_task())
    with pytest.raises(ConfigError, match=r"no such option. Did you mean 'epochs'"):
        Distiller(training={"epoch": 3})


@pytest.mark.parametrize(("setting", "teacher", "student"), [("transductive", 0.77, 0.75), ("inductive", 0.74, 0.60)])
def test_cora_end_to_end(real_data: Path, setting: str, teacher: float, student: float) -> None:
    # The inductive setting hides all 1,000 test nodes, and with them more than half of the edges.
    result = Distiller(setting=setting, training={"epochs": 60}).fit("cora")
    assert result.metrics.nodes == 2708
    assert result.metrics.teacher.test_accuracy > teacher
    assert result.metrics.student.test_accuracy > student


@pytest.mark.parametrize("setting", ["transductive", "inductive"])
def test_inputs_of_nodes_give_the_runs_own_logits(setting: str) -> None:
    result = quick_distiller().fit(community_task(setting))
    ids = [80, 3, 3, 41]
    torch.testing.assert_close(result.student.logits(result.inputs(ids)), result.student_logits[ids])
    assert result.inputs([]).shape == (0, result.student.in_dim)
    with pytest.raises(DataError, match="no node -1, 90"):
        result.inputs([0, -1, 90])


def test_a_saved_student_of_an_unknown_kind_names_the_remedy(finished: Run, tmp_path: Path) -> None:
    from dgl_rbm.run.manifest import write_manifest
    from dgl_rbm.runtime.checkpoint import read_state, write_state

    folder = finished.save(tmp_path / "run")
    state, header = read_state(folder / "student.safetensors")
    config = json.loads(header.pop("student")) | {"kind": "residual"}
    header.pop("format")
    write_state(folder / "student.safetensors", state, student=json.dumps(config), **header)
    write_manifest(folder, {})
    with pytest.raises(ArtifactError, match=r"kind 'residual'[\s\S]*Import the module that registers it"):
        Run.load(folder)


@pytest.mark.parametrize(("setting", "teaches"), [("transductive", True), ("inductive", False)])
def test_the_setting_says_whether_validation_nodes_teach(
    setting: str, teaches: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables: list[DistillationTable] = []

    def noted(student: Student, table: DistillationTable, *arguments: Any) -> StudentFit:
        tables.append(table)
        return fit_student(student, table, *arguments)

    monkeypatch.setattr("dgl_rbm.run.parts.fit_student", noted)
    for given in (None, True, False):
        quick_distiller(student="mlp", training={"epochs": 2, "distill_on_validation": given}).fit(
            community_task(setting)
        )
    assert [table.distill_on_validation for table in tables] == [teaches, True, False]
    # Without a teacher there are no predictions of it to leave out.
    options = {"teacher": "none", "regularizer": "edge_consistency", "training": {"epochs": 2}}
    quick_distiller(student="mlp", **options).fit(community_task(setting))
    assert tables[-1].distill_on_validation
