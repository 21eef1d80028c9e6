"""Tables of a comparison, made from its results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from dgl_rbm.evaluation.significance import median_scores, skillings_mack
from dgl_rbm.experiments.published import published_result
from dgl_rbm.experiments.render import Piece, TextTable
from dgl_rbm.experiments.summary import Summary, summarize, summarize_teachers, teacher_names

__all__ = ["accuracy_table", "comparison_tables", "cost_table"]

_METRICS = {
    "test_accuracy": "Test accuracy",
    "val_accuracy": "Validation accuracy",
    "production_accuracy": "Production accuracy",
}
_CHOSEN = "Of the nodes on which epochs and all else were chosen; it flatters those that had most to choose from."
_ABOUT = {
    ("test_accuracy", "transductive"): "Of all test nodes, which were in the graph during training, without their "
    "labels.",
    ("test_accuracy", "inductive"): "Of the nodes that were hidden, with their edges, until the end.",
    ("val_accuracy", "transductive"): _CHOSEN,
    ("val_accuracy", "inductive"): _CHOSEN,
    ("production_accuracy", "inductive"): "0.8 of the accuracy on test nodes that were in the graph and 0.2 of that "
    "on hidden ones.",
}
_PAPER = (
    "'paper': what the RbM paper prints (TMLR 10/2024); its code reports the best test accuracy over epochs, so those "
    "values are no baseline for these."
)
_FEWER = (
    "Who lacks seeds that others have on a graph has no place and no Score there, nor a part in the test over graphs."
)
_SIMULATIONS = 10_000


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _entry(summary: Summary | None, most: int, place: int) -> Piece:
    if summary is None:
        return Piece("–")
    text = _percent(summary.mean) + (f" ± {_percent(summary.std)}" if summary.runs > 1 else "")
    return Piece(text + (f" ({summary.runs} of {most})" if summary.runs < most else ""), place)


def _score_entry(score: float | None, graphs: int, most: int, place: int) -> Piece:
    if score is None:
        return Piece("–")
    return Piece(f"{score:.4f}" + (f" ({graphs} of {most} graphs)" if graphs < most else ""), place)


def _places(values: Mapping[str, str]) -> dict[str, int]:
    """Return 1 for the names with the largest printed value and 2 for those with the next one."""
    ranked = sorted({float(value) for value in values.values()}, reverse=True)[:2]
    return {name: ranked.index(float(value)) + 1 for name, value in values.items() if float(value) in ranked}


def accuracy_table(results: pd.DataFrame, setting: str, metric: str = "test_accuracy") -> TextTable | None:
    """Return one setting's table of a metric: teachers, then methods; one column for each graph.

    The test accuracies come with the paper's values, if it has any, each method's median Score, and the
    Skillings-Mack test over graphs and over graphs and seeds. Means over fewer seeds than others have on a graph are
    shown, and ranked with nothing.

    Returns
    -------
    TextTable or None
        None if no run of this setting has the metric.
    """
    rows = results[results["setting"] == setting]
    summaries, of_teachers = summarize(rows, metric), summarize_teachers(rows, metric)
    if not summaries:
        return None
    datasets, methods = rows["dataset"].unique().tolist(), rows["method"].unique().tolist()
    seeds = _seeds(rows)
    for_test = metric == "test_accuracy"
    papers = _papers(rows, setting) if for_test else {}
    shown = [dataset for dataset in datasets if any(key[0] == dataset for key in papers)]
    # In the paper teachers take part in Score and test too; its table 1 comes out so.
    everyone, known = [*sorted({name for _, name in of_teachers}), *methods], {**of_teachers, **summaries}
    # Seeds are harder or easier for all, so a mean over fewer of them is not to be ranked with the others.
    whole = {key: summary for key, summary in known.items() if summary.runs == len(seeds[key[0]])}
    scores = median_scores(_means(whole, datasets, everyone))
    graphs = {name: sum((dataset, name) in whole for dataset in datasets) for name in everyone}
    most = max(graphs.values())
    score_places = _places({m: f"{scores[m]:.4f}" for m in methods if graphs[m] == most > 0})
    columns = [""]
    for dataset in datasets:
        columns += [dataset, "paper"] if dataset in shown else [dataset]
    body: list[list[Piece]] = []
    for name in everyone:
        line = [Piece(name)]
        for dataset in datasets:
            placed = _places({m: _percent(whole[dataset, m].mean) for m in methods if (dataset, m) in whole})
            line.append(_entry(known.get((dataset, name)), len(seeds.get(dataset, ())), placed.get(name, 0)))
            if dataset in shown:
                value = papers.get((dataset, name))
                line.append(Piece("–" if value is None else f"{value:.2f}"))
        if for_test:
            line.append(_score_entry(scores.get(name), graphs[name], len(datasets), score_places.get(name, 0)))
        body.append(line)
    if for_test:
        columns.append("median Score")
    notes = [_ABOUT.get((metric, setting), ""), _spread(rows)]
    if for_test:
        notes += [
            *([_FEWER] if len(whole) < len(known) else []),
            *_significance(whole, known, datasets, everyone),
            *([_PAPER] if shown else []),
        ]
    title = f"{_METRICS.get(metric, metric)}, {setting}"
    return TextTable(title, columns, body, [note for note in notes if note], len(everyone) - len(methods))


def _papers(rows: pd.DataFrame, setting: str) -> dict[tuple[str, str], float]:
    """Return the paper's values by dataset and by method or teacher's name; none for a split of another kind."""
    names = teacher_names(rows)
    found = {}
    columns = ["dataset", "method", "teacher", "teacher_id"]
    for dataset, method, kind, teacher_id in rows.loc[rows["split"].isna(), columns].drop_duplicates().to_numpy():
        for name, ours in ((method, method), (kind, names[dataset, kind, teacher_id])):
            result = published_result(name, dataset, setting, kind)
            if result is not None:
                found[dataset, ours] = result.mean
    return found


def _means(
    summaries: Mapping[tuple[str, str], Summary], datasets: Sequence[str], methods: Sequence[str]
) -> dict[str, dict[str, float]]:
    return {
        dataset: {method: summaries[dataset, method].mean for method in methods if (dataset, method) in summaries}
        for dataset in datasets
    }


def _seeds(rows: pd.DataFrame) -> dict[str, set[int]]:
    """Return for each dataset the seeds for which any run succeeded."""
    succeeded = rows[rows["status"] == "ok"].groupby("dataset", sort=False)["seed"].unique()
    return {str(dataset): set(map(int, seeds)) for dataset, seeds in succeeded.items()}


def _spread(rows: pd.DataFrame) -> str:
    """Return the note on the seeds that means are over, for each dataset if they differ."""
    seeds = _seeds(rows)
    listed_by_dataset = {dataset: _listed(of_dataset) for dataset, of_dataset in seeds.items()}
    if len(set(listed_by_dataset.values())) > 1:
        listed = ", ".join(f"{of_dataset} of {dataset}" for dataset, of_dataset in listed_by_dataset.items())
    else:
        listed = next(iter(listed_by_dataset.values()))
    if max(map(len, seeds.values())) > 1:
        text = f"In %, mean ± sample standard deviation over the seeds {listed}; the best bold, the second underlined."
    else:
        text = f"In %, of the seed {listed} alone; the best bold, the second underlined."
    failed = int((rows["status"] != "ok").sum())
    return text + (f" {failed} of {len(rows)} runs failed." if failed else "")


def _listed(seeds: Iterable[int]) -> str:
    ordered = sorted(seeds)
    regular = len(ordered) > 2 and ordered == list(range(ordered[0], ordered[-1] + 1))
    return f"{ordered[0]} to {ordered[-1]}" if regular else ", ".join(map(str, ordered))


def _significance(
    whole: Mapping[tuple[str, str], Summary],
    summaries: Mapping[tuple[str, str], Summary],
    datasets: Sequence[str],
    methods: Sequence[str],
) -> list[str]:
    """Return what the Skillings-Mack test says, with graphs as blocks and with each seed of a graph as one.

    Of graphs `whole` is compared, means over all seeds; a seed is compared with itself.
    """
    nothing = float("nan")
    of_graphs = [[whole[d, m].mean if (d, m) in whole else nothing for m in methods] for d in datasets]
    of_seeds = []
    for dataset in datasets:
        by_seed = [summaries[dataset, m].by_seed if (dataset, m) in summaries else {} for m in methods]
        for seed in sorted({seed for known in by_seed for seed in known}):
            of_seeds.append([known.get(seed, nothing) for known in by_seed])
    notes = []
    for what, table in (("graphs", of_graphs), ("graphs and seeds", of_seeds)):
        test = skillings_mack(table, simulations=_SIMULATIONS)
        # A single order says nothing.
        if test.df and test.blocks > 1:
            notes.append(
                f"Skillings-Mack test over {test.blocks} {what}: T = {test.statistic:.2f}, df = {test.df}, "
                f"p = {_p_value(test.p_value)} (simulated: {_p_value(test.simulated_p_value or 0.0)})."
            )
    return notes


def _p_value(p: float) -> str:
    return f"{p:.4f}" if p >= 1e-4 else f"{p:.1e}"


def cost_table(results: pd.DataFrame, dataset: str) -> TextTable | None:
    """Return the costs of the methods on a dataset: sizes, measured time of a prediction, seconds of training.

    Means over settings and seeds. A shared teacher was trained once, and its seconds count for each method.
    """
    rows = results[(results["dataset"] == dataset) & (results["status"] == "ok")]
    if rows.empty:
        return None
    columns = {
        "parameters": "parameters",
        "active": "active_parameters",
        "one node, µs": "latency_us",
        "batch, µs a node": "latency_batch_us",
        "rows read": "fetched_rows",
        "teacher, s": "seconds_teacher",
        "encoder, s": "seconds_encoder",
        "student, s": "seconds_student",
        "epochs": "epochs",
    }
    means = rows.groupby("method", sort=False)[list(columns.values())].mean()
    body = [
        [Piece(str(method)), *(Piece(_number(value, str(column))) for column, value in of_method.items())]
        for method, of_method in means.iterrows()
    ]
    notes = ["Means over settings and seeds; prediction times on one thread, with all that must be fetched."]
    return TextTable(f"Costs, {dataset}", ["", *columns], body, notes)


def _number(value: float, column: str) -> str:
    if pd.isna(value):
        return "–"
    if column in ("parameters", "active_parameters", "epochs"):
        return f"{value:,.0f}"
    return f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def comparison_tables(results: pd.DataFrame) -> list[TextTable]:
    """Return all tables: test accuracies first, then the other accuracies and the costs."""
    tables = [
        accuracy_table(results, setting, metric)
        for metric in ("test_accuracy", "production_accuracy", "val_accuracy")
        for setting in results["setting"].unique()
    ]
    tables += [cost_table(results, dataset) for dataset in results["dataset"].unique()]
    return [table for table in tables if table is not None]
