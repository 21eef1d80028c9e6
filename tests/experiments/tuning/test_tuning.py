"""The search for options: what is tried, what it is judged by, how it continues, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dgl_rbm.cli import app
from dgl_rbm.data.hold_out import hide_validation
from dgl_rbm.data.load import load_task
from dgl_rbm.data.task import NodeTask
from dgl_rbm.errors import ConfigError, MissingDependencyError
from dgl_rbm.experiments.tuning.options import check_space, configured
from dgl_rbm.experiments.tuning.search import Search, Trial
from dgl_rbm.experiments.tuning.space import Choices, Range, as_space, default_space, read_space
from dgl_rbm.registry import students
from dgl_rbm.run.config import resolve_config
from dgl_rbm.run.distiller import Distiller

VALUES: dict[str, Any] = {
    "dataset": {"kind": "synthetic", "num_nodes": 150, "num_classes": 3},
    "teacher": {"kind": "sage", "hidden_dim": 8, "training": {"epochs": 10}},
    "student": {"kind": "mlp", "hidden_dim": 8},
    "encoder": "none",
    "regularizer": "none",
    "training": {"epochs": 6},
}
SPACE = {"student.dropout": Choices(choices=[0.0, 0.5]), "training.lr": Range(low=1e-4, high=0.1, log=True)}


def comparable(trials: list[Trial]) -> list[Any]:
    return [(trial.params, trial.accuracy, trial.loss, trial.accuracies) for trial in trials]


def test_trials_are_means_over_seeds_of_what_runs_reach_on_validation(tmp_path: Path) -> None:
    search = Search(VALUES, SPACE, [7, 8], tmp_path)
    best = search.run(4)
    assert len(search.trials) == 4
    assert search.trials[0].params == {}
    for trial in search.trials[1:]:
        assert trial.params["student.dropout"] in (0.0, 0.5)
        assert 1e-4 <= trial.params["training.lr"] <= 0.1
    params = search.trials[2].params
    changed = {
        **VALUES,
        "student": {**VALUES["student"], "dropout": params["student.dropout"]},
        "training": {"epochs": 6, "lr": params["training.lr"]},
    }
    for seed, accuracy in zip((7, 8), search.trials[2].accuracies, strict=True):
        result = Distiller.from_config(resolve_config({**changed, "seed": seed})).fit()
        assert result.metrics.student.val_accuracy == pytest.approx(accuracy)
    assert best.accuracy == max(trial.accuracy or 0 for trial in search.trials)


@pytest.mark.parametrize("setting", ["transductive", "inductive"])
def test_hidden_validation_nodes_judge_and_train_nothing(
    setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = VALUES | {"setting": setting, "encoder": "diffusion"}
    search = Search(values, SPACE, [7], tmp_path / "one", hide=0.5)
    trial = search.run(1)
    # A run on the same reduced task, whose test nodes are the hidden ones, scores the same.
    config = resolve_config(values | {"seed": 7})
    task = hide_validation(load_task(config.dataset, config.setting, 7), 0.5, 7)
    result = Distiller.from_config(config).fit(task)
    assert result.metrics.student.test_accuracy == pytest.approx(trial.accuracy)

    # The labels of the hidden nodes move the judgement and nothing else.
    def with_wrong_labels(task: NodeTask, share: float, seed: int) -> NodeTask:
        held = hide_validation(task, share, seed)
        held._labels[held.test_idx] = (held._labels[held.test_idx] + 1) % held.num_classes
        return held

    monkeypatch.setattr("dgl_rbm.experiments.tuning.search.hide_validation", with_wrong_labels)
    again = Search(values, SPACE, [7], tmp_path / "two", hide=0.5).run(1)
    assert again.accuracy is not None
    assert again.accuracy != trial.accuracy
    names = [sorted(path.name for path in (tmp_path / part / "shared").iterdir()) for part in ("one", "two")]
    # Found by what they depend on: teachers and encodings are the same.
    assert names[0] == names[1]


def test_a_share_to_hide_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 0 and less than 1"):
        Search(VALUES, SPACE, [7], tmp_path, hide=1.0)


def test_no_trial_reads_a_test_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(task: NodeTask) -> None:
        raise AssertionError("test labels were read")

    monkeypatch.setattr(NodeTask, "test_labels", refuse)
    Search(VALUES, SPACE, [7], tmp_path).run(2)


def test_a_stopped_search_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    whole = Search(VALUES, SPACE, [7], tmp_path / "whole")
    whole.run(5)

    def stop(number: int, trial: Trial) -> None:
        if number == 2:
            raise KeyboardInterrupt

    stopped = Search(VALUES, SPACE, [7], tmp_path / "stopped")
    with pytest.raises(KeyboardInterrupt):
        stopped.run(5, stop)
    resumed = Search(VALUES, SPACE, [7], tmp_path / "stopped")
    assert comparable(resumed.trials) == comparable(whole.trials[:3])
    resumed.run(5)
    assert comparable(resumed.trials) == comparable(whole.trials)
    assert (tmp_path / "whole/best.yaml").read_text() == (tmp_path / "stopped/best.yaml").read_text()


def test_a_trial_that_diverges_is_noted_and_the_search_goes_on(tmp_path: Path) -> None:
    search = Search(VALUES, {"training.lr": Choices(choices=[1e30])}, [7], tmp_path)
    best = search.run(3)
    assert best is search.trials[0]
    assert all(trial.accuracy is None and "loss" in (trial.error or "") for trial in search.trials[1:])
    again = Search(VALUES, {"training.lr": Choices(choices=[1e30])}, [7], tmp_path)
    again.run(4)
    assert len(again.trials) == 4


def test_options_that_cannot_be_had_together_are_noted_and_the_search_goes_on(tmp_path: Path) -> None:
    values = {**VALUES, "student": {"kind": "rbm", "hidden_dim": 8, "num_experts": 5, "top_k": 2}}
    space = {"student.num_experts": Choices(choices=[3]), "student.top_k": Choices(choices=[4])}
    search = Search(values, space, [7], tmp_path)
    best = search.run(3)
    assert best is search.trials[0]
    assert all(trial.accuracy is None and "top_k (4)" in (trial.error or "") for trial in search.trials[1:])


def test_options_of_the_dataset_reach_the_graph(tmp_path: Path) -> None:
    values = {**VALUES, "dataset": {**VALUES["dataset"], "normalize": "none"}}
    search = Search(values, {"dataset.normalize": Choices(choices=["standard", "row"])}, [7], tmp_path)
    search.run(5)
    assert len({trial.params["dataset.normalize"] for trial in search.trials[1:]}) == 2
    for trial in search.trials[1:]:
        graph = {**VALUES["dataset"], "normalize": trial.params["dataset.normalize"]}
        result = Distiller.from_config(resolve_config({**values, "dataset": graph, "seed": 7})).fit()
        assert result.metrics.student.val_accuracy == pytest.approx(trial.accuracy)


@pytest.mark.parametrize(
    "name", ["seed", "setting", "dataset", "dataset.kind", "dataset.split", "dataset.num_nodes", "teacher.path"]
)
def test_what_would_make_trials_incomparable_is_no_matter_of_tuning(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"The search space has '{name}'"):
        Search(VALUES, {name: Choices(choices=[1, 2])}, [7], tmp_path)


def test_a_search_killed_between_its_files_writes_the_best_configuration(tmp_path: Path) -> None:
    Search(VALUES, SPACE, [7], tmp_path).run(2)
    whole = (tmp_path / "best.yaml").read_text()
    (tmp_path / "best.yaml").unlink()
    Search(VALUES, SPACE, [7], tmp_path).run(2)
    assert (tmp_path / "best.yaml").read_text() == whole


def test_a_student_without_training_has_no_default_space() -> None:
    with pytest.raises(ConfigError, match=r"'readout', which has nothing to train(.|\n)*of your own"):
        default_space(students.resolve("readout"))


@pytest.mark.parametrize("kind", [name for name in students.names() if name != "readout"])
def test_every_default_space_names_options_of_its_student(kind: str, tmp_path: Path) -> None:
    values = {**VALUES, "student": kind}
    space = default_space(students.resolve(kind))
    search = Search(values, space, [7], tmp_path)
    assert set(search._next()) == set(space)


def test_a_component_and_its_parts_are_not_both_searched(tmp_path: Path) -> None:
    """Whichever came last would undo the other."""
    parts = {"student.dropout": Choices(choices=[0.1]), "student": Choices(choices=["mlp"])}
    for space in (parts, dict(reversed(parts.items()))):
        with pytest.raises(ConfigError, match=r"has 'student' and 'student\.dropout', which is a part of it"):
            Search(VALUES, space, [7], tmp_path)


def test_kinds_of_components_are_searched_with_their_options(tmp_path: Path) -> None:
    values = {**VALUES, "encoder": {"kind": "diffusion", "dim": 4, "steps": 3}}
    space = {
        # Options first: the order says nothing.
        "encoder.0.dim": Choices(choices=[2, 3]),
        "encoder.0.kind": Choices(choices=["diffusion", "spectral"]),
    }
    search = Search(values, space, [7], tmp_path)
    search.run(6)
    assert {trial.params["encoder.0.kind"] for trial in search.trials[1:]} == {"diffusion", "spectral"}
    assert all(trial.error is None for trial in search.trials)
    spectral = configured(search.config, {"encoder.0.dim": 2, "encoder.0.kind": "spectral"})
    assert spectral == resolve_config({**values, "encoder": {"kind": "spectral", "dim": 2}})
    # What is as it was keeps its other options.
    kept = configured(search.config, {"encoder.0.dim": 2, "encoder.0.kind": "diffusion"}, seed=3)
    assert kept == resolve_config({**values, "encoder": {"kind": "diffusion", "dim": 2, "steps": 3}, "seed": 3})


def test_an_option_that_one_of_the_kinds_has_may_be_searched(tmp_path: Path) -> None:
    space = {
        "encoder.0.walk_length": Choices(choices=[4]),
        "encoder.0.kind": Choices(choices=["none", "deepwalk"]),
    }
    Search(VALUES, space, [7], tmp_path)
    with pytest.raises(ConfigError, match=r"(?s)The search space, encoder\.0\.walk_lenght = 4: .*no such option"):
        Search(VALUES, {**space, "encoder.0.walk_lenght": Choices(choices=[4])}, [7], tmp_path)


def test_options_within_a_searched_kind_and_what_is_wrong_with_them(tmp_path: Path) -> None:
    kinds = {"teacher.kind": Choices(choices=["sage", "none"])}
    Search(VALUES | {"teacher": "none"}, {"teacher.training.lr": Choices(choices=[0.1]), **kinds}, [7], tmp_path)
    # Not that the perceptron lacks the option.
    experts = {"student.kind": Choices(choices=["mlp", "rbm"]), "student.num_experts": Range(low=0, high=8)}
    with pytest.raises(ConfigError, match=r"student\.num_experts = 0: (?!.*no such option)"):
        Search(VALUES, experts, [7], tmp_path)


@pytest.mark.parametrize(("section", "kinds"), [("regularizer", "krd+similarity"), ("encoder", "spectral+diffusion")])
def test_the_kind_of_several_components_is_ambiguous(section: str, kinds: str) -> None:
    base = resolve_config({section: kinds.split("+")})
    first, second = kinds.split("+")
    with pytest.raises(ConfigError, match=rf"'{section}.kind', and the configuration has 2 of them") as caught:
        check_space(as_space({f"{section}.kind": [first, "none"]}), base)
    assert f"'{section}.0.kind'" in str(caught.value.hint)
    assert kinds in str(caught.value.hint)
    # What the hint suggests can be searched.
    for space in ({f"{section}.0.kind": [first]}, {section: [first, kinds]}):
        check_space(as_space(space), base)
    assert [each.kind for each in getattr(configured(base, {section: second}), section)] == [second]


def test_a_former_name_is_answered_with_the_name_of_today() -> None:
    with pytest.raises(ConfigError, match="'temperature' is the former name of 'learn_gate_scale'"):
        check_space(as_space({"student.temperature": ["fixed", "learned"]}), resolve_config({"student": "rbm"}))


def test_two_processes_do_not_search_in_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (Search(VALUES, SPACE, [7], tmp_path) for _ in range(2))
    tried = []
    of_second = second._try
    monkeypatch.setattr(second, "_try", lambda params: tried.append(params) or of_second(params))

    def look(number: int, trial: Trial) -> None:
        with pytest.raises(ConfigError, match="Another process searches in"):
            second.run(5)

    first.run(2, look)
    # What it had read before is no longer all.
    second.run(3)
    assert len(tried) == 1
    assert comparable(second.trials[:2]) == comparable(first.trials)
    assert len(Search(VALUES, SPACE, [7], tmp_path).trials) == 3


def test_a_space_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("student.num_experts: {low: 3, high: 8}\ntraining.lr: {low: 1.0e-4, high: 0.1, log: true}\n")
    space = read_space(path)
    assert space["student.num_experts"].whole  # type: ignore[union-attr]
    assert not space["training.lr"].whole  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("training.lr: 0.1", "expected a list of values"),
        ("training.lr: {low: 2, high: 1}", "low is 2, above high"),
        ("training.lr: {low: 0, high: 1, log: true}", "must be above 0"),
        ("training.lr: []", "at least 1"),
        ("training.lr: {lo: 1, high: 2}", "Did you mean 'low'"),
        ("", "names no option"),
        ("training.lr: [0.1", "search space .* is not valid YAML"),
    ],
)
def test_wrong_spaces_are_refused(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        read_space(path)


def test_a_space_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"There is no search space '.*none\.yaml'") as error:
        read_space(tmp_path / "none.yaml")
    assert "training.lr: [" in (error.value.hint or "")


def test_options_that_do_not_exist_or_do_not_fit_are_found_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="num_expert"):
        Search(VALUES, {"student.num_expert": Choices(choices=[3])}, [7], tmp_path)
    with pytest.raises(ConfigError, match="dropout"):
        Search(VALUES, {"student.dropout": Range(low=0.0, high=1.5)}, [7], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_of_another_search_is_refused(tmp_path: Path) -> None:
    Search(VALUES, SPACE, [7], tmp_path).run(1)
    with pytest.raises(ConfigError, match="search of other options"):
        Search(VALUES, SPACE, [8], tmp_path)
    text = (tmp_path / "trials.json").read_text()
    for damaged in ("[]", "{}", "[" * 100_000, text[:-5], text.replace('"accuracy": 0.', '"accuracy": 0.0')):
        assert damaged != text
        (tmp_path / "trials.json").write_text(damaged)
        with pytest.raises(ConfigError, match="no file of trials"):
            Search(VALUES, SPACE, [7], tmp_path)


def test_a_search_without_any_finished_trial_has_failed(tmp_path: Path) -> None:
    arguments = ["tune", "--dataset", "synthetic", "--student", "mlp", "--encoder", "none", "--regularizer", "none"]
    arguments += ["--set", "dataset.num_nodes=150", "--set", "training.epochs=3", "--set", "teacher.training.epochs=3"]
    arguments += ["--set", "training.lr=1e30", "--seeds", "7", "--trials", "1", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1, result.output
    assert "No trial" in result.stderr
    assert "Next" not in result.output


def test_without_optuna_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingDependencyError, match="Optuna") as error:
        Search(VALUES, SPACE, [7], tmp_path)
    assert "dgl-rbm[tune]" in (error.value.hint or "")


def test_the_command_line(tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text("student.dropout: [0.0, 0.4]\n")
    arguments = ["tune", "--dataset", "synthetic", "--student", "mlp", "--encoder", "none", "--regularizer", "none"]
    arguments += ["--set", "dataset.num_nodes=150", "--set", "training.epochs=3", "--set", "teacher.training.epochs=3"]
    arguments += ["--seeds", "7", "--space", str(space), "--out", str(tmp_path / "out")]
    first = CliRunner().invoke(app, [*arguments, "--trials", "2"])
    assert first.exit_code == 0, first.output
    assert "as it stands" in first.output
    more = CliRunner().invoke(app, [*arguments, "--trials", "3", "--json"])
    assert more.exit_code == 0, more.output
    assert json.loads(more.stdout)["trials"] == 3
    checked = CliRunner().invoke(app, ["validate", str(tmp_path / "out/best.yaml")])
    assert checked.exit_code == 0, checked.output
    taken = CliRunner().invoke(app, [*arguments[:-1], str(space)])
    assert taken.exit_code == 2
    assert f"--out {space} is a file; expected a folder" in taken.output.replace("\n", "")
