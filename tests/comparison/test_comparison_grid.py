"""From names to cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dgl_rbm.comparison.grid import Cell, Variant, expand, parse_seeds
from dgl_rbm.errors import ConfigError

from .conftest import TEACHER, VARIANTS, tiny_grid, variant


def test_every_combination_once_graph_by_graph() -> None:
    cells = tiny_grid()
    assert len(cells) == len({cell.key for cell in cells}) == 8
    assert [(cell.variant, cell.setting, cell.seed) for cell in cells[:4]] == [
        ("plain", "transductive", 0),
        ("mixture", "transductive", 0),
        ("plain", "transductive", 1),
        ("mixture", "transductive", 1),
    ]
    first = cells[0].config
    assert (first.dataset.kind, first.setting, first.seed) == ("synthetic", "transductive", 0)
    assert first.dataset.num_nodes == 150  # type: ignore[attr-defined]


def test_cells_of_one_teacher_and_graph_are_a_group() -> None:
    cells = tiny_grid()
    groups: dict[str, set[Any]] = {}
    for cell in cells:
        groups.setdefault(cell.group, set()).add((cell.setting, cell.seed))
    assert len(groups) == 4
    assert all(len(places) == 1 for places in groups.values())
    other = expand([variant("wide", teacher=TEACHER | {"hidden_dim": 9})], ["synthetic"], ["transductive"], [0])
    assert other[0].group not in groups


def test_options_are_part_of_the_key() -> None:
    keys = {
        expand([variant("plain")], ["synthetic"], ["transductive"], [0], **changes)[0].key  # type: ignore[arg-type]
        for changes in ({}, {"split": "10/10"}, {"overrides": ["training.epochs=7"]})
    }
    assert len(keys) == 3
    assert all(key.startswith("plain-synthetic-transductive-0-") for key in keys)


def test_files_are_part_of_the_key_by_their_content(tmp_path: Path) -> None:
    graph, features = tmp_path / "graph.bin", tmp_path / "features.npy"
    folder, logits = tmp_path / "graph", tmp_path / "logits.npy"
    folder.mkdir()
    plain = Variant("plain", {"encoder": "none", "dataset": {"features_path": str(features)}})

    def keys() -> list[str]:
        ready = variant("ready", teacher={"kind": "logits", "path": str(logits)}, regularizer="none")
        return [
            expand([plain], [str(graph)], ["transductive"], [0])[0].key,
            expand([plain], [str(folder)], ["transductive"], [0])[0].key,
            expand([ready], ["synthetic"], ["transductive"], [0])[0].key,
            expand([variant("plain")], ["synthetic"], ["transductive"], [0])[0].key,
        ]

    def changed(path: Path, text: str) -> list[bool]:
        before = keys()
        path.write_text(text)
        return [old != new for old, new in zip(before, keys(), strict=True)]

    assert changed(graph, "one") == [True, False, False, False]
    assert changed(graph, "three") == [True, False, False, False]
    assert changed(folder / "meta.yaml", "a") == [False, True, False, False]
    assert changed(logits, "one") == [False, False, True, False]
    assert changed(features, "one") == [True, True, False, False]


def test_the_files_of_built_in_graphs_are_part_of_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cell() -> Cell:
        return expand([variant("plain", dataset={})], ["cpf-cora"], ["transductive"], [0])[0]

    monkeypatch.setenv("DGL_RBM_DATA", str(tmp_path))
    found = []
    for content in ("one", "two", "one"):
        (tmp_path / "cora.npz").write_text(content)
        found.append((cell().key, cell().dataset_id, cell().options_id, cell().teacher_id))
    assert found[0] == found[2]
    assert [a == b for a, b in zip(found[0], found[1], strict=True)] == [False, False, True, True]


def test_a_graph_that_is_downloaded_has_the_same_key_before_and_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a comparison that fetched it would find nothing of what it kept."""
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "cora.npz").write_text("content")
    monkeypatch.delenv("DGL_RBM_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    plain = variant("plain", dataset={"url": (tmp_path / "server").as_uri()})
    keys = [expand([plain], ["cpf-cora"], ["transductive"], [0])[0].key for _ in range(2)]
    assert keys[0] == keys[1]
    assert (tmp_path / "cache" / "dgl-rbm" / "cpf" / "cora.npz").is_file()


def test_names_of_files_are_short_and_their_own() -> None:
    long = "very/" * 60
    keys = {expand([variant(name)], ["synthetic"], ["transductive"], [0])[0].key for name in (long, long + "a", "b/c")}
    assert len(keys) == 3
    assert all(len(key) < 150 and "/" not in key for key in keys)


def test_ids_say_what_is_alike() -> None:
    """Runs of other seeds, settings and devices may be averaged; those of other options may not."""

    def ids(seed: int = 0, setting: str = "transductive", **changes: Any) -> tuple[str, str]:
        cell = expand([variant("plain")], ["synthetic"], [setting], [seed], **{"device": "cpu", **changes})[0]
        return cell.dataset_id, cell.options_id

    assert ids() == ids(seed=1) == ids(setting="inductive") == ids(device="auto")
    assert ids(split="5/5")[0] != ids()[0]
    assert ids(split="5/5")[1] == ids()[1]
    assert ids(overrides=["training.lr=0.5"])[0] == ids()[0]
    assert ids(overrides=["training.lr=0.5"])[1] != ids()[1]


def test_variants_that_depend_on_graph_and_setting() -> None:
    def make(dataset: str, setting: str) -> Variant:
        return variant("adapted", training={"epochs": 3 if setting == "inductive" else 4})

    cells = expand([make], ["synthetic"], ["transductive", "inductive"], [0])
    assert [cell.config.training.epochs for cell in cells] == [4, 3]


def test_split_and_overrides_reach_every_cell() -> None:
    cells = expand(
        VARIANTS,
        ["synthetic"],
        ["transductive"],
        [3],
        split="10/10",
        overrides=["training.lr=0.5"],
    )
    for cell in cells:
        assert cell.config.dataset.split == "10/10"  # type: ignore[attr-defined]
        assert cell.config.training.lr == 0.5


def test_an_option_of_several_teachers() -> None:
    both = variant("both", teacher="sage+gcn")
    cells = expand([both], ["synthetic"], ["transductive"], [0], overrides=["teacher.weights=validation"])
    assert cells[0].config.teacher.weights == "validation"  # type: ignore[attr-defined]


def test_an_option_of_the_teachers_is_of_those_that_have_one() -> None:
    variants = [VARIANTS[0], variant("alone", teacher="none"), variant("too", teacher={"kind": "none"})]
    cells = expand(variants, ["synthetic"], ["transductive"], [0], overrides=["teacher.hidden_dim=9"])
    assert [getattr(cell.config.teacher, "hidden_dim", None) for cell in cells] == [9, None, None]


def test_an_option_of_an_encoder() -> None:
    cells = expand([VARIANTS[1]], ["synthetic"], ["transductive"], [0], overrides=["encoder.0.weight=2.5"])
    assert cells[0].config.encoder[0].weight == 2.5  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": []}, "no variants"),
        ({"datasets": []}, "no datasets"),
        ({"seeds": []}, "no seeds"),
        ({"settings": ["inductif"]}, "no setting 'inductif'. Did you mean 'inductive'"),
        ({"datasets": ["corra"]}, "plain, corra, transductive: There is no dataset 'corra'. Did you mean 'cora'"),
        ({"variants": [variant("a"), variant("a")]}, "Two variants .* 'a'"),
        ({"overrides": ["student.width=3"]}, "student -> width"),
        ({"overrides": ["seed=5"]}, "'seed' would be the same in all runs"),
        ({"overrides": ["training.epochs=3", " setting = inductive"]}, "'setting' would be the same"),
        ({"overrides": ["dataset=digits"]}, "'dataset' would be the same"),
        ({"overrides": ["dataset.path=other.bin"]}, "'dataset.path' would be the same"),
        ({"overrides": ["student=rbm"]}, "'student' would be the same"),
        ({"overrides": ["student.kind=rbm"]}, "'student.kind' would be the same"),
        ({"overrides": ["teacher=gcn"]}, "(?s)'teacher' would be the same.*Use --teacher"),
        ({"overrides": ["teacher.kind=gcn"]}, "(?s)'teacher.kind' would be the same.*Use --teacher"),
    ],
)
def test_what_cannot_be_run(changes: dict[str, Any], message: str) -> None:
    grid: dict[str, Any] = {"variants": VARIANTS, "datasets": ["synthetic"], "settings": ["transductive"], "seeds": [0]}
    with pytest.raises(ConfigError, match=message):
        expand(**{**grid, **changes})


def test_overrides_that_make_one_run_of_two_variants() -> None:
    def grid(*overrides: str) -> list[Any]:
        variants = [variant("plain"), variant("wide", student={"kind": "mlp", "dropout": 0.5}), variant("twin")]
        return expand(variants, ["synthetic"], ["transductive"], [0], overrides=overrides)

    with pytest.raises(ConfigError, match=r"With --set student.dropout=0.1, 'plain' and 'wide' are the same run"):
        grid("student.dropout=0.1")
    # Those that are the same without it are meant to be.
    assert len(grid("training.epochs=3")) == len(grid()) == 3


def test_overrides_that_one_variant_needs() -> None:
    """That a variant cannot be made without the overrides says nothing of whether they are what tells them apart."""
    ready = variant("ready", teacher={"kind": "logits"})
    assert len(expand([ready], ["synthetic"], ["transductive"], [0], overrides=["teacher.path=there.npy"])) == 1
    other = variant("other", teacher={"kind": "logits"}, encoder="diffusion")
    with pytest.raises(ConfigError, match="'ready' and 'other' are the same run"):
        expand([ready, other], ["synthetic"], ["transductive"], [0], overrides=["teacher.path=x.npy", "encoder=none"])


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("3", [0, 1, 2]),
        ("100,101", [100, 101]),
        ("7,", [7]),
        ("5-8", [5, 6, 7, 8]),
        ("1, 4-5, 1", [1, 4, 5]),
    ],
)
def test_seeds(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "0", "ten", "-1", "3-1", "1,x", ",", "1.5", "1,5-3", "-5-3"])
def test_what_stands_for_no_seeds(text: str) -> None:
    with pytest.raises(ConfigError, match="stands for no seeds"):
        parse_seeds(text)


@pytest.mark.parametrize("text", ["99999999999", "0-99999999999", "1,5-20000", "10001", "9" * 30])
def test_more_seeds_than_anyone_means(text: str) -> None:
    with pytest.raises(ConfigError, match="stands for more than 10,000 seeds"):
        parse_seeds(text)
