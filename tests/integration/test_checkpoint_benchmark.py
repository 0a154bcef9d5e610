"""`python -m benchmarks.checkpoint` runs from a checkout and checks what it restores."""

from __future__ import annotations

import importlib
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "benchmarks.checkpoint", "--quick", "--alone")
KINDS = ("turns", "same", "control")


def test_a_quick_run_saves_restores_trains_and_writes_page_and_figures(tmp_path):
    output = tmp_path / "docs"
    chosen = ("--only", "many", "--only", "flat", "--only", "training")
    done = subprocess.run(
        [*COMMAND, *chosen, "--directory", str(tmp_path), "--output", str(output)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((output / "performance-checkpoints.json").read_text())
    for model in ("many", "flat"):
        for peer in ("in process", "server", "disk"):
            rounds = figures["saved"][model][peer]
            assert rounds["durable"][0] > 0
            assert rounds["restore"][0] > 0
    kinds = {f"{which} {how}" for which in KINDS for how in ("alone", "saving")}
    assert set(figures["trained"]) == kinds
    assert figures["trained"]["turns saving"]["steps"][0] >= 1
    assert figures["trained"]["control saving"]["steps"][0] >= 1
    page = (output / "performance-checkpoints.md").read_text()
    assert done.stdout.rpartition("round 1 of 1")[2].strip() in page
    assert [path.name for path in tmp_path.iterdir()] == ["docs"]


class Forgetful:
    """A peer whose restores bring nothing back."""

    def __init__(self) -> None:
        self.value = 1

    def save(self) -> dict[str, float]:
        return {"durable": 1.0}

    def restore(self) -> dict[str, float]:
        return {"restore": 1.0}

    def spoil(self) -> None:
        self.value = 2

    def is_right(self) -> bool:
        return self.value == 1


def test_a_restore_that_brings_nothing_back_is_told(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT))
    models = importlib.import_module("benchmarks.checkpoint.models")
    monkeypatch.setattr(sys, "stdin", io.StringIO("save\nrestore\n"))
    models.obey(Forgetful())
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert answers[0] == "ready"
    assert [answer["is_right"] for answer in answers[1:]] == [True, False]
