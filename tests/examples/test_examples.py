"""Each script in ``examples/`` runs on its own and draws its figures."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
PICTURES = {
    "custom_component": ["custom_component.png"],
    "first_distillation": ["first_distillation.png", "first_distillation_curves.png"],
    "inductive_unseen_nodes": ["inductive_unseen_nodes.png"],
    "sampled_training": ["sampled_training.png"],
    "what_routing_learned": ["what_routing_learned.png"],
    "your_own_graph": ["your_own_graph.png"],
}


def test_the_scripts_are_the_ones_listed_here() -> None:
    assert [script.stem for script in SCRIPTS] == sorted(PICTURES)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_draws_its_pictures(script: Path, tmp_path: Path) -> None:
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    threads = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(
        [sys.executable, str(script), "--out", str(tmp_path / "new" / "folder")],
        cwd=tmp_path,
        env=os.environ | threads,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip(), "it prints what it found"
    assert "Warning" not in done.stderr, done.stderr
    drawn = sorted(path.name for path in (tmp_path / "new" / "folder").glob("*.png"))
    assert drawn == PICTURES[script.stem]
    for name in drawn:
        path = tmp_path / "new" / "folder" / name
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        assert path.stat().st_size > 5_000
        # Decoding checks the checksums; a blank page has one colour.
        pixels = matplotlib.image.imread(path)[..., :3]
        assert min(pixels.shape[:2]) > 300
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_is_short_and_says_what_it_shows(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 100
    assert len(ast.get_docstring(ast.parse(text)) or "") > 60
