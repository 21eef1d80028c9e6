"""Datasets read from files in published formats: Planetoid, CPF and OGB."""

from __future__ import annotations

import gzip
import json
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from dgl_rbm.data import load_task
from dgl_rbm.errors import DataError, DatasetNotFoundError, UnknownNameError
from dgl_rbm.registry import datasets
from dgl_rbm.rows.sparse import SparseRows


@pytest.fixture
def places(monkeypatch, tmp_path):
    """Three empty folders that datasets are looked for in, and no network."""
    for variable, name in (("DGL_RBM_DATA", "data"), ("XDG_CACHE_HOME", "cache"), ("DGL_DOWNLOAD_DIR", "dgl")):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.setenv("DGL_REPO", "http://127.0.0.1:9")
    return tmp_path


def listing(folder):
    return sorted(
        (str(path.relative_to(folder)), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()
    )


def pairs(graph):
    return sorted(zip(*(ends.tolist() for ends in graph.edges()), strict=True))


class TestPlanetoid:
    # Ids 0 to 511 come first; of the test range 512 to 519 the nodes 514 and 517 are missing.
    NUM_FIRST, TEST = 512, (519, 512, 516, 513, 518, 515)

    def write(self, folder, stem="citeseer"):
        folder.mkdir(parents=True)
        count = 520
        labels = np.eye(3, dtype=np.int32)[np.arange(count) % 3]
        rows = sp.csr_matrix((np.arange(count)[:, None] % np.array([2, 3, 5, 7]) + [1, 0, 0, 0]).astype(np.float32))
        test = list(self.TEST)
        graph = {node: [(node + 1) % 511, (node + 1) % 511] for node in range(511)}
        graph |= {511: [], 512: [0], 513: [513], 514: [], 515: [512], 516: [3], 517: [], 518: [], 519: [4]}
        parts = {
            "x": rows[:9],
            "y": labels[:9],
            "allx": rows[: self.NUM_FIRST],
            "ally": labels[: self.NUM_FIRST],
            "tx": rows[sorted(test)][np.argsort(np.argsort(test))],
            "ty": labels[sorted(test)][np.argsort(np.argsort(test))],
            "graph": graph,
        }
        # Row i of `tx` belongs to the i-th id of the test index, whatever its order.
        for name, content in parts.items():
            (folder / f"ind.{stem}.{name}").write_bytes(pickle.dumps(content))
        (folder / f"ind.{stem}.test.index").write_text("\n".join(map(str, test)))
        return rows.toarray(), labels.argmax(1)

    def test_gaps_in_the_test_index_are_unlabelled_nodes_without_features(self, places):
        rows, labels = self.write(places / "data" / "citeseer_1234")
        before = listing(places)
        source = datasets.resolve("citeseer").load(0)
        task = load_task("citeseer")
        assert listing(places) == before
        assert task.graph.num_nodes() == 520
        assert task.train_idx.tolist() == list(range(9))
        assert task.val_idx.tolist() == list(range(9, 509))
        assert task.test_idx.tolist() == sorted(self.TEST)
        labels[[514, 517]] = -1
        assert source.labels.tolist() == labels.tolist()
        rows[[514, 517]] = 0
        expected = rows / np.maximum(rows.sum(1, keepdims=True), 1)
        np.testing.assert_allclose(task.features.to_dense().numpy(), expected, rtol=1e-5)
        assert (task.graph.in_degrees()[[511, 514, 517, 518]] == 0).all()
        assert {(512, 0), (0, 512), (515, 512), (512, 515)} <= set(pairs(task.graph))

    def test_a_drawn_split_excludes_the_gaps(self, places):
        self.write(places / "data" / "citeseer")
        task = load_task({"kind": "citeseer", "split": "0.6/0.2/0.2"}, "inductive")
        chosen = torch.cat([task.train_idx, task.val_idx, task.test_idx]).sort().values
        assert chosen.tolist() == [node for node in range(520) if node not in (514, 517)]
        assert len(task.unseen_idx) == round(0.2 * len(task.test_idx))

    def test_the_public_split_hides_all_test_nodes(self, places):
        self.write(places / "dgl" / "citeseer_d6836239")
        assert load_task("citeseer", "inductive").unseen_idx.tolist() == sorted(self.TEST)

    def test_a_missing_and_a_damaged_file(self, places):
        folder = places / "data" / "citeseer"
        self.write(folder)
        content = (folder / "ind.citeseer.allx").read_bytes()
        (folder / "ind.citeseer.allx").write_bytes(content[:-20])
        with pytest.raises(DataError, match=r"dataset 'citeseer' in '.*' cannot be read: UnpicklingError"):
            load_task("citeseer")
        (folder / "ind.citeseer.allx").unlink()
        with pytest.raises(DatasetNotFoundError, match=r"lacks ind\.citeseer\.allx"):
            load_task("citeseer")

    def test_download(self, places):
        self.write(places / "made")
        with zipfile.ZipFile(places / "citeseer.zip", "w") as archive:
            for path in (places / "made").iterdir():
                archive.write(path, path.name)
        spec = {"kind": "citeseer", "url": (places / "citeseer.zip").as_uri()}
        config = datasets.resolve(spec)
        assert config.files() == []
        first = load_task(spec)
        assert [path.name for path in config.files()] == [
            f"ind.citeseer.{part}" for part in ("x", "y", "tx", "ty", "allx", "ally", "graph", "test.index")
        ]
        assert all(path.is_file() for path in config.files())
        (places / "citeseer.zip").unlink()
        assert pairs(load_task(spec).graph) == pairs(first.graph)

    def test_without_files_and_network(self, places):
        with pytest.raises(DatasetNotFoundError) as caught:
            load_task("pubmed")
        assert "http://127.0.0.1:9/dataset/pubmed.zip" in str(caught.value)
        assert "DGL_RBM_DATA" in str(caught.value.hint)
        assert "ind.pubmed.test.index" in str(caught.value.hint)
        assert not listing(places)

    def test_real_cora(self, real_data):
        before = listing(real_data)
        task = load_task("cora", "inductive")
        assert (task.graph.num_nodes(), task.graph.num_edges()) == (2708, 10556)
        assert (len(task.train_idx), len(task.val_idx), len(task.test_idx)) == (140, 500, 1000)
        assert task.unseen_idx.equal(task.test_idx)
        assert isinstance(task.features, SparseRows)
        assert task.features.shape == (2708, 1433)
        assert len(task.observed()) == 1708
        # Lengthened, all by one factor, to a root mean square length of 1 of the observed rows.
        dense = task.features.to_dense()
        torch.testing.assert_close(dense.sum(1), dense.sum(1)[:1].expand(2708))
        observed = dense[task.observed().node_ids]
        assert float(observed.square().sum(1).mean()) == pytest.approx(1, rel=1e-4)
        plain = load_task({"kind": "cora", "rescale": False}).features.to_dense()
        torch.testing.assert_close(plain.sum(1), torch.ones(2708))
        assert listing(real_data) == before


class TestCpf:
    def arrays(self):
        """Nodes 0 to 5 are connected, 6 and 7 are apart; edges are directed, one is weighted and one a loop."""
        edges = [(0, 1), (1, 2), (2, 0), (3, 2), (4, 3), (5, 4), (4, 5), (3, 3), (6, 7)]
        adjacency = np.zeros((8, 8), np.float32)
        for source, destination in edges:
            adjacency[source, destination] = 2.5
        attributes = np.array([[node, 0, node % 2, 1] for node in range(8)], np.float32)
        parts = {"labels": np.array([0, 0, 0, 1, 1, 1, 0, 1])}
        for prefix, matrix in (("adj", sp.csr_matrix(adjacency)), ("attr", sp.csr_matrix(attributes))):
            for name in ("data", "indices", "indptr", "shape"):
                parts[f"{prefix}_{name}"] = np.array(getattr(matrix, name))
        return parts, attributes

    SPEC = {"kind": "cpf-citeseer", "split": "1/1"}

    @pytest.mark.parametrize("place", ["data/cpf", "data", "cache/dgl-rbm/cpf"])
    @pytest.mark.parametrize("dense", [False, True])
    def test_reading(self, places, place, dense):
        parts, attributes = self.arrays()
        if dense:
            parts = {name: value for name, value in parts.items() if not name.startswith("attr")}
            parts["attr_matrix"] = attributes
        (places / place).mkdir(parents=True, exist_ok=True)
        np.savez(places / place / "citeseer.npz", **parts)
        task = load_task(self.SPEC)
        undirected = {(0, 1), (1, 2), (0, 2), (2, 3), (3, 4), (4, 5)}
        assert pairs(task.graph) == sorted(undirected | {(v, u) for u, v in undirected})
        present = (attributes[:6] != 0).astype(np.float32)
        expected = torch.from_numpy(present / present.sum(1, keepdims=True))
        torch.testing.assert_close(task.features.to_dense(), expected)
        assert task.num_classes == 2
        raw = load_task(self.SPEC | {"normalize": "none"}).features
        assert raw.to_dense().tolist() == present.tolist()

    def test_download_and_reuse(self, places):
        np.savez(places / "citeseer.npz", **self.arrays()[0])
        spec = self.SPEC | {"url": places.as_uri()}
        first = load_task(spec)
        (places / "citeseer.npz").unlink()
        assert pairs(load_task(spec).graph) == pairs(first.graph)

    def test_without_file_and_network(self, places):
        with pytest.raises(DatasetNotFoundError) as caught:
            load_task({"kind": "academic-physics", "url": "http://127.0.0.1:9/"})
        assert "http://127.0.0.1:9/ms_academic_phy.npz" in str(caught.value)
        assert "DGL_RBM_DATA" in str(caught.value.hint)

    def test_damaged_files(self, places):
        path = places / "data" / "citeseer.npz"
        parts, _ = self.arrays()
        np.savez_compressed(path, **parts)
        content = path.read_bytes()
        damaged = [b"", b"PK", b"nonsense" * 20, content[: len(content) // 2]]
        damaged.append(content[:200] + bytes(40) + content[240:])
        for wrong in damaged:
            path.write_bytes(wrong)
            with pytest.raises(DataError, match=r"citeseer\.npz' is damaged"):
                load_task(self.SPEC)

    def test_wrong_content(self, places):
        path = places / "data" / "citeseer.npz"
        parts, _ = self.arrays()
        for change, reason in (
            ({"labels": None}, "lacks the array 'labels'; it contains adj_data"),
            ({"attr_indptr": None}, "lacks the array 'attr_indptr'"),
            ({"labels": np.zeros(5, int)}, "do not match"),
            ({"adj_indices": parts["adj_indices"] + 100}, "is damaged"),
            ({"labels": np.array([{}] * 8)}, "contains Python objects"),
        ):
            np.savez(path, **{name: value for name, value in (parts | change).items() if value is not None})
            with pytest.raises(DataError, match=reason):
                load_task(self.SPEC)

    @pytest.mark.parametrize(
        ("name", "nodes", "edges", "columns", "classes"),
        [
            ("cpf-cora", 2485, 5069, 1433, 7),
            ("amazon-photo", 7487, 119043, 745, 8),
            ("academic-cs", 18333, 81894, 6805, 15),
        ],
    )
    def test_real_files(self, real_data, name, nodes, edges, columns, classes):
        task = load_task(name, "inductive")
        assert task.graph.num_nodes() == nodes
        assert task.graph.num_edges() == 2 * edges
        assert task.features.shape == (nodes, columns)
        assert task.num_classes == classes
        assert (len(task.train_idx), len(task.val_idx)) == (20 * classes, 30 * classes)
        assert len(task.unseen_idx) == round(0.2 * (nodes - 50 * classes))
        source, destination = task.graph.edges()
        assert not (source == destination).any()


class TestOgb:
    EDGES = ((0, 1), (1, 2), (2, 0), (3, 2), (0, 1))
    LABELS = (0, 1, 39, 0, 1)

    def write(self, folder, release=1):
        tables = {
            "raw/edge": self.EDGES,
            "raw/num-node-list": [[5]],
            "raw/num-edge-list": [[len(self.EDGES)]],
            "raw/node-feat": [[node / 2, -node, 1] for node in range(5)],
            "raw/node-label": [[label] for label in self.LABELS],
            "split/time/train": [[0], [1]],
            "split/time/valid": [[2]],
            "split/time/test": [[4], [3]],
        }
        for name, rows in tables.items():
            path = folder / f"{name}.csv.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            with gzip.open(path, "wt") as file:
                file.writelines(",".join(map(str, row)) + "\n" for row in rows)
        (folder / f"RELEASE_v{release}.txt").touch()

    def check(self, task):
        assert pairs(task.graph) == sorted({(u, v) for a, b in self.EDGES for u, v in ((a, b), (b, a))})
        assert task.features.tolist() == [[node / 2, -node, 1] for node in range(5)]
        assert (task.train_idx.tolist(), task.val_idx.tolist(), task.test_idx.tolist()) == ([0, 1], [2], [3, 4])
        assert task.test_labels().tolist() == [0, 1]
        assert task.num_classes == 40
        assert task.name == "ogbn-arxiv"

    @pytest.mark.parametrize("place", ["data/ogb", "cache/dgl-rbm/ogb"])
    def test_reading(self, places, place, capsys):
        self.write(places / place / "ogbn_arxiv")
        before = listing(places)
        self.check(load_task("ogb"))
        assert listing(places) == before
        assert capsys.readouterr() == ("", "")
        directed = load_task({"kind": "ogb", "symmetrize": False})
        assert pairs(directed.graph) == sorted(self.EDGES)

    def test_parsed_arrays_are_cached_and_mapped(self, places, monkeypatch):
        from dgl_rbm.data import ogb

        folder = places / "data" / "ogb" / "ogbn_arxiv"
        self.write(folder)
        spec = {"kind": "ogb", "memory_map": "always"}
        self.check(load_task(spec))
        source = datasets.resolve(spec).load(0)
        assert isinstance(source.features, np.memmap)
        raw = folder / "raw" / "node-label.csv.gz"
        with monkeypatch.context() as patch:
            patch.setattr(ogb, "_read", lambda *_: pytest.fail("the raw files were read again"))
            self.check(load_task(spec))
            self.check(load_task("ogb"))
        with gzip.open(raw, "wt") as file:
            file.write("0\n1\n39\n2\n1\n")
        assert load_task("ogb").test_labels().tolist() == [2, 1], "a changed file was not detected"
        (folder / "dgl_rbm" / "sources.npy").write_bytes(b"")
        assert load_task(spec).test_labels().tolist() == [2, 1]
        key_file = folder / "dgl_rbm" / "key.json"
        about = json.loads(key_file.read_text())
        del about["arrays"]["valid"]
        key_file.write_text(json.dumps(about))
        assert load_task(spec).test_labels().tolist() == [2, 1], "cached arrays without one of the names were used"
        monkeypatch.setattr(ogb, "_RECIPE", ogb._RECIPE + 1)
        monkeypatch.setattr(ogb, "_read", lambda *_: pytest.fail("the raw files were read again"))
        with pytest.raises(pytest.fail.Exception, match="were read again"):
            load_task(spec)

    def test_without_a_writable_folder_the_files_are_parsed_again(self, places, monkeypatch):
        folder = places / "data" / "ogb" / "ogbn_arxiv"
        self.write(folder)
        (folder / "dgl_rbm").write_text("in the way")
        monkeypatch.setattr("dgl_rbm.data.arrays._MAPPED_FROM", 0)
        self.check(load_task("ogb"))
        with pytest.raises(DataError, match="cannot be kept in"):
            load_task({"kind": "ogb", "memory_map": "always"})

    def test_root_option(self, places):
        self.write(places / "mine" / "ogbn_arxiv")
        self.check(load_task({"kind": "ogb", "root": str(places / "mine")}))

    def test_binary_files_with_unlabelled_nodes(self, places):
        folder = places / "data" / "ogb" / "ogbn_papers100M"
        self.write(folder)
        for path in (folder / "raw").iterdir():
            path.unlink()
        np.savez(
            folder / "raw" / "data.npz",
            edge_index=np.array(self.EDGES).T,
            num_nodes_list=np.array([5]),
            num_edges_list=np.array([len(self.EDGES)]),
            node_feat=np.ones((5, 2), np.float32),
        )
        np.savez(folder / "raw" / "node-label.npz", node_label=np.array([[0.0], [171.0], [3.0], [2.0], [np.nan]]))
        for part, node in (("train", 1), ("valid", 2), ("test", 3)):
            with gzip.open(folder / "split" / "time" / f"{part}.csv.gz", "wt") as file:
                file.write(f"{node}\n")
        task = load_task({"kind": "ogb", "name": "ogbn-papers100M"})
        assert task.num_classes == 172
        assert task.observed().labels.tolist() == [-1, 171, 3, -1, -1]
        assert task.test_labels().tolist() == [2]

    def test_another_release_does_not_prompt(self, places, monkeypatch):
        monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked a question"))
        self.write(places / "data" / "ogb" / "ogbn_arxiv", release=0)
        with pytest.raises(DataError, match=r"not of release 1 .* lacks 'RELEASE_v1\.txt'"):
            load_task("ogb")

    def test_missing_and_damaged_tables(self, places):
        folder = places / "data" / "ogb" / "ogbn_arxiv"
        self.write(folder)
        path = folder / "raw" / "node-feat.csv.gz"
        content = path.read_bytes()
        path.write_bytes(content[:-12])
        with pytest.raises(DataError, match="cannot be read"):
            load_task("ogb")
        path.unlink()
        with pytest.raises(DataError, match="contain no node features"):
            load_task("ogb")
        path.write_bytes(content)
        (folder / "split" / "time" / "valid.csv.gz").unlink()
        with pytest.raises(DataError, match=r"valid\.csv\.gz"):
            load_task("ogb")

    def test_not_on_disk(self, places):
        with pytest.raises(DatasetNotFoundError, match="is in none of") as caught:
            load_task("ogb")
        assert "`download`" in str(caught.value.hint)
        assert "ogbn_arxiv" in str(caught.value.hint)

    def test_download(self, places, monkeypatch):
        self.write(places / "arxiv")
        with zipfile.ZipFile(places / "arxiv.zip", "w") as archive:
            for path in (places / "arxiv").rglob("*"):
                archive.write(path, path.relative_to(places))
        from dgl_rbm.data import ogb

        facts = ogb._facts
        monkeypatch.setattr(ogb, "_facts", lambda *a: facts(*a) | {"url": (places / "arxiv.zip").as_uri()})
        config = datasets.resolve("ogb")
        config.fetch()
        # Nothing is fetched unless the option says so.
        assert config.files() == []
        self.check(load_task({"kind": "ogb", "download": True}))
        self.check(load_task("ogb"))
        assert len(config.files()) == 8
        assert {path.parent.name for path in config.files()} == {"raw", "time"}

    @pytest.mark.parametrize(("name", "reason"), [("ogbn-mag", "several types"), ("ogbn-proteins", "112 labels each")])
    def test_graphs_of_another_kind(self, places, name, reason):
        with pytest.raises(DataError, match=reason):
            load_task({"kind": "ogb", "name": name})

    def test_unknown_names(self, places):
        with pytest.raises(UnknownNameError, match="Did you mean 'ogbn-arxiv'"):
            load_task({"kind": "ogb", "name": "ogbn-arxive"})

    def test_importing_ogb_makes_no_request(self, places):
        self.write(places / "data" / "ogb" / "ogbn_arxiv")
        (places / "asks").mkdir()
        (places / "asks" / "outdated.py").write_text("import os\nos._exit(7)\n")
        code = (
            "import os, sys\n"
            "from dgl_rbm.data import load_task, ogb\n"
            # DGL may have imported the package on its own.
            "for name in [name for name in sys.modules if name.split('.')[0] in ('ogb', 'outdated')]:\n"
            "    del sys.modules[name]\n"
            "os.environ.pop('OUTDATED_IGNORE', None)\n"
            f"sys.path.insert(0, {str(places / 'asks')!r})\n"
            "load_task('ogb')\n"
            "assert 'ogb' in sys.modules and 'outdated' not in sys.modules\n"
            "assert 'OUTDATED_IGNORE' not in os.environ\n"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
