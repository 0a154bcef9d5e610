"""The examples as a user starts them: alone, on a server, and as two workers of a cluster."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from processes import command_line, server

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"
# Steps, and the percentage that they must reach: what chance gives is 10, and 0.6 of synonyms.
TRAININGS = {
    "softmax_regression": (150, 85),
    "dropout_network": (120, 85),
    "convolutional_network": (60, 80),
    "word2vec": (400, 20),
}
FINAL = re.compile(r"^(?:\[worker \d\] )?(?:test accuracy|synonyms found) ([\d.]+)%$", re.MULTILINE)


def finals(command: list[str], folder: Path) -> list[float]:
    """Runs a command; answers the accuracies in percent that its programs ended with."""
    # Other tests run beside it; a thread of BLAS for each core would only wait for theirs.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr
    return [float(found) for found in FINAL.findall(done.stdout)]


def program(name: str, *options: str) -> list[str]:
    return [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *options]


@pytest.mark.parametrize("name", TRAININGS)
def test_an_example_learns_in_its_own_process(name, tmp_path):
    steps, wanted = TRAININGS[name]
    (accuracy,) = finals(program(name, "--steps", str(steps), "--seed", "1"), tmp_path)
    assert accuracy >= wanted


@pytest.mark.parametrize("name", TRAININGS)
def test_an_example_learns_on_a_server(name, tmp_path):
    steps, wanted = TRAININGS[name]
    with server(tmp_path / "server") as process:
        command = program(name, "--steps", str(steps), "--target", process.target)
        (accuracy,) = finals(command, tmp_path)
    assert accuracy >= wanted


@pytest.mark.parametrize("name", TRAININGS)
def test_two_workers_train_an_example_on_two_servers(name, tmp_path):
    steps, wanted = TRAININGS[name]
    launch = command_line("run", "--ps", "2", "--workers", "2", "--checkpoint-root", str(tmp_path))
    accuracies = finals([*launch, "--", *program(name, "--steps", str(steps))], tmp_path)
    assert len(accuracies) == 2
    assert min(accuracies) >= wanted
