"""Scores a saved run again, on the graph that its configuration names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dgl_rbm.data.load import load_task
from dgl_rbm.errors import ArtifactError
from dgl_rbm.evaluation.scores import agreement, score, student_logits
from dgl_rbm.run.run import load_run, load_teacher_state, read_config_values
from dgl_rbm.specs import resolve_dataset

__all__ = ["evaluate_saved"]


def evaluate_saved(folder: Path) -> dict[str, Any]:
    """Load a run's graph with the same split, predict every node with the saved student, and score.

    Returns
    -------
    dict
        ``dataset``, ``setting``, ``seed``, ``agreement``, and for ``teacher`` and ``student`` what
        `dgl_rbm.evaluation.scores.score` returns. Without a teacher ``teacher`` is missing and ``agreement`` None.

    Raises
    ------
    ArtifactError
        Where the run was made from a graph in memory, which is not saved.
    """
    run = load_run(folder)
    values = read_config_values(folder)
    if not {"dataset", "setting", "seed"} <= set(values):
        raise ArtifactError(f"'{folder}/config.yaml' is not the configuration of a run.")
    if values["dataset"]["kind"] == "custom":
        raise ArtifactError(
            f"The run in '{folder}' was made from a graph in memory, which it does not hold.",
            hint="In Python: dgl_rbm.load_run(folder).predictor.predict(features, node_ids=ids).",
        )
    task = load_task(resolve_dataset(values["dataset"]), values["setting"], values["seed"])
    found = (task.graph.num_nodes(), task.graph.num_edges())
    expected = (run.metrics["nodes"], run.metrics["edges"])
    if found != expected:
        raise ArtifactError(
            f"The graph of '{folder}' had {expected[0]} nodes and {expected[1]} edges; now it has {found[0]} and "
            f"{found[1]}.",
            hint=f"`dgl-rbm predict {folder} GRAPH.bin` predicts the nodes of a graph that has grown.",
        )
    of_teacher = load_teacher_state(folder)[1]
    # Of the teacher 'none' there are no columns, and so no scores.
    logits = {"teacher": of_teacher} if of_teacher.shape[1] else {}
    logits["student"] = student_logits(run.student, run.predictor.encodings, task)
    return {
        "dataset": task.name,
        "setting": task.setting,
        "seed": values["seed"],
        **score(task, logits),
        "agreement": agreement(task, logits["student"], logits["teacher"]) if "teacher" in logits else None,
    }
