"""Method files, published settings, and the precedence of options."""

from __future__ import annotations

import csv
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import dgl_rbm.methods
from dgl_rbm import Distiller, make_task
from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.errors import ConfigError, UnknownNameError
from dgl_rbm.experiments.published import published_result
from dgl_rbm.methods import load_method, method_names
from dgl_rbm.methods.apply import dataset_name, method_values, with_lookups
from dgl_rbm.methods.catalogue import merged
from dgl_rbm.methods.published import find_settings, published_settings
from dgl_rbm.registry import teachers
from dgl_rbm.run.config import resolve_config
from dgl_rbm.specs import resolve_dataset
from dgl_rbm.teachers.options import TeacherTraining
from dgl_rbm.training.student import StudentTraining

FOLDER = Path(dgl_rbm.methods.__file__).parent
NAMED = sorted({settings.dataset for settings in published_settings()})
EXPECTED = {"glnn", "krd", "nosmog", "cohop", "moe", "ensemble3", "ensemble8", "rbm", "rbm-lp"}
EXPECTED |= {f"{name}+" for name in ("glnn", "krd", "nosmog", "cohop")}
OWN = {
    "mlp",
    "sign",
    "lp",
    "correct-and-smooth",
    "rbm-multi",
    "mlp-multi",
    "auto-multi",
    "rbm-features",
    "mlp-features",
}
PUBLISHED = [name for name in method_names() if name not in OWN]


def test_all_methods_are_listed_in_order() -> None:
    assert set(method_names()) == EXPECTED | OWN
    assert method_names() == sorted(method_names())


@pytest.mark.parametrize("name", method_names())
@pytest.mark.parametrize("recipe", ["published", "default"])
def test_every_file_is_valid_and_resolves(name: str, recipe: Any) -> None:
    method = load_method(name)
    assert method.name == name
    assert method.departures
    assert len(set(method.departures)) == len(method.departures)
    for dataset in [None, "digits", "cora", "cpf-cora", *NAMED]:
        for setting in ("transductive", "inductive"):
            values = method.values(dataset, setting, recipe)
            assert {"teacher", "student", "encoder", "regularizer"} <= set(values)
            resolve_config({**values, "setting": setting})


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_results_of_a_method_exist(name: str) -> None:
    text = files("dgl_rbm.experiments").joinpath("published_results.csv").read_text(encoding="utf-8")
    rows = {(row["paper_table"], row["method"]) for row in csv.DictReader(text.splitlines())}
    published = load_method(name).published
    assert published is not None
    assert (published.table, published.method) in rows


def test_methods_of_this_package_have_no_published_results() -> None:
    for name in OWN:
        method = load_method(name)
        assert method.published is None
        assert (method.values("cpf-cora") == method.values(recipe="default")) is (method.student_family is None)
        assert published_result(name, "cpf-cora", "transductive", "sage") is None


def test_every_call_returns_independent_values() -> None:
    first = load_method("rbm").values("cpf-cora")
    first["student"]["num_experts"] = 99
    first["encoder"].clear()
    second = load_method("rbm").values("cpf-cora")
    assert second["student"]["num_experts"] != 99
    assert second["encoder"]


def test_errors_suggest_the_closest_name() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'nosmog'"):
        load_method("nosmok")
    with pytest.raises(UnknownNameError, match=r"no recipe 'publish'\. Did you mean 'published'"):
        method_values("glnn", {}, "publish")


@pytest.mark.parametrize(
    "broken", [{"components": {"techer": "sage"}}, {"departures": []}, {"student_family": "cnn"}, {"x": 1}]
)
def test_a_wrong_file_is_an_error(broken: dict[str, Any]) -> None:
    from dgl_rbm.config import validated
    from dgl_rbm.methods.catalogue import Method

    content = yaml.safe_load((FOLDER / "glnn.yaml").read_text(encoding="utf-8"))
    validated(Method, content, where="glnn")
    with pytest.raises(ConfigError):
        validated(Method, content | broken, where="glnn")


# ------------------------------------------------------------------------------------------------ published settings


def test_published_settings_contain_every_cell_of_the_table() -> None:
    rows = list(csv.DictReader((FOLDER / "published_hyperparameters.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == len(published_settings()) == 81
    for row, settings in zip(rows, published_settings(), strict=True):
        for name, cell in row.items():
            value = getattr(settings, name)
            if cell == "":
                assert value is None
            elif isinstance(value, bool):
                assert str(value) == cell
            elif isinstance(value, (int, float)):
                assert value == float(cell)
            else:
                assert value == cell


def test_all_options_of_a_row_reach_the_configuration() -> None:
    row = find_settings("cora", "inductive", "sage", "rbm")
    assert row is not None
    config = resolve_config(load_method("rbm").values("cpf-cora", "inductive") | {"setting": "inductive"})
    student: Any = config.student
    assert (student.hidden_dim, student.num_layers, student.dropout) == (256, 3, 0.4)
    assert (student.num_experts, student.top_k, student.pretrain_epochs) == (4, 3, 12)
    weights = (student.commitment_weight, student.self_similarity_weight, student.load_balance_weight)
    assert weights == (0.1, 0.01, 0.05)
    assert student.input_attention is row.input_attention is True
    assert (config.training.lr, config.training.weight_decay, config.training.epochs) == (0.01, 1e-4, 500)
    assert (config.training.averaging, student.memory_momentum) == (0.0, 0.9)
    assert (config.objective.hard_label_weight, config.objective.temperature) == (0.2, 0.6)
    encoder: Any = config.encoder[0]
    assert (encoder.dim, encoder.walk_length, encoder.walks_per_node, encoder.consistent) == (64, 50, 5, False)
    regularizer: Any = config.regularizer[0]
    assert (regularizer.warmup_epochs, regularizer.momentum, regularizer.bins) == (50, 0.99, 50)


def test_the_losses_of_nosmog_take_their_options_from_the_row() -> None:
    similarity, adversarial = load_method("nosmog").values("pubmed", "transductive")["regularizer"]
    assert similarity == {"kind": "similarity", "weight": 0.9, "rows": 512, "normalize": True}
    assert adversarial == {"kind": "adversarial", "eps": 0.005, "weight": 0.05, "steps": 5, "rows": 256}
    default = load_method("nosmog").values("pubmed", "transductive", "default")
    assert default["regularizer"] == [{"kind": "similarity"}, {"kind": "adversarial"}]


@pytest.mark.parametrize("dataset", NAMED)
@pytest.mark.parametrize("setting", ["transductive", "inductive"])
def test_all_methods_share_the_teacher_of_a_dataset(dataset: str, setting: str) -> None:
    made = [load_method(name).values(dataset, setting)["teacher"] for name in PUBLISHED]
    assert all(teacher == made[0] for teacher in made if teacher["kind"] != "none" and made[0]["kind"] != "none")
    assert {teacher["kind"] for teacher in made} == {"sage", "none"}


@pytest.mark.parametrize("setting", ["transductive", "inductive"])
def test_planetoid_and_cpf_graphs_share_published_settings(setting: str) -> None:
    for name in ("cora", "citeseer", "pubmed"):
        planetoid, cpf = (load_method("krd").values(graph, setting) for graph in (name, f"cpf-{name}"))
        assert planetoid.pop("dataset") == {"kind": name, "normalize": "row", "rescale": False}
        assert cpf.pop("dataset") == {"kind": f"cpf-{name}", "normalize": "row", "rescale": False}
        assert planetoid == cpf
    assert load_method("krd").values("digits", setting) == load_method("krd").values(None, setting, "default")


@pytest.mark.parametrize("name", ["glnn", "krd", "nosmog", "cohop"])
@pytest.mark.parametrize("recipe", ["published", "default"])
def test_plus_methods_differ_in_the_width_factor_only(name: str, recipe: Any) -> None:
    plain = load_method(name).values("cpf-cora", "transductive", recipe)
    plus = load_method(f"{name}+").values("cpf-cora", "transductive", recipe)
    assert plus["student"].pop("width_factor") == 8
    assert plain == plus


@pytest.mark.parametrize("options", [{}, {"teacher": {"hidden_dim": 16}}, {"student": {"hidden_dim": 24}}])
def test_plus_methods_multiply_the_width_by_eight(options: dict[str, Any]) -> None:
    """The base is the student's own width if it is given, else the teacher's, which defaults to 128."""
    quick = {"training": {"epochs": 1}}
    width = options.get("student", {}).get("hidden_dim") or options.get("teacher", {}).get("hidden_dim", 128)
    for name, factor in (("glnn", 1), ("glnn+", 8)):
        given = {"student": {}, "teacher": {}, **options}
        given["teacher"] = {**given["teacher"], **quick}
        result = Distiller.from_method(name, **given, **quick).fit("digits")
        student: Any = result.predictor.student
        assert student.layers[0].out_features == factor * width
        assert result.config.student.hidden_dim == factor * width  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------------ overrides


def test_given_options_override_the_method_and_keep_its_others() -> None:
    values = method_values("rbm", {"dataset": "cpf-cora", "student": {"num_experts": 6}, "training": {"lr": 0.5}})
    assert values["student"]["num_experts"] == 6
    assert values["student"]["pretrain_epochs"] == 12
    assert values["training"] == method_values("rbm", {"dataset": "cpf-cora"})["training"] | {"lr": 0.5}
    assert method_values("rbm", {"student": "rbm"})["student"] == method_values("rbm", {})["student"]
    assert method_values("rbm", {"student": "mlp"})["student"] == "mlp"
    assert method_values("rbm", {"student": {"kind": "mlp", "dropout": 0.1}})["student"] == {
        "kind": "mlp",
        "dropout": 0.1,
    }


def test_encoders_keep_the_options_of_the_methods_encoder_of_the_same_kind() -> None:
    given = method_values("nosmog", {"dataset": "citeseer", "encoder": "diffusion+deepwalk"})["encoder"]
    assert given[0] == "diffusion"
    assert given[1]["dim"] == 16


def test_another_teacher_selects_its_own_published_settings() -> None:
    gcn = method_values("krd", {"dataset": "cpf-cora", "teacher": "gcn"})
    assert gcn["teacher"]["hidden_dim"] == 1024
    assert gcn["objective"]["temperature"] == 0.8
    # With a teacher that the paper does not use, students keep the settings for the default teacher.
    other = method_values("krd", {"dataset": "cpf-cora", "teacher": "sage+appnp"})
    assert other["teacher"] == "sage+appnp"
    assert other["student"]["hidden_dim"] == 512
    resolve_config(other)
    # A teacher can be given as a config.
    config = method_values("krd", {"dataset": "cpf-cora", "teacher": teachers.resolve("gcn")})
    assert config["objective"] == gcn["objective"]
    assert config["teacher"].kind == "gcn"


@pytest.mark.parametrize("recipe", ["published", "default"])
def test_methods_without_a_teacher_ignore_the_teacher_of_a_comparison(recipe: Any) -> None:
    def values(name: str, teacher: str) -> dict[str, Any]:
        return load_method(name).values("cpf-cora", "transductive", recipe, teacher=teacher)

    assert values("cohop", "gcn") == load_method("cohop").values("cpf-cora", "transductive", recipe)
    assert values("krd", "gcn")["teacher"]["kind"] == "gcn"
    several = values("krd", "sage+gcn")["teacher"]
    assert several == {"kind": "average", "members": ["sage", "gcn"]}
    assert values("krd", "sage") == load_method("krd").values("cpf-cora", "transductive", recipe)


def test_assignments_select_published_settings() -> None:
    """Assignments that select settings are applied before the lookup, all others after it."""
    assignments = ["student.dropout=0.9", "dataset=cpf-cora", "setting=inductive", "teacher.kind=gcn", "seed=3"]
    given, left = with_lookups({"student": "mlp"}, assignments)
    assert given == {
        "student": "mlp",
        "dataset": "cpf-cora",
        "setting": "inductive",
        "teacher": {"kind": "gcn"},
    }
    assert left == ["student.dropout=0.9", "seed=3"]
    named, _ = with_lookups({"dataset": {"kind": "digits", "split": "5/5"}}, ["dataset.kind=cpf-cora"])
    assert named == {"dataset": {"kind": "cpf-cora", "split": "5/5"}}
    assert with_lookups({"seed": 1}, ["training.lr=1"]) == ({"seed": 1}, ["training.lr=1"])


def test_dataset_names() -> None:
    assert dataset_name(None) is None
    assert dataset_name("cpf-cora") == "cpf-cora"
    assert dataset_name({"kind": "cora"}) == "cora"
    assert dataset_name(resolve_dataset("ogbn-arxiv")) == "ogbn-arxiv"
    assert dataset_name(resolve_dataset("cpf-cora")) == "cpf-cora"
    assert dataset_name(resolve_dataset("folder/mine.bin")) == "mine"
    assert dataset_name({"kind": "ogb", "name": "ogbn-arxiv"}) == "ogbn-arxiv"
    assert dataset_name({"split": "20/30"}) is None


def test_merging_modifies_neither_argument() -> None:
    base, over = {"a": {"b": 1, "c": 2}, "d": {"kind": "x", "e": 1}}, {"a": {"b": 3}, "d": {"kind": "y"}}
    assert merged(base, over) == {"a": {"b": 3, "c": 2}, "d": {"kind": "y"}}
    assert base == {"a": {"b": 1, "c": 2}, "d": {"kind": "x", "e": 1}}
    assert over == {"a": {"b": 3}, "d": {"kind": "y"}}


# ------------------------------------------------------------------------------------------------ in Python


def test_a_distiller_from_a_method() -> None:
    config: Any = Distiller.from_method("nosmog", dataset="cpf-cora", setting="inductive", seed=3).config
    assert (config.dataset.kind, config.setting, config.seed) == ("cpf-cora", "inductive", 3)
    assert config.student.hidden_dim == 256
    assert config.regularizer[0].weight == 0.1
    plain: Any = Distiller.from_method("nosmog", dataset="cpf-cora", recipe="default").config
    assert plain.student.hidden_dim is None
    with pytest.raises(UnknownNameError):
        Distiller.from_method("nosmock")


def test_fit_applies_the_published_settings_of_its_graph() -> None:
    labels = torch.arange(40) % 2
    around = torch.arange(40)
    task = make_task(
        dgl.graph((torch.cat([around, around.roll(2)]), torch.cat([around.roll(2), around]))),
        features=torch.eye(2)[labels] + 0.1 * torch.rand(40, 2),
        labels=labels,
        name="cpf-citeseer",
        train=around[:10],
        val=around[10:20],
        test=around[20:],
    )
    few: dict[str, Any] = {"training": {"epochs": 1}}
    distiller = Distiller.from_method(
        "krd", **few, teacher=few, regularizer={"noise_samples": 1}, student={"dropout": 0.1}
    )
    assert distiller.config.student.hidden_dim is None  # type: ignore[attr-defined]
    config: Any = distiller.fit(task, latency_of=()).config
    row = find_settings("citeseer", "transductive", "sage", "mlp")
    assert row is not None
    assert config.student.hidden_dim == row.student_hidden == 512
    assert (config.student.dropout, config.training.epochs) == (0.1, 1)
    assert config.training.weight_decay == row.student_weight_decay


@pytest.mark.parametrize("name", ["rbm", "krd", "nosmog", "moe", "ensemble3", "ensemble8", "glnn"])
@pytest.mark.parametrize("dataset", ["cora", "amazon-photo", "academic-cs"])
def test_no_default_of_training_changes_the_published_recipe(name: str, dataset: str) -> None:
    # These have no effect on results, or none on the full graph and in one batch.
    aside = {"eval_every", "sampler", "fanouts", "batch_size", "num_workers", "sampling_device", "precision"}
    aside |= {"record_routing", "class_weight", "distill_on_validation", "schedule"}
    values = load_method(name).values(dataset)
    assert StudentTraining.model_fields.keys() - values["training"].keys() <= aside
    assert TeacherTraining.model_fields.keys() - values["teacher"]["training"].keys() <= aside
    assert values["training"]["optimizer"] == values["teacher"]["training"]["optimizer"] == "adam"


def test_published_options_of_a_graph_yield_to_the_users() -> None:
    def rescales(dataset: Any, **options: Any) -> bool:
        values = method_values("rbm", {"dataset": dataset, **options})
        return bool(resolve_config(values).dataset.rescale)  # type: ignore[union-attr]

    assert rescales("digits")
    assert not rescales("cpf-cora")
    assert not rescales(resolve_dataset("cpf-cora"))
    assert rescales({"kind": "cpf-cora", "rescale": True})
    assert rescales(resolve_dataset({"kind": "cpf-cora", "rescale": True}))
    values = method_values("rbm", {"dataset": "cpf-cora"}, "default")
    assert resolve_config(values).dataset.rescale  # type: ignore[union-attr]
    by_name = Distiller.from_method("rbm", dataset="cpf-cora").config.dataset
    assert not by_name.rescale  # type: ignore[union-attr]
