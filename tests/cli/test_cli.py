"""The command line, through Typer's runner and once as a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from typer.testing import CliRunner

from dgl_rbm import Run, __version__
from dgl_rbm.cli import app
from dgl_rbm.console.doctor import _where
from dgl_rbm.console.memory import explain_out_of_memory
from dgl_rbm.registry import REGISTRIES

QUICK = [
    "distill",
    "--dataset=synthetic",
    "--set=dataset.num_nodes=200",
    "--set=teacher.training.epochs=15",
    "--set=teacher.hidden_dim=8",
    "--set=training.epochs=15",
    "--device=cpu",
]
DIM = 64  # features of the synthetic graph

runner = CliRunner()


def invoke(*arguments: str, code: int = 0) -> str:
    result = runner.invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.output


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "demo"
    invoke(*QUICK, f"--out={folder}", "--setting=inductive")
    return folder


def test_distill_ends_with_a_table_and_the_next_command(tmp_path: Path) -> None:
    output = invoke(*QUICK, f"--out={tmp_path / 'run'}")
    for part in ("teacher (sage)", "student (rbm)", "test acc.", "active", "one node", "agree on"):
        assert part in output
    assert f"dgl-rbm predict {tmp_path / 'run'}" in output
    assert "teacher: done in" in output, "plain progress lines, since this is no terminal"
    assert "student: done in" in output
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_distill_json_is_the_metrics_file(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    result = runner.invoke(app, [*QUICK, "--json", "--student=mlp", f"--out={folder}"])
    assert result.exit_code == 0
    metrics = json.loads(result.stdout)
    assert metrics == json.loads((folder / "metrics.json").read_text())
    assert metrics["student"]["kind"] == "mlp"


def test_files_of_a_run(run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["student"]["hidden_dim"] == 8, "the size taken from the teacher is written down"
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert {entry["stage"] for entry in history} >= {"teacher", "student"}
    assert "| teacher (sage) |" in (run / "report.md").read_text()
    again = invoke("validate", str(run / "config.yaml"))
    assert "valid" in again


def test_a_finished_run_is_not_replaced_unasked(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (run / "metrics.json").read_bytes()
    output = invoke(*QUICK, f"--out={run}", code=2)
    assert "holds a finished run" in output
    assert "--overwrite" in output
    assert (run / "metrics.json").read_bytes() == before
    monkeypatch.chdir(tmp_path)
    invoke(*QUICK, "--student=mlp")
    invoke(*QUICK, "--student=mlp")
    assert sorted(path.name for path in Path("runs").iterdir()) == ["synthetic-sage-mlp", "synthetic-sage-mlp-2"]
    invoke(*QUICK, "--student=mlp", "--out=runs/synthetic-sage-mlp", "--overwrite", "--seed=5")
    assert json.loads(Path("runs/synthetic-sage-mlp/metrics.json").read_text())["seed"] == 5


def test_options_come_from_file_then_flags_then_set(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    invoke("init", str(path), "--student=moe", "--encoder=none", "--dataset=synthetic")
    invoke("init", str(path), code=2)
    output = invoke(
        "distill",
        f"--config={path}",
        *QUICK[2:],
        "--student=mlp",
        "--seed=1",
        "--set=seed=2",
        "--regularizer=none",
        f"--out={tmp_path / 'run'}",
    )
    assert "student (mlp)" in output
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["seed"] == 2
    assert [encoder["kind"] for encoder in config["encoder"]] == ["none"]


def test_brackets_and_list_positions_are_taken_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "[bold]run[/x]"
    two = ["--encoder=none+diffusion", "--set=encoder.1.dim=3", "--student=mlp"]
    output = invoke(*QUICK, *two, f"--out={folder}")
    assert f"dgl-rbm evaluate '{folder}'" in output
    assert Run.load(folder).predictor.encodings.dim == 3


def test_stopped_runs_of_other_options_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dgl_rbm.run.config import resolve_config
    from dgl_rbm.run.folder import claimed_folder

    def claim(config: Any) -> Path:
        with claimed_folder(None, config, overwrite=False) as folder:
            return folder.path

    monkeypatch.chdir(tmp_path)
    first, second = (resolve_config({"seed": seed}) for seed in (0, 1))
    folder = claim(first)
    assert folder.name == "digits-sage-rbm"
    assert claim(second).name == "digits-sage-rbm-2"
    assert claim(first) == folder, "a stopped run is continued"
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "teacher.safetensors").touch()
    output = invoke("distill", "--seed=1", f"--out={folder}", code=2)
    assert "holds a stopped run of other options" in output
    assert "started.yaml" in invoke("evaluate", str(folder), code=1)
    assert "valid" in invoke("validate", str(folder / "started.yaml"))


@pytest.mark.parametrize("student", REGISTRIES["student"].names())
def test_init_writes_a_commented_configuration_that_validates(student: str, tmp_path: Path) -> None:
    path = tmp_path / "distill.yaml"
    beside = ["--encoder=deepwalk+label_propagation"]
    if student == "readout":
        beside = ["--encoder=label_propagation", "--set=encoder.standardize=false", "--regularizer=none"]
    invoke("init", str(path), f"--student={student}", *beside)
    text = path.read_text()
    described = REGISTRIES["student"].config_class(student).model_fields
    for name, field in described.items():
        if name != "kind":
            assert f"\n  {name}:" in text
            assert (field.description or "?").split()[0] in text
    invoke("validate", str(path))
    assert "nodes" in invoke("validate", str(path), "--data")


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (["distill", "--student", "rmb"], 2, ["no student 'rmb'", "Did you mean 'rbm'", "dgl-rbm components student"]),
        (["distill", "--dataset", "coraa"], 2, ["no dataset 'coraa'", "Did you mean 'cora'"]),
        (["distill", "--set", "student.top_k=9"], 2, ["top_k (9) is larger than num_experts"]),
        (["distill", "--set", "student.num_expert=9"], 2, ["no such option", "Did you mean 'num_experts'"]),
        (["distill", "--set", "nonsense"], 2, ["expected 'path.to.option=value'"]),
        (["distill", "--setting", "both"], 2, ["setting", "transductive"]),
        (["distill", "--dataset", "absent/graph.bin"], 1, ["absent/graph.bin"]),
        (["distill", "--config", "absent.yaml"], 2, ["no configuration file 'absent.yaml'"]),
        (["distill", "--device", "cuda:99"], 2, ["cuda:99", "dgl-rbm doctor"]),
        (["distill", "--split", "0.9/0.9/0.9"], 2, ["split"]),
        (["distill", "--techer", "sage"], 2, ["--techer"]),
        (["validate", "absent.yaml"], 2, ["no configuration file"]),
        (["predict", "absent", "rows.npy"], 1, ["'absent' does not exist"]),
        (["evaluate", "absent"], 1, ["'absent' does not exist"]),
        (["distill", "--out", "/proc/nowhere/run"], 2, ["--out /proc/nowhere/run cannot be written to"]),
        (["distill", "--teacher", "logits", "--set", "teacher.path=x.npy"], 2, ["perturbed features", "'none'"]),
        (["init", "/proc/nowhere.yaml"], 1, ["/proc/"]),
        (["components", "studnt"], 2, ["Did you mean 'student'"]),
        (["components", "student", "rmb"], 2, ["Did you mean 'rbm'"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_mistakes_are_explained_without_a_traceback(
    arguments: list[str], code: int, parts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    output = " ".join(invoke(*arguments, code=code).split())
    for part in parts:
        assert part in output, output
    assert "Traceback" not in output
    assert not (tmp_path / "runs").exists(), "nothing is written for a command that cannot run"


def test_memory_that_runs_out_is_explained_without_a_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wide = ["--encoder=deepwalk", "--set=encoder.0.dim=2147483647"]
    output = " ".join(invoke(*QUICK, *wide, code=1).split())
    assert "Error: There is not enough memory:" in output
    assert "TiB more did not fit" in output
    assert "--set training.batch_size=1024" in output
    assert "teacher.training.sampler=neighbor" in output
    assert "Traceback" not in output
    # A CPU knows nothing of what a GPU could do.
    assert "--device cpu" not in output


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity"),
            "There is not enough memory on the GPU: 20.00 GiB more did not fit.",
        ),
        (
            RuntimeError(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 4000000000 bytes. Error 12"
            ),
            "There is not enough memory: 3.725 GiB more did not fit.",
        ),
        (Exception("Check failed: e == cudaSuccess: CUDA: out of memory"), "There is not enough memory on the GPU."),
        (MemoryError(), "There is not enough memory."),
        (MemoryError("std::bad_alloc"), "There is not enough memory."),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), None),
        (ValueError("the GPU is on fire"), None),
    ],
)
def test_running_out_of_memory_is_told_from_other_errors(error: Exception, message: str | None) -> None:
    explained = explain_out_of_memory(error)
    assert (None if explained is None else explained[0]) == message
    if explained is not None:
        assert ("--device cpu" in explained[1]) is ("GPU" in explained[0])


def test_evaluate_repeats_the_scores_of_the_run(run: Path) -> None:
    again = json.loads(invoke("evaluate", str(run), "--json"))
    metrics = json.loads((run / "metrics.json").read_text())
    for role in ("teacher", "student"):
        for name, value in again[role].items():
            assert metrics[role][name] == value
    assert again["agreement"] == metrics["agreement"]
    assert "test accuracy" in invoke("evaluate", str(run))


def rows() -> np.ndarray:
    drawn = np.random.default_rng(0).normal(size=(5, DIM)).astype(np.float32)
    drawn[0, :3] = 0.0  # equal cells, which pandas would tell apart were they names
    return drawn


@pytest.mark.parametrize("ending", ["npy", "npz", "csv", "headless.csv", "counted.csv", "parquet"])
def test_predict_reads_rows_from_files(run: Path, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows.{ending}"
    frame = pd.DataFrame(rows(), columns=[f"f{i}" for i in range(DIM)])
    if ending == "npy":
        np.save(path, rows())
    elif ending == "npz":
        import scipy.sparse as sp

        sp.save_npz(path, sp.csr_matrix(rows()))
    elif ending == "parquet":
        frame.to_parquet(path)
    elif ending == "counted.csv":
        # The names that pandas gives to columns without names.
        pd.DataFrame(rows()).to_csv(path, index=False)
    else:
        frame.to_csv(path, index=False, header=ending == "csv")
    output = invoke("predict", str(run), str(path), "--out", str(tmp_path / "out.csv"))
    assert "every row is taken for a node without known neighbours" in " ".join(output.split())
    written = pd.read_csv(tmp_path / "out.csv")
    expected = Run.load(run).predictor.predict_proba(rows())
    np.testing.assert_allclose(written.drop(columns="label").to_numpy(), expected.numpy(), rtol=1e-4, atol=1e-6)
    assert written["label"].tolist() == expected.argmax(1).tolist()


def test_predict_explains_a_damaged_array(run: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.ones((2, 64)))
    content = (tmp_path / "rows.npy").read_bytes()
    # A quote that opens a string and never closes it, which NumPy's tokenizer refuses by an error of its own.
    (tmp_path / "rows.npy").write_bytes(content.replace(b"{'descr'", b"{'descr\""))
    output = invoke("predict", str(run), str(tmp_path / "rows.npy"), code=2)
    assert "rows.npy" in output
    assert "Traceback" not in output


def test_predict_uses_ids_and_neighbours(run: Path, tmp_path: Path) -> None:
    predictor = Run.load(run).predictor
    known = predictor.encodings.node_ids[:5].tolist()
    frame = pd.DataFrame(rows()).assign(node_id=known)
    frame.to_csv(tmp_path / "ids.csv", index=False)
    by_id = json.loads(invoke("predict", str(run), str(tmp_path / "ids.csv"), "--json"))
    expected = predictor.predict_proba(rows(), node_ids=known)
    np.testing.assert_allclose([row["p0"] for row in by_id], expected[:, 0].numpy(), rtol=1e-4)
    cells = [" ".join(map(str, known[:i])) for i in range(5)]
    pd.DataFrame(rows()).assign(neighbors=cells).to_csv(tmp_path / "near.csv", index=False)
    by_neighbors = json.loads(invoke("predict", str(run), str(tmp_path / "near.csv"), "--json"))
    expected = predictor.predict_proba(rows(), neighbors=[known[:i] for i in range(5)])
    np.testing.assert_allclose([row["p0"] for row in by_neighbors], expected[:, 0].numpy(), rtol=1e-4)


def test_predict_reads_a_graph(run: Path, tmp_path: Path) -> None:
    from dgl_rbm.data.dgl_compat import dgl
    from dgl_rbm.data.load import load_task
    from dgl_rbm.evaluation.scores import student_logits

    values = yaml.safe_load((run / "config.yaml").read_text())
    task = load_task(values["dataset"], values["setting"], values["seed"])
    graph = dgl.graph(task.graph.edges(), num_nodes=task.graph.num_nodes())
    graph.ndata["feat"] = task.features
    dgl.save_graphs(str(tmp_path / "graph.bin"), [graph])
    saved = Run.load(run)
    invoke("predict", str(run), str(tmp_path / "graph.bin"), "--out", str(tmp_path / "out.npy"))
    expected = torch.softmax(student_logits(saved.student, saved.predictor.encodings, task), dim=1)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected.numpy(), rtol=1e-4, atol=1e-6)
    output = invoke("predict", str(run), str(tmp_path / "graph.bin"), "--features", "x", code=2)
    assert "no node field 'x' for the features. The graph has: feat" in " ".join(output.split())


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("a,b\n1,2\n", ["have 2 columns; this run was trained on 64"]),
        ("a,b\n1,x\n", ["column 'b', row 0", "'x' is not a number"]),
        (",".join(["nan"] * DIM) + "\n" + ",".join(["1"] * DIM) + "\n" + "," * (DIM - 1) + "\n", ["NaN"]),
        ("", ["not a CSV table"]),
        ("a,node_id\n1,2.5\n", ["column 'node_id', row 0 (line 2)", "'2.5' is not a whole number"]),
        ("a,neighbors\n1,x y\n", ["column 'neighbors', row 0", "not a list of node ids"]),
        ("a,neighbors\n1,inf\n", ["column 'neighbors', row 0", "not a list of node ids"]),
        ("a,node_id\n1,9999\n", ["column 'node_id', row 0 (line 2): '9999'", "training graph", "column 'neighbors'"]),
    ],
    ids=["columns", "text", "empty cells", "empty", "ids", "neighbours", "infinite", "unknown"],
)
def test_wrong_rows_are_explained(run: Path, tmp_path: Path, content: str, parts: list[str]) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(content)
    output = " ".join(invoke("predict", str(run), str(path), code=2).split())
    for part in parts:
        assert part in output
    other = tmp_path / "rows.txt"
    other.write_text(content)
    assert ".parquet" in invoke("predict", str(run), str(other), code=2)


def test_components_list_everything() -> None:
    overview = invoke("components")
    for kind, registry in REGISTRIES.items():
        for name in registry.names():
            assert re.search(rf"{kind}\W+{re.escape(name)}\b", overview), name
    one = invoke("components", "student", "rbm")
    for option in ("num_experts", "commitment_weight", "pulls hidden states"):
        assert option in one
    assert invoke("components", "rbm") == one
    entries = json.loads(invoke("components", "teacher", "sage", "--json"))
    options = {option["name"]: option for option in entries[0]["options"]}
    assert options["training.epochs"]["description"]


def test_doctor_and_version() -> None:
    output = invoke("doctor")
    for part in ("torch", "dgl", "CUDA", "GraphBolt", "DGL build", "numpy"):
        assert part in output
    subjects = {finding["subject"] for finding in json.loads(invoke("doctor", "--json"))}
    assert {"torch", "GraphBolt", "CUDA"} <= subjects
    assert invoke("--version").strip() == __version__


def test_doctor_says_where_teachers_run() -> None:
    assert "trained on the CPU" in _where(torch_cuda=False, dgl_cuda=False)
    assert "trained on the GPU" in _where(torch_cuda=True, dgl_cuda=True)
    mixed = _where(torch_cuda=True, dgl_cuda=False)
    assert "sampled on the CPU; sage and gcn are trained on the GPU through torch" in mixed


def test_doctor_warns_of_a_data_folder_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DGL_RBM_DATA", str(tmp_path / "absent"))
    assert "does not exist" in invoke("doctor", code=1)


def test_a_run_out_of_time_says_so_and_continues(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    output = invoke(*QUICK, f"--out={folder}", "--max-hours=1e-9", code=75)
    assert "time budget of 1e-09 hours was used up" in output
    assert f"the same command with --out {folder} continues" in output
    invoke(*QUICK, f"--out={folder}", "--max-hours=5")
    assert (folder / "metrics.json").is_file()
    assert "max_hours is 0" in invoke(*QUICK, f"--out={tmp_path / 'other'}", "--max-hours=0", code=2)


# Long enough for a signal to arrive while the student trains.
LONG = [*QUICK, "--encoder=diffusion", "--set=training.epochs=150", "--set=training.patience=150", "--no-plots"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("long") / "run"
    invoke(*LONG, f"--out={folder}")
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl_c", "batch_system"])
def test_a_process_stops_at_a_signal_and_continues(number: signal.Signals, uninterrupted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-m", "dgl_rbm.cli", *LONG, f"--out={folder}"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("student: started"):
                break
        time.sleep(0.2)
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "is kept in" in " ".join(errors.split())
    assert "Traceback" not in errors
    kept = {path.stem for path in (folder / "checkpoints").iterdir()}
    assert {"teacher", "encodings", "student-progress"} <= kept
    assert "teacher: taken from the checkpoint" in invoke(*LONG, f"--out={folder}")
    resumed, reference = (json.loads((path / "metrics.json").read_text()) for path in (folder, uninterrupted))
    for role in ("teacher", "student"):
        assert resumed[role]["test_accuracy"] == reference[role]["test_accuracy"]
    assert (folder / "student.safetensors").read_bytes() == (uninterrupted / "student.safetensors").read_bytes()
