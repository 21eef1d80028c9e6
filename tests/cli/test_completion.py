"""Shell completion, asked as a shell asks it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ASK = """
import sys
from dgl_rbm.cli import app
try:
    app(prog_name="dgl-rbm")
finally:
    assert "torch" not in sys.modules and "dgl" not in sys.modules
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("distill --student r", {"rbm"}),
        ("distill --teacher sage+ap", {"sage+appnp"}),
        ("distill --method nos", {"nosmog", "nosmog+"}),
        ("distill --dataset amazon-p", {"amazon-photo"}),
        ("components encoder deep", {"deepwalk"}),
        ("evaluate ", {"runs/one"}),
        ("predict runs/o", {"runs/one"}),
    ],
)
def test_names_and_folders(line: str, expected: set[str], tmp_path: Path) -> None:
    for name, file in (("one", "metrics.json"), ("unfinished", "started.yaml")):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / file).write_text("")
    words = f"dgl-rbm {line}"
    asked = {"_DGL_RBM_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = subprocess.run(
        [sys.executable, "-c", ASK], env=os.environ | asked, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert expected <= set(done.stdout.split()), done.stdout
    assert "runs/unfinished" not in done.stdout
