"""`python -m benchmarks` runs from a checkout, checks its results, and leaves no process behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "benchmarks", "--quick", "--peers", "shm")


def test_a_quick_run_measures_every_workload_and_writes_tables_figures_and_plot(tmp_path):
    done = subprocess.run(
        [*COMMAND, "--output", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    listed = subprocess.run(
        [*COMMAND, "--list"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = {line.split()[0] for line in listed.stdout.splitlines()} - {"imports"}
    figures = json.loads((tmp_path / "performance.json").read_text())
    measured = {m["workload"]: m["results"] for m in figures["measurements"]}
    assert set(measured) == names
    for results in measured.values():
        assert results["shm"]["rounds_s"][0] > 0
    assert figures["imports_s"]["paramserve"] > 0
    assert "scalar update, round trip" in (tmp_path / "performance.md").read_text()
    assert (tmp_path / "performance.svg").read_text().startswith("<?xml")


def test_an_interrupted_run_ends_its_processes_and_writes_nothing(tmp_path):
    with subprocess.Popen(
        [*COMMAND, "--output", str(tmp_path / "out")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while "bytes: " not in process.stdout.readline():
            assert process.poll() is None
        started = psutil.Process(process.pid).children(recursive=True)
        assert len(started) == 2  # a server and a worker
        process.send_signal(signal.SIGINT)
        assert "its processes have ended" in process.stderr.read()
        assert process.wait(timeout=30) == 130
    assert not [child for child in started if child.is_running()]
    assert not (tmp_path / "out").exists()
