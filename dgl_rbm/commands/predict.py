"""`dgl-rbm predict`: predict rows with a saved student."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dgl_rbm.commands.base import guarded, stderr
from dgl_rbm.commands.completion import complete_run
from dgl_rbm.commands.options import JsonOption
from dgl_rbm.console.loading import TORCH
from dgl_rbm.console.notes import print_note

__all__ = ["predict"]


@guarded(TORCH)
def predict(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.", autocompletion=complete_run)],
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="Rows: .npy, .npz, .csv, .parquet; or a graph: .bin, a CSV folder.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to write: .csv, .parquet or .npy; else the screen.")
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            help="Feature field or pattern of a graph; several separated by commas; that of the run by default."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Predict labels and probabilities of new rows with a saved student; no graph library is needed for rows.

    Node ids, as in the columns 'node_id' and 'neighbors' of a table, and labels are those of the training graph.
    """
    from dgl_rbm.data.requests import predictions_table, read_request, write_predictions
    from dgl_rbm.run.run import Run

    saved = Run.load(run)
    predictor = saved.predictor
    # Only graphs need the dataset's options, which import DGL.
    dataset = saved.config.dataset if source.is_dir() or source.suffix.lower() == ".bin" else None
    request = read_request(source, predictor, features=features.split(",") if features else None, dataset=dataset)
    if predictor.encodings.dim and not request.has_structure:
        print_note(
            stderr(),
            "this student also reads structural encodings. Without a column 'node_id' or 'neighbors' every row is "
            "taken for a node without known neighbours.",
        )
    frame = predictions_table(predictor.student.predict_proba(request.inputs(predictor)), predictor, request.ids)
    if out is not None:
        write_predictions(frame, out)
        stderr().print(f"{len(frame)} predictions written to {out}.", soft_wrap=True)
    if as_json:
        typer.echo(frame.to_json(orient="records"))
    elif out is None:
        typer.echo(frame.to_csv(index=False), nl=False)
