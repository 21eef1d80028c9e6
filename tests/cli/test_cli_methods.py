"""Published methods on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from dgl_rbm.cli import app
from dgl_rbm.commands.base import gather
from dgl_rbm.console.describe import options_of
from dgl_rbm.methods import load_method, method_names
from dgl_rbm.registry import REGISTRIES

QUICK = [
    "distill",
    "--dataset=synthetic",
    "--set=dataset.num_nodes=200",
    "--set=training.epochs=4",
    "--device=cpu",
]


def invoke(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result.output


def configuration(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    invoke("init", str(tmp_path / "config.yaml"), "--force", *arguments)
    values: dict[str, Any] = yaml.safe_load((tmp_path / "config.yaml").read_text(encoding="utf-8"))
    return values


def test_every_method_is_listed_and_described() -> None:
    listing = invoke("components", "method")
    for name in method_names():
        assert name in listing
        text = " ".join(invoke("components", "method", name).split())
        method = load_method(name)
        for part in (method.summary, method.paper, method.source, *method.departures):
            assert " ".join(part.split()) in text
    found = json.loads(invoke("components", "method", "--json"))
    assert [entry["name"] for entry in found] == method_names()
    assert "Did you mean 'nosmog'" in invoke("components", "method", "nosmoq", code=2)


def test_a_method_without_a_teacher_from_training_to_scores(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    output = invoke(*QUICK, "--method=cohop", "--setting=inductive", f"--out={folder}")
    assert "student (mlp)" in output
    assert "teacher (" not in output
    assert "agree" not in output
    scores = invoke("evaluate", str(folder))
    assert "test accuracy" in scores
    assert "teacher" not in scores
    again = json.loads(invoke("evaluate", str(folder), "--json"))
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert again["student"] == {name: metrics["student"][name] for name in again["student"]}
    assert "teacher" not in again
    assert "agreement" not in again


def test_published_settings_are_for_the_dataset_and_setting(tmp_path: Path) -> None:
    published = configuration(tmp_path, "--method=rbm", "--dataset=cpf-cora", "--setting=inductive")
    assert published["student"]["hidden_dim"] == 256
    assert published["student"]["num_experts"] == 4
    default = configuration(tmp_path, "--method=rbm", "--dataset=cpf-cora", "--recipe=default")
    assert default["student"]["hidden_dim"] is None
    assert "no recipe 'publish'" in invoke("init", "--method=rbm", "--recipe=publish", str(tmp_path / "x"), code=2)


@pytest.mark.parametrize(
    ("assignments", "options"),
    [
        (["dataset=cpf-cora", "setting=inductive"], {"dataset": "cpf-cora", "setting": "inductive"}),
        (["dataset.kind=cpf-cora"], {"dataset": "cpf-cora"}),
        (["dataset=cpf-cora", "dataset.rescale=false"], {"dataset": {"kind": "cpf-cora", "rescale": False}}),
        (["teacher=gcn", "dataset=cpf-cora"], {"dataset": "cpf-cora", "teacher": "gcn"}),
        (["teacher.kind=gcn", "teacher.dropout=0.1"], {"teacher": {"kind": "gcn", "dropout": 0.1}}),
    ],
)
def test_assignments_find_published_settings_as_options_do(assignments: list[str], options: dict[str, Any]) -> None:
    config = gather(None, assignments, method="rbm", recipe="published")
    assert config == gather(None, None, method="rbm", recipe="published", **options)


def test_options_and_files_change_the_method(tmp_path: Path) -> None:
    changed = configuration(tmp_path, "--method=nosmog", "--dataset=cpf-cora", "--student=moe", "--encoder=none")
    assert changed["student"]["kind"] == "moe"
    assert changed["encoder"] == [{"kind": "none"} | changed["encoder"][0]]
    assert [part["kind"] for part in changed["regularizer"]] == ["similarity", "adversarial"]
    assert changed["regularizer"][0]["weight"] == 0.1
    file = tmp_path / "mine.yaml"
    file.write_text("student: {hidden_dim: 5}\ntraining: {lr: 0.5}\n", encoding="utf-8")
    folder = tmp_path / "run"
    teacher = ["--set=teacher.hidden_dim=8", "--set=teacher.training.epochs=4", "--set=regularizer.noise_samples=1"]
    invoke(*QUICK, *teacher, "--method=krd", f"--config={file}", "--set=student.dropout=0.2", f"--out={folder}")
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    assert config["student"] | {"kind": "mlp", "hidden_dim": 5, "dropout": 0.2} == config["student"]
    assert config["training"]["lr"] == 0.5
    assert config["regularizer"][0] | {"kind": "krd", "noise_samples": 1} == config["regularizer"][0]


@pytest.mark.parametrize("method", [None, "glnn"])
def test_a_split_is_of_the_graph_that_an_assignment_names(method: str | None) -> None:
    config: Any = gather(None, ["dataset=synthetic"], split="5/5", method=method, recipe="published").dataset
    assert (config.kind, config.split) == ("synthetic", "5/5")
    config = gather(None, ["dataset.split=6/6"], split="5/5", method=method, recipe="published").dataset
    assert config.split == "6/6"


@pytest.mark.parametrize("name", ["gln", "nosmogg"])
def test_a_wrong_method_exits_with_2_and_the_nearest_name(name: str) -> None:
    output = invoke("distill", f"--method={name}", code=2)
    assert f"There is no method '{name}'. Did you mean '{name[:2]}" in output


@pytest.mark.parametrize("command", ["distill", "init", "tune"])
def test_a_wrong_recipe_is_refused_without_a_method_too(command: str, tmp_path: Path) -> None:
    output = invoke(command, "--recipe=publishd", code=2)
    assert "There is no recipe 'publishd'. Did you mean 'published'" in output


def test_a_misspelt_kind_of_component() -> None:
    assert "Did you mean 'method'" in invoke("components", "metod", code=2)


def test_types_of_options_are_written_as_people_write_them() -> None:
    """No component shows how a type is told to Python."""
    configs = [registry.config_class(name) for registry in REGISTRIES.values() for name in registry.names()]
    shown = [option["type"] for config in configs for option in options_of(config)]
    assert "int | auto | list of int" in shown
    assert not [text for text in shown if "annotation=" in text or "metadata=" in text]
