"""`dgl-rbm init`: write a configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dgl_rbm.commands.base import gather, guarded
from dgl_rbm.commands.options import (
    DatasetOption,
    EncoderOption,
    MethodOption,
    RecipeOption,
    RegularizerOption,
    SettingOption,
    StudentOption,
    TeacherOption,
)
from dgl_rbm.errors import ConfigError

__all__ = ["init"]


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
    from dgl_rbm.runtime.checkpoint import write_atomic

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
