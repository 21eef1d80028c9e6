"""From names to cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dgl_rbm.data.cpf import CpfConfig
from dgl_rbm.errors import ConfigError, DatasetNotFoundError
from dgl_rbm.experiments.cell import Cell, Variant
from dgl_rbm.experiments.options import as_names, as_seeds, seeds_text
from dgl_rbm.methods import load_method, method_names

from .conftest import TEACHER, VARIANTS, expand_grid, tiny_grid, variant


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
    other = expand_grid([variant("wide", teacher=TEACHER | {"hidden_dim": 9})], ["synthetic"], ["transductive"], [0])
    assert other[0].group not in groups


def test_options_are_part_of_the_key() -> None:
    keys = {
        expand_grid([variant("plain")], ["synthetic"], ["transductive"], [0], **changes)[0].key  # type: ignore[arg-type]
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
            expand_grid([plain], [str(graph)], ["transductive"], [0])[0].key,
            expand_grid([plain], [str(folder)], ["transductive"], [0])[0].key,
            expand_grid([ready], ["synthetic"], ["transductive"], [0])[0].key,
            expand_grid([variant("plain")], ["synthetic"], ["transductive"], [0])[0].key,
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
        return expand_grid([variant("plain", dataset={})], ["cpf-cora"], ["transductive"], [0])[0]

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
    keys = [expand_grid([plain], ["cpf-cora"], ["transductive"], [0])[0].key for _ in range(2)]
    assert keys[0] == keys[1]
    assert (tmp_path / "cache" / "dgl-rbm" / "cpf" / "cora.npz").is_file()


def test_a_download_that_failed_is_not_tried_for_every_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    monkeypatch.delenv("DGL_RBM_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def fail(self: CpfConfig) -> None:
        tried.append(self)
        raise DatasetNotFoundError("no network")

    monkeypatch.setattr(CpfConfig, "fetch", fail)
    cells = expand_grid(
        [variant("plain", dataset={"url": "file:///no-such-place"})], ["cpf-cora"], ["inductive"], [0, 1]
    )
    assert len({cell.dataset_id for cell in cells}) == 1
    assert len(tried) == 1


def test_where_files_are_fetched_from_makes_no_other_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DGL_RBM_DATA", str(tmp_path))
    (tmp_path / "cora.npz").write_text("content")
    cells = [
        expand_grid([variant("plain", dataset=options)], ["cpf-cora"], ["inductive"], [0])[0]
        for options in ({}, {"url": "file:///elsewhere"}, {"normalize": "none"})
    ]
    assert [cell.key == cells[0].key for cell in cells] == [True, True, False]
    assert [cell.dataset_id == cells[0].dataset_id for cell in cells] == [True, True, False]


def test_ids_of_a_run_do_not_change_with_its_files(tmp_path: Path) -> None:
    (tmp_path / "graph.bin").write_text("one")
    plain = Variant("plain", {"encoder": "none"})
    cell = expand_grid([plain], [str(tmp_path / "graph.bin")], ["transductive"], [0])[0]
    before = (cell.digest, cell.dataset_id)
    (tmp_path / "graph.bin").write_text("other")
    assert (cell.digest, cell.dataset_id) == before


def test_of_a_folder_of_tables_only_what_its_description_names_counts(tmp_path: Path) -> None:
    (tmp_path / "meta.yaml").write_text("node_data: [{file_name: nodes.csv}]\nedge_data:\n- file_name: edges.csv\n")

    def key() -> str:
        return expand_grid([Variant("plain", {})], [str(tmp_path)], ["transductive"], [0])[0].key

    for name in ("nodes.csv", "edges.csv"):
        before = key()
        (tmp_path / name).write_text("a")
        assert key() != before
    before = key()
    # Such as the folder of the comparison itself.
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "results.csv").write_text("a")
    assert key() == before


def test_names_of_files_are_short_and_their_own() -> None:
    long = "very/" * 60
    keys = {
        expand_grid([variant(name)], ["synthetic"], ["transductive"], [0])[0].key
        for name in (long, long + "a", "b/c", "b_c")
    }
    assert len(keys) == 4
    assert all(len(key) < 150 and "/" not in key for key in keys)


def test_ids_say_what_is_alike() -> None:
    """Runs of other seeds, settings and devices may be averaged; those of other options may not."""

    def ids(seed: int = 0, setting: str = "transductive", **changes: Any) -> tuple[str, str]:
        cell = expand_grid([variant("plain")], ["synthetic"], [setting], [seed], **{"device": "cpu", **changes})[0]
        return cell.dataset_id, cell.options_id

    assert ids() == ids(seed=1) == ids(setting="inductive") == ids(device="auto")
    assert ids(split="5/5")[0] != ids()[0]
    assert ids(split="5/5")[1] == ids()[1]
    assert ids(overrides=["training.lr=0.5"])[0] == ids()[0]
    assert ids(overrides=["training.lr=0.5"])[1] != ids()[1]


def test_variants_that_depend_on_graph_and_setting() -> None:
    def make(dataset: str, setting: str) -> Variant:
        return variant("adapted", training={"epochs": 3 if setting == "inductive" else 4})

    cells = expand_grid([make], ["synthetic"], ["transductive", "inductive"], [0])
    assert [cell.config.training.epochs for cell in cells] == [4, 3]


def test_split_and_overrides_reach_every_cell() -> None:
    cells = expand_grid(
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
    cells = expand_grid([both], ["synthetic"], ["transductive"], [0], overrides=["teacher.weights=validation"])
    assert cells[0].config.teacher.weights == "validation"  # type: ignore[attr-defined]


def test_an_option_of_the_teachers_is_of_those_that_have_one() -> None:
    variants = [VARIANTS[0], variant("alone", teacher="none"), variant("too", teacher={"kind": "none"}, student="moe")]
    cells = expand_grid(variants, ["synthetic"], ["transductive"], [0], overrides=["teacher.hidden_dim=9"])
    assert [getattr(cell.config.teacher, "hidden_dim", None) for cell in cells] == [9, None, None]


def test_an_option_of_an_encoder() -> None:
    cells = expand_grid([VARIANTS[1]], ["synthetic"], ["transductive"], [0], overrides=["encoder.0.weight=2.5"])
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
        expand_grid(**{**grid, **changes})


def test_variants_that_are_the_same_run() -> None:
    variants = [variant("plain"), variant("wide", student={"kind": "mlp", "dropout": 0.5})]

    def grid(*overrides: str, **options: Any) -> list[Cell]:
        return expand_grid(variants, ["synthetic"], ["transductive"], [0], overrides=overrides, **options)

    with pytest.raises(ConfigError, match=r"With --set student.dropout=0.1, 'plain' and 'wide' are the same run"):
        grid("student.dropout=0.1")
    assert len(grid("training.epochs=3")) == len(grid("student.dropout=0.1", distinct=False)) == 2
    with pytest.raises(ConfigError, match=r"^'plain' and 'twin' are the same run on synthetic, transductive"):
        expand_grid([variant("plain"), variant("twin")], ["synthetic"], ["transductive"], [0])


@pytest.mark.parametrize("recipe", ["published", "default"])
def test_no_two_methods_are_the_same(recipe: Any) -> None:
    names = method_names()
    for dataset in ("digits", "cpf-cora"):
        made = [Variant(name, load_method(name).values(dataset, "inductive", recipe)) for name in names]
        assert len(expand_grid(made, [dataset], ["inductive"], [0])) == len(names)


def test_options_of_a_teacher_that_nobody_has_are_wrong() -> None:
    alone = variant("alone", teacher="none")
    with pytest.raises(ConfigError, match="teacher -> hidden_dim: no such option"):
        expand_grid([alone], ["synthetic"], ["transductive"], [0], overrides=["teacher.hidden_dim=9"])


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
    assert as_seeds(text) == tuple(seeds)
    assert as_seeds(seeds_text(seeds)) == tuple(seeds)


def test_seeds_of_a_call() -> None:
    assert as_seeds(3) == (0, 1, 2)
    assert as_seeds([7, 5, 7]) == (7, 5)
    with pytest.raises(ConfigError, match="-1 is negative"):
        as_seeds([0, -1])


def test_names_are_joined_by_commas_or_listed() -> None:
    assert as_names(" digits, synthetic,,digits ") == as_names(["digits", "synthetic", "digits"])
    # A list may name a file that has a comma.
    assert as_names(["a,b.bin"]) == ("a,b.bin",)


@pytest.mark.parametrize("text", ["", "0", "ten", "-1", "3-1", "1,x", ",", "1.5", "1,5-3", "-5-3"])
def test_what_stands_for_no_seeds(text: str) -> None:
    with pytest.raises(ConfigError, match="stands for no seeds"):
        as_seeds(text)


@pytest.mark.parametrize("text", ["99999999999", "0-99999999999", "1,5-20000", "10001", "9" * 30])
def test_more_seeds_than_anyone_means(text: str) -> None:
    with pytest.raises(ConfigError, match="stands for more than 10,000 seeds"):
        as_seeds(text)
