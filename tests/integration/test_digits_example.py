"""The digits example as a user starts it: trained, killed, restored, measured again."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from processes import command_line

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits.py"
ACCURACY = re.compile(r"test accuracy of the checkpoint: ([\d.]+)%")
PNG = b"\x89PNG\r\n\x1a\n"


def run(folder: Path, workers: int, *options: str) -> str:
    """Runs the example on two servers of its own; answers what it printed."""
    launch = command_line("run", "--ps", "2", "--workers", str(workers))
    root = ["--checkpoint-root", str(folder / "checkpoints")]
    done = subprocess.run(
        [*launch, *root, "--", sys.executable, str(EXAMPLE), *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_restored_model_is_as_good_as_the_trained_one(tmp_path):
    printed = run(tmp_path, 2, "--steps", "700", "--plot", "plot.png", "--logdir", "logs")
    (trained,) = ACCURACY.findall(printed)
    assert float(trained) > 95
    assert len(re.findall(r"step +\d+ +test loss", printed)) >= 3
    assert (tmp_path / "plot.png").read_bytes().startswith(PNG)
    assert list((tmp_path / "logs").glob("events.out.tfevents.*"))
    disks = [tmp_path / "checkpoints" / name for name in ("ps0", "ps1")]
    assert all(list(disk.glob("*.safetensors")) for disk in disks)
    (restored,) = ACCURACY.findall(run(tmp_path, 1, "--restore"))
    assert restored == trained
