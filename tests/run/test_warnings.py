"""Warnings point to the line of the caller, through decorators and however deep the package issues them."""

from __future__ import annotations

import functools
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch

from dgl_rbm import Run, errors, from_networkx, from_pandas, from_scipy, make_task, task_from_graph
from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.errors import ArtifactWarning, DataWarning, DglRbmWarning
from dgl_rbm.runtime.checkpoint import CheckpointStore

from .conftest import community_arrays, community_task, quick_distiller

PACKAGE = Path(errors.__file__).parent
# Labels with a gap are renumbered, which is noted.
COUNT, LABELS = 12, np.tile([0, 2], 6)
FEATURES = np.eye(COUNT, 3, dtype=np.float32)
PARTS: dict[str, Any] = {"features": FEATURES, "labels": LABELS, "split": "2/2"}
ENDS = np.arange(COUNT), np.roll(np.arange(COUNT), 1)


def with_fields() -> Any:
    graph = dgl.graph(ENDS)
    graph.ndata.update({name: torch.from_numpy(PARTS[f"{name}s"]) for name in ("feature", "label")})
    return graph


def of_networkx() -> Any:
    graph = nx.cycle_graph(COUNT)
    for node, label in enumerate(LABELS.tolist()):
        graph.nodes[node].update(x=[float(node), 1.0], y=label, z=1)
    return from_networkx(graph, features="x", label="y", split="2/2")


def of_tables() -> Any:
    nodes = pd.DataFrame(FEATURES, columns=list("abc")).assign(id=range(COUNT), label=LABELS)
    edges = pd.DataFrame({"source": ENDS[0], "target": ENDS[1]})
    return from_pandas(edges, nodes, features=["a", "b"], split="2/2")


def of_scipy() -> Any:
    matrix = nx.to_scipy_sparse_array(nx.cycle_graph(COUNT))
    return from_scipy(matrix, FEATURES, LABELS, split="2/2")


def of_saved(folder: Path) -> Any:
    path = folder / "graph.bin"
    dgl.save_graphs(str(path), [with_fields()])
    dataset = {"kind": "file", "path": str(path), "features": "feature", "split": "2/2"}
    teacher = {"kind": "sage", "hidden_dim": 2, "training": {"epochs": 1}}
    return quick_distiller(teacher=teacher, training={"epochs": 1}).fit(dataset)


DOORS: dict[str, Callable[[Path], Any]] = {
    "make_task": lambda _: make_task(dgl.graph(ENDS), **PARTS),
    "task_from_graph": lambda _: task_from_graph(with_fields(), features="feature", split="2/2"),
    "from_networkx": lambda _: of_networkx(),
    "from_pandas": lambda _: of_tables(),
    "from_scipy": lambda _: of_scipy(),
    "Distiller.fit": of_saved,
}


def pointed_at(call: Callable[[], Any], category: type[DglRbmWarning]) -> list[str]:
    """Return the file of each warning of a category."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [each.filename for each in caught if issubclass(each.category, category)]


@pytest.mark.parametrize("door", DOORS)
def test_of_data(door: str, tmp_path: Path) -> None:
    files = pointed_at(functools.partial(DOORS[door], tmp_path), DataWarning)
    assert files
    assert set(files) == {__file__}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = quick_distiller(encoder="diffusion").fit(community_task("inductive"))
    return run.save(tmp_path_factory.mktemp("saved") / "run")


def test_of_predictions(saved: Path) -> None:
    predictor = Run.load(saved).predictor
    rows = community_arrays()["features"][:1].numpy()
    assert pointed_at(lambda: predictor.predict(rows, neighbors=[[0, 999]]), DataWarning) == [__file__]
    assert pointed_at(lambda: predictor.predict_proba(rows, neighbors=[[0, 999]]), DataWarning) == [__file__]


def test_of_a_changed_report(saved: Path) -> None:
    report = saved / "report.md"
    content = report.read_bytes()
    report.write_bytes(b"# My notes\n")
    assert pointed_at(lambda: Run.load(saved), ArtifactWarning) == [__file__]
    report.write_bytes(content)


def test_of_a_damaged_checkpoint(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, "mine")
    store.save("teacher", {"epoch": 1})
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    assert pointed_at(lambda: store.load("teacher"), ArtifactWarning) == [__file__]


def test_of_a_script(tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text(
        "import numpy as np\nfrom dgl_rbm import from_arrays\n\n"
        "ends = np.arange(6), np.roll(np.arange(6), 1)\n"
        "from_arrays(np.stack(ends), np.eye(6), [0, 2] * 3, split='1/1')\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=300)
    assert f"{script}:5: DataWarning: The graph" in done.stderr


def test_they_are_issued_by_one_function() -> None:
    issuing = [path.name for path in PACKAGE.rglob("*.py") if "warnings.warn(" in path.read_text(encoding="utf-8")]
    assert issuing == ["errors.py"]
