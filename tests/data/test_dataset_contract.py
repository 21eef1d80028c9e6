"""Contract of every dataset: shared options, a graph that depends on its options alone, and valid tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from dgl_rbm.data import DatasetConfig, load_task
from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.errors import ConfigError
from dgl_rbm.registry import datasets
from dgl_rbm.rows.convert import as_rows

NAMES = datasets.names()
NUM_NODES, CLASSES = 60, 3


def resolvable(name: str) -> DatasetConfig | None:
    """Return the config of default options; None if some option has no default."""
    try:
        config: DatasetConfig = datasets.resolve(name)
    except ConfigError:
        return None
    return config


def needs_nothing(name: str) -> bool:
    """Whether the dataset needs neither options nor files: it does not download any."""
    config = resolvable(name)
    return config is not None and type(config).fetch is DatasetConfig.fetch and not config.files()


def small_graph() -> tuple[np.ndarray, np.ndarray, torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(0)
    source, destination = generator.integers(0, NUM_NODES, (2, 200))
    features = torch.from_numpy(generator.standard_normal((NUM_NODES, 4)).astype(np.float32))
    return source, destination, features, torch.arange(NUM_NODES) % CLASSES


def write_file(folder: Path) -> dict[str, Any]:
    source, destination, features, labels = small_graph()
    graph = dgl.graph((source, destination), num_nodes=NUM_NODES)
    graph.ndata["feat"], graph.ndata["label"] = features, labels
    dgl.save_graphs(str(folder / "mine.bin"), [graph])
    return {"path": str(folder / "mine.bin"), "split": "5/5"}


def write_csv(folder: Path) -> dict[str, Any]:
    source, destination, features, labels = small_graph()
    (folder / "mine").mkdir()
    pd.DataFrame({"src_id": source, "dst_id": destination}).to_csv(folder / "mine" / "edges.csv", index=False)
    rows = [", ".join(map(str, row)) for row in features.tolist()]
    nodes = pd.DataFrame({"node_id": range(NUM_NODES), "label": labels.tolist(), "feat": rows})
    nodes.to_csv(folder / "mine" / "nodes.csv", index=False)
    tables = "dataset_name: mine\nedge_data: [{file_name: edges.csv}]\nnode_data: [{file_name: nodes.csv}]\n"
    (folder / "mine" / "meta.yaml").write_text(tables)
    return {"path": str(folder / "mine"), "split": "5/5"}


def write_npz(folder: Path) -> dict[str, Any]:
    source, destination, features, labels = small_graph()
    arrays = {"node_features": features.numpy(), "node_labels": labels.numpy()}
    np.savez(folder / "mine.npz", edges=np.stack([source, destination], axis=1), **arrays)
    return {"path": str(folder / "mine.npz"), "split": "5/5", "directed": True}


# A user's own graph: options of the dataset, after writing its files into a folder.
WRITERS = {"file": write_file, "csv": write_csv, "npz": write_npz}


@pytest.fixture(scope="module", params=[name for name in NAMES if needs_nothing(name) or name in WRITERS])
def spec(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    name: str = request.param
    options = WRITERS[name](tmp_path_factory.mktemp(name)) if name in WRITERS else {}
    return {"kind": name, **options}


@pytest.mark.parametrize("name", NAMES)
def test_options_are_described_and_shared_ones_are_there(name: str) -> None:
    fields = datasets.config_class(name).model_fields
    assert fields.keys() >= DatasetConfig.model_fields.keys()
    assert all(field.description for option, field in fields.items() if option != "kind")


@pytest.mark.parametrize("name", NAMES)
def test_access_options_exist_and_do_not_change_how_the_task_is_built(name: str) -> None:
    config = datasets.config_class(name)
    assert set(config.access) <= config.model_fields.keys() - DatasetConfig.model_fields.keys()


@pytest.mark.parametrize("name", [name for name in NAMES if resolvable(name) is not None])
def test_the_name_of_the_graph_is_short(name: str) -> None:
    graph_name = datasets.resolve(name).graph_name
    assert graph_name
    assert not set(graph_name) & set(" /\\")


def test_values_of_a_config_give_the_same_config(spec: dict[str, Any]) -> None:
    config = datasets.resolve(spec)
    assert datasets.resolve(config.model_dump()) == config


def test_files_are_on_disk(spec: dict[str, Any]) -> None:
    config: DatasetConfig = datasets.resolve(spec)
    config.fetch()
    assert all(path.is_file() for path in config.files())
    assert bool(config.files()) == (spec["kind"] in WRITERS)


def test_the_graph_is_the_same_at_every_load_and_for_every_seed(spec: dict[str, Any]) -> None:
    config: DatasetConfig = datasets.resolve(spec)
    first, second = config.load(0), config.load(1)
    assert first.name == config.graph_name
    assert not first.problems
    for one, other in zip(first.graph.edges(order="srcdst"), second.graph.edges(order="srcdst"), strict=True):
        assert one.equal(other)
    assert as_rows(first.features).to_dense().equal(as_rows(second.features).to_dense())
    np.testing.assert_array_equal(first.labels, second.labels)


@pytest.mark.parametrize("setting", ["transductive", "inductive"])
def test_tasks_are_valid(spec: dict[str, Any], setting: Any) -> None:
    task = load_task(spec, setting)
    count = task.graph.num_nodes()
    assert task.features.shape[0] == count
    assert task.features.to_dense().dtype == torch.float32
    parts = [task.train_idx, task.val_idx, task.test_idx]
    assert all(len(part) for part in parts)
    assert len(torch.cat(parts).unique()) == sum(map(len, parts))
    assert bool(len(task.unseen_idx)) == (setting == "inductive")
    assert torch.isin(task.unseen_idx, task.test_idx).all()
    assert len(task.observed()) == count - len(task.unseen_idx)
    assert task.test_labels().min() >= 0
    assert task.test_labels().max() < task.num_classes


def test_shared_options_take_effect(spec: dict[str, Any]) -> None:
    options = {"split": "3/4", "unseen_fraction": 0.5, "normalize": "standard", "rescale": False, "symmetrize": True}
    task = load_task(spec | options, "inductive")
    assert (len(task.train_idx), len(task.val_idx)) == (3 * task.num_classes, 4 * task.num_classes)
    assert len(task.unseen_idx) == round(0.5 * len(task.test_idx))
    assert (task.normalization.kind, task.normalization.scale) == ("standard", 1)
    source, destination = task.graph.edges()
    assert set(zip(source.tolist(), destination.tolist(), strict=True)) == set(
        zip(destination.tolist(), source.tolist(), strict=True)
    )
