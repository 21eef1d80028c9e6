"""Commands that train nothing: what there is, what a configuration holds, what this machine can do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from dgl_rbm.commands.base import gather, guarded, stdout
from dgl_rbm.console.options import (
    DatasetOption,
    EncoderOption,
    JsonOption,
    MethodOption,
    RecipeOption,
    RegularizerOption,
    SetOption,
    SettingOption,
    StudentOption,
    TeacherOption,
)
from dgl_rbm.errors import ConfigError

__all__ = ["components", "doctor", "init", "validate"]


@guarded
def components(
    name: Annotated[str | None, typer.Argument(help="A kind (student) or a component (rbm).")] = None,
    component: Annotated[str | None, typer.Argument(help="A component of the kind named first.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List what exists, with every option, default and description."""
    from dgl_rbm.console.describe import component_summary, find_components, options_of
    from dgl_rbm.console.methods import print_methods

    if name in ("method", "methods"):
        print_methods(stdout(), component, as_json=as_json)
        return
    found = find_components(name, component)
    if as_json:
        entries = [
            {"kind": kind, "name": key, "summary": component_summary(config), "options": list(options_of(config))}
            for kind, key, config in found
        ]
        typer.echo(json.dumps(entries, indent=2, default=str))
        return
    console = stdout()
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


@guarded
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
    resolved = gather(
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


@guarded
def validate(
    path: Annotated[Path, typer.Argument(help="Configuration file.")],
    overrides: SetOption = None,
    data: Annotated[bool, typer.Option("--data", help="Load the graph too and check it.")] = False,
) -> None:
    """Check a configuration, and with --data its graph, without training anything."""
    resolved = gather(path, overrides)
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


@guarded
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
        stdout().print(table)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)
