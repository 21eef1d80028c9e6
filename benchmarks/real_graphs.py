"""Teacher, MLP and RbM with their defaults on real graphs, in both settings, over several seeds.

    DGL_RBM_DATA=path/to/data python benchmarks/real_graphs.py --out results.json

Every epoch is chosen on validation nodes and test labels are read once a run. A finished run is not repeated: stopped
and started again, the command goes on. Prints two Markdown tables, of accuracies and of seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from dgl_rbm import Distiller
from dgl_rbm.training.checkpoint import write_atomic

DATASETS = ("cora", "amazon-photo", "academic-cs")
SETTINGS = ("transductive", "inductive")
STUDENTS = ("mlp", "rbm")
STAGES = ("data", "teacher", "encoder", "regularizer", "student", "evaluation")


def spread(values: list[float], scale: float = 100.0) -> str:
    """Return mean and standard deviation, in percent."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{scale * statistics.mean(values):.2f} ± {scale * deviation:.2f}"


def tables(runs: dict[str, Any]) -> str:
    """Return the two tables of all finished runs."""
    lines = ["| graph | setting | model | validation | test | parameters (active) |", "|---|---|---|---|---|---|"]
    times = ["| graph | setting | student | " + " | ".join(STAGES) + " |", "|" + "---|" * (len(STAGES) + 3)]
    for dataset in DATASETS:
        for setting in SETTINGS:
            for student in STUDENTS:
                found = [runs[key] for key in sorted(runs) if key.startswith(f"{dataset} {setting} {student} ")]
                if not found:
                    continue
                for role in ("teacher", "student") if student == STUDENTS[0] else ("student",):
                    models = [run[role] for run in found]
                    sizes = models[0]
                    active = sizes.get("active_parameters", sizes["parameters"])
                    scores = [spread([model[f"{part}_accuracy"] for model in models]) for part in ("val", "test")]
                    lines.append(
                        f"| {dataset} | {setting} | {models[0]['kind']} | {scores[0]} | {scores[1]} "
                        f"| {sizes['parameters']:,} ({active:,}) |"
                    )
                means = [statistics.mean(run["seconds"].get(stage, 0.0) for run in found) for stage in STAGES]
                times.append(f"| {dataset} | {setting} | {student} | " + " | ".join(f"{m:.1f}" for m in means) + " |")
    return "\n".join([*lines, "", *times])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("real_graphs.json"), help="file of the runs' metrics")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0, 1, ... of each run")
    options = parser.parse_args()
    runs = json.loads(options.out.read_text()) if options.out.exists() else {}
    for dataset in DATASETS:
        for setting in SETTINGS:
            for seed in range(options.seeds):
                for student in STUDENTS:
                    key = f"{dataset} {setting} {student} {seed}"
                    if key not in runs:
                        runs[key] = Distiller(student=student, setting=setting, seed=seed).fit(dataset).metrics
                        write_atomic(options.out, json.dumps(runs, indent=1))
                        print(key, f"{100 * runs[key]['student']['val_accuracy']:.2f} % validation", flush=True)
    print(tables(runs))


if __name__ == "__main__":
    main()
