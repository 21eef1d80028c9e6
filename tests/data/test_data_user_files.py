"""Datasets of the user's own: files of `dgl.save_graphs` and folders in DGL's CSV format."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from dgl_rbm.data import load_task
from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.make import task_from_graph
from dgl_rbm.errors import ConfigError, DataError, DatasetNotFoundError, DataWarning
from dgl_rbm.registry import datasets

LABELS = [0, 1, 0, 1, 0, 1]


def graph():
    g = dgl.graph(([0, 1, 2, 3, 4, 4], [1, 2, 3, 4, 5, 4]))
    g.ndata["feat"] = torch.arange(12.0).reshape(6, 2)
    g.ndata["label"] = torch.tensor(LABELS)
    for part, ids in (("train", [0, 1]), ("val", [2, 3]), ("test", [4, 5])):
        chosen = torch.zeros(6, dtype=torch.bool)
        chosen[ids] = True
        g.ndata[f"{part}_mask"] = chosen
    return g


def load_quietly(spec):
    """Load a task whose notes are not the point of the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return load_task(spec)


def check(task, name):
    assert task.name == name
    assert sorted(zip(*(ends.tolist() for ends in task.graph.edges()), strict=True)) == [
        (0, 1),
        (1, 2),
        (2, 3),
        (3, 4),
        (4, 4),
        (4, 5),
    ]
    assert task.features.tolist() == torch.arange(12.0).reshape(6, 2).tolist()
    assert (task.train_idx.tolist(), task.val_idx.tolist(), task.test_idx.tolist()) == ([0, 1], [2, 3], [4, 5])
    assert task.test_labels().tolist() == [0, 1]


class TestFile:
    def save(self, folder, *graphs):
        path = folder / "mine.bin"
        dgl.save_graphs(str(path), list(graphs))
        return {"kind": "file", "path": str(path)}

    def test_reading(self, tmp_path):
        spec = self.save(tmp_path, graph())
        check(load_task(spec), "mine")
        task = load_task(spec | {"split": "1/1", "symmetrize": True})
        assert (len(task.train_idx), len(task.test_idx)) == (2, 2)
        assert task.graph.num_edges() == 11
        with pytest.raises(DataError, match="no training node is of class 2, 3, 4"):
            load_task(spec | {"num_classes": 5})

    def test_fields_and_index(self, tmp_path):
        other = graph()
        for old, new in (("feat", "x"), ("label", "y"), ("train_mask", "a"), ("val_mask", "b"), ("test_mask", "c")):
            other.ndata[new] = other.ndata.pop(old)
        names = {"features": "x", "labels": "y", "train_mask": "a", "val_mask": "b", "test_mask": "c"}
        spec = self.save(tmp_path, graph(), other)
        check(load_task(spec | {"graph_index": 1} | names), "mine")
        # Files of configurations from before the option was renamed are still read.
        check(load_task(spec | {"index": 1} | names), "mine")
        with pytest.raises(DataError, match="contains 2 graphs; there is none of index 2"):
            load_task(spec | {"graph_index": 2})

    def test_one_of_several_graphs_is_chosen_by_the_user(self, tmp_path):
        spec = self.save(tmp_path, graph(), dgl.graph(([0], [1])))
        with pytest.raises(DataError, match=r"contains 2 graphs; expected one\. 0: 6 nodes, 6 edges; 1") as caught:
            load_task(spec)
        assert "--set dataset.graph_index=" in str(caught.value.hint)
        check(load_task(spec | {"graph_index": 0}), "mine")
        single = self.save(tmp_path, graph())
        check(load_task(single), "mine")
        with pytest.raises(DataError, match="contains 1 graph; there is none of index 1"):
            load_task(single | {"graph_index": 1})

    @pytest.mark.parametrize("name", ["label", "labels", "node_labels", "y", "glabel"])
    def test_labels_in_the_dictionary_of_the_file(self, tmp_path, name):
        bare = graph()
        labels = bare.ndata.pop("label")
        dgl.save_graphs(str(tmp_path / "mine.bin"), [bare], {name: labels})
        check(load_quietly({"kind": "file", "path": str(tmp_path / "mine.bin")}), "mine")

    def test_fields_in_the_dictionary_of_the_file(self, tmp_path):
        bare = graph()
        fields = {"topic": bare.ndata.pop("label")}
        for name in ("feat", "train_mask", "val_mask", "test_mask"):
            fields[name] = bare.ndata.pop(name)
        other = {"sizes": torch.tensor([1, 2, 3])}
        dgl.save_graphs(str(tmp_path / "mine.bin"), [bare], fields | other)
        spec = {"kind": "file", "path": str(tmp_path / "mine.bin"), "labels": "topic"}
        with pytest.warns(DataWarning, match=r"entry 'sizes' of the file's dictionary, of shape \(3,\), is not used"):
            check(load_task(spec), "mine")
        with pytest.raises(DataError, match=r"no node field 'tpic' for the labels\. Did you mean 'topic'"):
            load_quietly(spec | {"labels": "tpic"})

    def test_a_field_of_the_graph_comes_before_the_dictionary(self, tmp_path):
        dgl.save_graphs(str(tmp_path / "mine.bin"), [graph()], {"label": torch.ones(6), "labels": torch.zeros(6)})
        with pytest.warns(DataWarning, match=r"entry 'label' of the file's dictionary, of shape \(6,\), is not used"):
            check(load_task({"kind": "file", "path": str(tmp_path / "mine.bin")}), "mine")

    def test_features_beside_the_graph(self, tmp_path):
        bare = graph()
        np.save(tmp_path / "x.npy", bare.ndata.pop("feat").numpy())
        spec = self.save(tmp_path, bare) | {"features_path": str(tmp_path / "x.npy")}
        check(load_task(spec), "mine")
        assert isinstance(datasets.resolve(spec).load(0).features, np.memmap)
        task = load_task(spec)
        before = (tmp_path / "x.npy").read_bytes()
        load_task(spec).features.mul_(2)
        assert (tmp_path / "x.npy").read_bytes() == before, "writing to the features changed the file"
        on_disk = np.load(tmp_path / "x.npy", mmap_mode="r+")
        on_disk[3] = 77.0
        on_disk.flush()
        assert task.features[3].tolist() == [77.0, 77.0], "the features were copied into memory"
        np.save(tmp_path / "x.npy", np.zeros((5, 2), np.float32))
        with pytest.raises(DataError, match="the features have 5 rows; the graph has 6 nodes"):
            load_task(spec)
        (tmp_path / "x.npy").write_bytes(b"hello")
        with pytest.raises(DataError, match="is truncated or not written by"):
            load_task(spec)
        (tmp_path / "x.npy").unlink()
        with pytest.raises(DatasetNotFoundError, match="There is no features file"):
            load_task(spec)

    def test_features_in_an_archive_and_in_another_byte_order(self, tmp_path):
        bare = graph()
        features = bare.ndata.pop("feat").numpy()
        spec = self.save(tmp_path, bare) | {"features_path": str(tmp_path / "x.npy")}
        np.save(tmp_path / "x.npy", features.astype(">f4"))
        check(load_task(spec), "mine")
        np.savez(tmp_path / "x.npz", features)
        with pytest.raises(DataError, match=r"is an archive, as `numpy\.savez` writes"):
            load_task(spec | {"features_path": str(tmp_path / "x.npz")})
        np.save(tmp_path / "x.npy", np.array([{}] * 6))
        with pytest.raises(DataError, match="contains Python objects"):
            load_task(spec)

    def test_a_missing_field_with_other_problems(self, tmp_path):
        wrong = graph()
        wrong.ndata["feat"][3] = float("inf")
        del wrong.ndata["test_mask"]
        with pytest.raises(DataError) as caught:
            load_task(self.save(tmp_path, wrong))
        assert "The graph 'mine' cannot be used, for 2 reasons" in str(caught.value)
        assert "no node field 'test_mask'" in str(caught.value)
        assert "features of node 3" in str(caught.value)

    def test_heterogeneous(self, tmp_path):
        g = dgl.heterograph({("a", "to", "b"): ([0], [0])})
        with pytest.raises(DataError, match="cannot be used: the graph is heterogeneous"):
            load_task(self.save(tmp_path, g))

    def test_missing_truncated_and_foreign_files(self, tmp_path):
        spec = self.save(tmp_path, graph())
        content = (tmp_path / "mine.bin").read_bytes()
        for length in (8, 100, len(content) // 2):
            (tmp_path / "mine.bin").write_bytes(content[:length])
            with pytest.raises(DataError, match="is truncated or damaged: DGL cannot read it"):
                load_task(spec)
        for wrong, what in ((b"", "empty"), (content[:3], "unknown format"), (b"hello" * 100, "a text file")):
            (tmp_path / "mine.bin").write_bytes(wrong)
            with pytest.raises(DataError, match=f"{what}; expected a graph"):
                load_task(spec)
        (tmp_path / "mine.bin").unlink()
        with pytest.raises(DatasetNotFoundError, match="There is no graph file"):
            load_task(spec)

    def test_path_is_required(self):
        with pytest.raises(ConfigError, match="path: Field required"):
            load_task("file")


class TestCsv:
    META = "dataset_name: mine\nedge_data:\n- file_name: edges.csv\nnode_data:\n- file_name: nodes.csv\n"

    def write(self, folder, meta=META):
        folder = folder / "mine"
        folder.mkdir()
        g = graph()
        (folder / "meta.yaml").write_text(meta)
        source, destination = (ends.tolist() for ends in g.edges())
        lines = [f"{u},{v}" for u, v in zip(source, destination, strict=True)]
        (folder / "edges.csv").write_text("\n".join(["src_id,dst_id", *lines]))
        fields = ("train_mask", "val_mask", "test_mask")
        lines = [
            f'{node},"{",".join(map(str, g.ndata["feat"][node].tolist()))}",{LABELS[node]},'
            + ",".join(str(bool(g.ndata[field][node])) for field in fields)
            for node in range(6)
        ]
        (folder / "nodes.csv").write_text("\n".join(["node_id,feat,label," + ",".join(fields), *lines]))
        return {"kind": "csv", "path": str(folder)}

    def test_reading_writes_no_files(self, tmp_path, capsys):
        spec = self.write(tmp_path)
        check(load_task(spec), "mine")
        assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["edges.csv", "meta.yaml", "nodes.csv"]
        assert capsys.readouterr().out == ""
        nodes = tmp_path / "mine" / "nodes.csv"
        nodes.write_text(nodes.read_text().replace(",1,False,False,True", ",0,False,False,True"))
        assert load_task(spec).test_labels().tolist() == [0, 0]

    def test_a_node_without_label(self, tmp_path):
        spec = self.write(tmp_path)
        nodes = tmp_path / "mine" / "nodes.csv"
        nodes.write_text(nodes.read_text().replace(",0,False,False,True", ",,False,False,False"))
        task = load_task(spec)
        assert task.test_idx.tolist() == [5]
        assert task.test_labels().tolist() == [1]

    @pytest.mark.parametrize(
        "meta",
        ["", "- a\n", "dataset_name: x\n", "a: [", META.replace("nodes.csv", "none.csv"), "version: 7.0\n" + META],
    )
    def test_wrong_descriptions(self, tmp_path, meta):
        with pytest.raises(DataError, match="cannot be read") as caught:
            load_task(self.write(tmp_path, meta))
        assert "docs.dgl.ai" in str(caught.value)

    def test_wrong_tables(self, tmp_path):
        spec = self.write(tmp_path)
        edges = tmp_path / "mine" / "edges.csv"
        edges.write_text("src_id,dst_id\n0,77\n1,2\n")
        with pytest.raises(DataError, match="77"):
            load_task(spec)
        edges.write_text("from,to\n0,1\n1,2\n")
        with pytest.raises(DataError, match="src_id"):
            load_task(spec)
        edges.unlink()
        with pytest.raises(DataError, match=r"edges\.csv"):
            load_task(spec)

    def test_no_such_folder(self, tmp_path):
        with pytest.raises(DatasetNotFoundError, match="There is no folder"):
            load_task({"kind": "csv", "path": str(tmp_path / "nowhere")})


def test_masks_beside_a_split_are_left_out_without_a_note(tmp_path):
    mine = graph()
    mine.ndata["own_mask"] = mine.ndata["train_mask"]
    dgl.save_graphs(str(tmp_path / "mine.bin"), [mine])
    spec = {"kind": "file", "path": str(tmp_path / "mine.bin"), "split": "1/1"}
    for load in (lambda: load_task(spec), lambda: task_from_graph(mine, split="1/1")):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            task = load()
        # A mask under a name that is not read may have been left out by mistake.
        (note,) = [str(each.message) for each in caught if "node fields" in str(each.message)]
        assert note.endswith("these node fields are not used: own_mask.")
        assert len(task.train_idx) == int(task.num_classes)
