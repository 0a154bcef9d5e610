"""What the command line says of checkpoints that it cannot read, or that are named oddly."""

import errno
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from checkpoint_tasks import Task, Tasks, entries_of
from paramserve_core.checkpoint.disk import LocalDisk
from paramserve_core.checkpoint.reader import CheckpointReader
from paramserve_core.errors import DataLossError
from paramserve_server.cli.checkpoint import checkpoint_app

VALUES = {"w": np.arange(6, dtype=np.float32), "names": ["a", "b"]}


def save(root, path):
    task = Task(root)
    task.set(**VALUES)
    Tasks(task).save(path, *entries_of(VALUES))
    return str(root / path)


def run(*arguments):
    return CliRunner().invoke(checkpoint_app, [str(a) for a in arguments])


@pytest.mark.parametrize("json_option", [[], ["--json"]])
def test_inspect_fails_where_a_file_is_missing(tmp_path, json_option):
    path = save(tmp_path, "m-1")
    next(p for p in tmp_path.iterdir() if p.name.endswith(".safetensors")).unlink()
    result = run("inspect", path, *json_option)
    assert result.exit_code == 1
    assert "is not on this machine" in result.stderr
    assert "float32" in result.stdout


def test_a_number_in_a_name_that_can_be_no_step_is_none(tmp_path):
    path = save(tmp_path, f"m-{1 << 63}")
    assert json.loads(run("ls", tmp_path, "--json").stdout)[0]["step"] is None
    assert run("convert", path, tmp_path / "n").exit_code == 0


class FailingDisk(LocalDisk):
    """A disk on which reading of a file fails once it is open."""

    def open(self, path):
        return FailingFile(super().open(path), fails=path.name.endswith(".safetensors"))


class FailingFile:
    def __init__(self, file, *, fails):
        self._file = file
        self._fails = fails

    def __getattr__(self, name):
        return getattr(self._file, name)

    def read_into(self, buffer, offset):
        if self._fails:
            raise OSError(errno.EIO, "Input/output error", str(self._file.path))
        self._file.read_into(buffer, offset)


def test_verify_tells_what_a_failing_disk_does_not_read(tmp_path):
    reader = CheckpointReader(save(tmp_path, "m-1"), FailingDisk())
    found = [error for _, error in reader.verify()]
    assert [type(error) for error in found] == [DataLossError] * 3
    assert all("the disk reports an error" in error.message for error in found)
