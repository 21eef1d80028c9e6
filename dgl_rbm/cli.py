"""The command line: reads options, calls the library, prints; holds no logic of its own."""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dgl_rbm._version import __version__
from dgl_rbm.console.compare_options import (
    DEFAULT_METHODS,
    DatasetsOption,
    JobsOption,
    MethodsOption,
    SeedsOption,
    SettingsOption,
    ThreadsOption,
)
from dgl_rbm.console.memory import explain_out_of_memory
from dgl_rbm.console.options import (
    ConfigOption,
    DatasetOption,
    DeviceOption,
    EncoderOption,
    JsonOption,
    MaxHoursOption,
    MethodOption,
    RecipeOption,
    RegularizerOption,
    SeedOption,
    SetOption,
    SettingOption,
    SplitOption,
    StudentOption,
    TeacherOption,
)
from dgl_rbm.console.study_options import StudyArgument, StudyOutOption, StudySeedsOption, ValuesOption
from dgl_rbm.errors import ConfigError, DglRbmError, TimeBudgetError
from dgl_rbm.registry import DEFAULTS

__all__ = ["app", "main"]

# Before torch is loaded. Threads that wait by spinning make a run several times slower wherever another process wants
# one of the cores; waiting passively costs next to nothing where none does, and changes no result.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

_HELP = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="dgl-rbm",
    help="Distil graph neural networks into students that read one row of features.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=_HELP,
)

F = TypeVar("F", bound=Callable[..., Any])
_INTERRUPTED = 130


def _stdout() -> Console:
    # Paths and names are printed as they are, brackets included.
    return Console(markup=False)


def _stderr() -> Console:
    return Console(stderr=True, markup=False)


def _fail(message: str, hint: str | None, code: int) -> NoReturn:
    console = _stderr()
    console.print(Text.assemble(("Error: ", "bold red"), message), soft_wrap=True)
    if hint:
        console.print(Text(hint, style="dim"), soft_wrap=True)
    raise typer.Exit(code)


def _command(function: F) -> F:
    """Print what a user can cause without a traceback: exit 2 for usage, 1 for failure, 130 for Ctrl-C."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except DglRbmError as error:
            _fail(error.message, error.hint, error.exit_code)
        except OSError as error:
            place = f"'{error.filename}': " if error.filename else ""
            _fail(f"{place}{error.strerror or error}.", None, 1)
        except KeyboardInterrupt:
            _stderr().print("Stopped.")
            raise typer.Exit(_INTERRUPTED) from None
        except Exception as error:
            explained = explain_out_of_memory(error)
            if explained is None:
                raise
            _fail(*explained, 1)

    return wrapper  # type: ignore[return-value]


def _gather(config: Path | None, overrides: list[str] | None, **options: Any) -> Any:
    """Resolve a configuration: the method first, then the file, then single options, then --set."""
    from dgl_rbm.config import apply_overrides, read_yaml
    from dgl_rbm.methods.apply import method_values
    from dgl_rbm.run_config import combined_teacher, list_encoders, resolve_config

    values = read_yaml(config) if config is not None else {}
    split, method, recipe = (options.pop(name, None) for name in ("split", "method", "recipe"))
    values |= {name: value for name, value in options.items() if value is not None}
    if method is not None:
        values = method_values(method, values, recipe)
    assignments = list(overrides or [])
    if split is not None:
        assignments.insert(0, f'dataset.split="{split}"')
    values = {**DEFAULTS, **values}
    if any(re.match(r"\s*encoder\.\d", assignment) for assignment in assignments):
        values["encoder"] = list_encoders(values["encoder"])
    if any(re.match(r"\s*teacher\.(members|weights)\b", assignment) for assignment in assignments):
        values["teacher"] = combined_teacher(values["teacher"])
    return resolve_config(apply_overrides(values, assignments))


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command(context_settings=_HELP)
@_command
def distill(
    dataset: DatasetOption = None,
    method: MethodOption = None,
    recipe: RecipeOption = "published",
    teacher: TeacherOption = None,
    student: StudentOption = None,
    encoder: EncoderOption = None,
    regularizer: RegularizerOption = None,
    setting: SettingOption = None,
    split: SplitOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the run; a new one under runs/ by default.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a finished run in --out.")] = False,
    max_hours: MaxHoursOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a teacher and a student, and compare them. Started again after a stop, it continues."""
    from dgl_rbm.console.interrupt import stop_between_steps
    from dgl_rbm.console.progress import progress_for
    from dgl_rbm.console.runs import abandon, choose_folder, finish
    from dgl_rbm.console.summary import print_comparison

    resolved = _gather(
        config,
        overrides,
        dataset=dataset,
        method=method,
        recipe=recipe,
        teacher=teacher,
        student=student,
        encoder=encoder,
        regularizer=regularizer,
        setting=setting,
        split=split,
        seed=seed,
        device=device,
    )
    folder = choose_folder(out, resolved, overwrite)
    console = _stderr()

    def announce() -> None:
        console.print("Stopping after this step; Ctrl-C again stops at once.")

    def say_what_is_kept(reason: str) -> None:
        console.print(
            f"{reason} What is done is kept in {folder}; the same command with --out {folder} continues.",
            soft_wrap=True,
        )

    from dgl_rbm.distiller import Distiller

    try:
        with stop_between_steps(announce) as stop, progress_for(console) as progress:
            result = Distiller.from_config(resolved, callbacks=(progress, stop)).fit(out=folder, max_hours=max_hours)
            finish(result, folder)
    except TimeBudgetError as error:
        say_what_is_kept(error.message)
        raise typer.Exit(error.exit_code) from None
    except DglRbmError:
        abandon(folder)
        raise
    except KeyboardInterrupt:
        say_what_is_kept("Stopped.")
        raise typer.Exit(_INTERRUPTED) from None
    if as_json:
        typer.echo(json.dumps(result.metrics, indent=2))
    else:
        print_comparison(_stdout(), result.metrics, folder)


@app.command(context_settings=_HELP)
@_command
def compare(
    methods: MethodsOption = DEFAULT_METHODS,
    datasets: DatasetsOption = "digits",
    settings: SettingsOption = "transductive,inductive",
    seeds: SeedsOption = "3",
    recipe: RecipeOption = "published",
    split: SplitOption = None,
    overrides: SetOption = None,
    device: DeviceOption = None,
    jobs: JobsOption = 1,
    threads: ThreadsOption = 1,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder; cells that are there already are kept.")] = Path(
        "runs/compare"
    ),
    max_hours: MaxHoursOption = None,
    page: Annotated[
        Path | None, typer.Option("--report", help="Markdown page to write too; `dgl-rbm report` does it later.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run several methods on several graphs, settings and seeds. Started again after a stop, it continues."""
    from dgl_rbm.console.compare import names_of, print_tables, run_comparison

    console = _stderr()
    try:
        rows = run_comparison(
            console,
            methods=names_of(methods),
            datasets=names_of(datasets),
            settings=names_of(settings),
            seeds=seeds,
            recipe=recipe,
            split=split,
            overrides=overrides or [],
            device=device,
            jobs=jobs,
            threads=threads,
            out=out,
            max_hours=max_hours,
        )
    except KeyboardInterrupt:
        console.print(f"Stopped. Finished cells are kept in {out}; the same command continues.", soft_wrap=True)
        raise typer.Exit(_INTERRUPTED) from None
    if page is not None:
        from dgl_rbm.comparison.page import write_page

        write_page(out, page)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        print_tables(_stdout(), rows)
        console.print(f"Saved in {out}: results.csv and the tables in Markdown, LaTeX and HTML. Next:", soft_wrap=True)
        console.print(f"  dgl-rbm report {out} --out results.md", soft_wrap=True, highlight=False)
    failed = sum(row["status"] != "ok" for row in rows)
    if failed:
        _fail(f"{failed} of {len(rows)} runs failed.", f"See {out / 'errors'}; the same command tries them again.", 1)


@app.command(context_settings=_HELP)
@_command
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a comparison, with its results.csv.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Markdown file to write.")] = Path("results.md"),
    figures: Annotated[
        Path | None, typer.Option(help="Folder for the figures; by default named like the file, without its suffix.")
    ] = None,
) -> None:
    """Write a page with a comparison's tables, figures, command, versions and hardware."""
    from dgl_rbm.comparison.page import write_page

    for path in write_page(folder, out, figures):
        typer.echo(f"Wrote {path}.")


@app.command(context_settings=_HELP)
@_command
def study(
    name: StudyArgument,
    values: ValuesOption = None,
    datasets: DatasetsOption = "digits",
    settings: SettingsOption = "transductive",
    seeds: StudySeedsOption = None,
    recipe: RecipeOption = "published",
    split: SplitOption = None,
    overrides: SetOption = None,
    device: DeviceOption = None,
    jobs: JobsOption = 1,
    threads: ThreadsOption = 1,
    out: StudyOutOption = None,
    max_hours: MaxHoursOption = None,
) -> None:
    """Run a study of the paper and write its tables and figures. Started again after a stop, it continues."""
    from dgl_rbm.console.compare import names_of
    from dgl_rbm.console.study import print_report, run_study

    console = _stderr()
    folder = out or Path("runs") / f"study-{name}"
    try:
        report = run_study(
            console,
            name,
            values=None if values is None else names_of(values),
            datasets=names_of(datasets),
            settings=names_of(settings),
            seeds=seeds,
            recipe=recipe,
            split=split,
            overrides=overrides or [],
            device=device,
            jobs=jobs,
            threads=threads,
            out=folder,
            max_hours=max_hours,
        )
    except KeyboardInterrupt:
        console.print(f"Stopped. Finished runs are kept in {folder}; the same command continues.", soft_wrap=True)
        raise typer.Exit(_INTERRUPTED) from None
    print_report(_stdout(), report, folder)
    if report.failed:
        raise typer.Exit(1)


@app.command(context_settings=_HELP)
@_command
def tune(
    dataset: DatasetOption = None,
    method: MethodOption = None,
    recipe: RecipeOption = "published",
    teacher: TeacherOption = None,
    student: StudentOption = None,
    encoder: EncoderOption = None,
    regularizer: RegularizerOption = None,
    setting: SettingOption = None,
    split: SplitOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    device: DeviceOption = None,
    seeds: Annotated[
        str, typer.Option(help="Splits and starts that a trial is the mean of: 100-102. Report results on others.")
    ] = "100-102",
    trials: Annotated[int, typer.Option(min=1, help="Trials in all; the first is the configuration as it is.")] = 30,
    space: Annotated[
        Path | None, typer.Option(help="YAML file of what may change; by default the paper's space and a little more.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder; trials that are there are kept.")] = Path(
        "runs/tune"
    ),
    as_json: JsonOption = False,
) -> None:
    """Search for options on validation nodes alone. Started again after a stop, it continues."""
    from dgl_rbm.comparison.grid import parse_seeds
    from dgl_rbm.console.tune import best_as_json, print_best, run_search

    console = _stderr()
    resolved = _gather(
        config,
        overrides,
        dataset=dataset,
        method=method,
        recipe=recipe,
        teacher=teacher,
        student=student,
        encoder=encoder,
        regularizer=regularizer,
        setting=setting,
        split=split,
        device=device,
    )
    try:
        search = run_search(console, resolved, seeds=parse_seeds(seeds), trials=trials, space=space, out=out)
    except KeyboardInterrupt:
        console.print(f"Stopped. Finished trials are kept in {out}; the same command continues.", soft_wrap=True)
        raise typer.Exit(_INTERRUPTED) from None
    if as_json:
        typer.echo(best_as_json(search))
    else:
        print_best(_stdout(), search)


@app.command(context_settings=_HELP)
@_command
def predict(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="Rows: .npy, .npz, .csv, .parquet; or a graph: .bin.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to write: .csv, .parquet or .npy; else the screen.")
    ] = None,
    features: Annotated[str, typer.Option(help="Feature field of a graph.")] = "feat",
    as_json: JsonOption = False,
) -> None:
    """Predict labels and probabilities of new rows with a saved student; no graph library is needed for rows."""
    from dgl_rbm.artifacts import load_run
    from dgl_rbm.console.tables import predictions_table, read_request, write_predictions

    predictor = load_run(run).predictor
    request = read_request(source, predictor, features=features)
    if predictor.encodings.dim and not request.has_structure:
        _stderr().print(
            "Note: this student also reads structural encodings. Without a column 'node_id' or 'neighbors' every "
            "row is taken for a node without known neighbours.",
            soft_wrap=True,
        )
    frame = predictions_table(predictor.student.predict_proba(request.inputs(predictor)))
    if out is not None:
        write_predictions(frame, out)
        _stderr().print(f"{len(frame)} predictions written to {out}.", soft_wrap=True)
    if as_json:
        typer.echo(frame.to_json(orient="records"))
    elif out is None:
        typer.echo(frame.to_csv(index=False), nl=False)


@app.command(context_settings=_HELP)
@_command
def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    as_json: JsonOption = False,
) -> None:
    """Load a saved student and score it again on the graph that it was made from."""
    from dgl_rbm.console.summary import print_scores
    from dgl_rbm.evaluation.saved import evaluate_saved

    metrics = evaluate_saved(run)
    if as_json:
        typer.echo(json.dumps(metrics, indent=2))
        return
    print_scores(_stdout(), metrics)


@app.command(context_settings=_HELP)
@_command
def components(
    name: Annotated[str | None, typer.Argument(help="A kind (student) or a component (rbm).")] = None,
    component: Annotated[str | None, typer.Argument(help="A component of the kind named first.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List what exists, with every option, default and description."""
    from dgl_rbm.console.describe import component_summary, find_components, options_of
    from dgl_rbm.console.methods import print_methods

    if name in ("method", "methods"):
        print_methods(_stdout(), component, as_json=as_json)
        return
    found = find_components(name, component)
    if as_json:
        entries = [
            {"kind": kind, "name": key, "summary": component_summary(config), "options": list(options_of(config))}
            for kind, key, config in found
        ]
        typer.echo(json.dumps(entries, indent=2, default=str))
        return
    console = _stdout()
    if len(found) > 1 and component is None:
        table = Table()
        for title in ("kind", "name", "what it is"):
            table.add_column(title)
        for kind, key, config in found:
            table.add_row(kind, key, component_summary(config))
        console.print(table)
        console.print("`dgl-rbm components KIND NAME` lists a component's options, `... method` published methods.")
        return
    for kind, key, config in found:
        table = Table(title=f"{kind} {key}: {component_summary(config)}", title_justify="left")
        for title in ("option", "type", "default", "what it does"):
            table.add_column(title, overflow="fold")
        for option in options_of(config):
            default = "required" if option["required"] else json.dumps(option["default"], default=str)
            table.add_row(option["name"], option["type"], default, option["description"])
        console.print(table)


@app.command(context_settings=_HELP)
@_command
def init(
    path: Annotated[Path, typer.Argument(help="File to write.")] = Path("distill.yaml"),
    dataset: DatasetOption = None,
    method: MethodOption = None,
    recipe: RecipeOption = "published",
    teacher: TeacherOption = None,
    student: StudentOption = None,
    encoder: EncoderOption = None,
    regularizer: RegularizerOption = None,
    setting: SettingOption = None,
    force: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
) -> None:
    """Write a complete configuration in which a comment explains every option."""
    from dgl_rbm.console.describe import commented_yaml
    from dgl_rbm.training.checkpoint import write_atomic

    if path.exists() and not force:
        raise ConfigError(f"'{path}' exists already.", hint="Replace it with --force, or name another file.")
    resolved = _gather(
        None,
        None,
        dataset=dataset,
        method=method,
        recipe=recipe,
        teacher=teacher,
        student=student,
        encoder=encoder,
        regularizer=regularizer,
        setting=setting,
    )
    write_atomic(path, commented_yaml(resolved))
    typer.echo(f"Wrote {path}. Next: dgl-rbm distill --config {path}")


@app.command(context_settings=_HELP)
@_command
def validate(
    path: Annotated[Path, typer.Argument(help="Configuration file.")],
    overrides: SetOption = None,
    data: Annotated[bool, typer.Option("--data", help="Load the graph too and check it.")] = False,
) -> None:
    """Check a configuration, and with --data its graph, without training anything."""
    resolved = _gather(path, overrides)
    typer.echo(f"{path}: the configuration is valid.")
    if data:
        from dgl_rbm.data.load import load_task

        task = load_task(resolved.dataset, resolved.setting, resolved.seed)
        counts = f"{len(task.train_idx)} training, {len(task.val_idx)} validation, {len(task.test_idx)} test"
        typer.echo(
            f"{task.name}: {task.graph.num_nodes()} nodes, {task.graph.num_edges()} edges, "
            f"{task.features.shape[1]} features, {task.num_classes} classes; {counts} nodes."
        )
    typer.echo(f"Next: dgl-rbm distill --config {path}")


@app.command(context_settings=_HELP)
@_command
def doctor(as_json: JsonOption = False) -> None:
    """Print versions, CUDA, GraphBolt and the DGL build, and what follows from each."""
    from dgl_rbm.console.doctor import examine

    findings = list(examine())
    if as_json:
        typer.echo(json.dumps([vars(finding) for finding in findings], indent=2))
    else:
        table = Table()
        for title in ("", "found", "what follows"):
            table.add_column(title)
        for finding in findings:
            table.add_row(finding.subject, Text(finding.value, style="" if finding.ok else "bold red"), finding.meaning)
        _stdout().print(table)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
