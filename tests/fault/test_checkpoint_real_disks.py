"""Disks that are really full, limited, read-only or closed to this user, met by real processes."""

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from checkpoint_tasks import Task, Tasks, array_of, entries_of
from memory_disk import MemoryDisk
from paramserve_core.errors import DataLossError

pytestmark = pytest.mark.slow

BEGIN = """
import os, resource, sys
from pathlib import Path
import numpy as np
from checkpoint_tasks import Task, Tasks, entries_of
from paramserve_core.errors import OpError

folder = Path(sys.argv[1])

def save(path, size, layout=0):
    value = {"biases": np.ones(3), "weights": np.arange(float(size))}
    task = Task(folder)
    task.set(**value)
    try:
        Tasks(task).save(path, *entries_of(value), format=layout)
    except OpError as error:
        return f"{type(error).__name__}: {error.message}"
    return "saved"

def restore(path, size):
    value = {"biases": np.ones(3), "weights": np.arange(float(size))}
    task = Task(folder)
    Tasks(task).restore(path, *entries_of(value))
    assert task.get("weights").tolist() == value["weights"].tolist()

assert save("first", 1000) == "saved"
before = sorted(os.listdir(folder))
"""

END = """
assert sorted(os.listdir(folder)) == before
restore("first", 1000)
make_room()
for layout in (0, 2):
    assert save("second", 400_000, layout) == "saved"
    restore("second", 400_000)
restore("first", 1000)
"""

FULL = (
    BEGIN
    + """
room = os.statvfs(folder)
(folder / "filler").write_bytes(bytes(room.f_bavail * room.f_frsize - 1_000_000))
before = sorted(os.listdir(folder))
for layout in (0, 2):
    print(save("second", 400_000, layout))

def make_room():
    (folder / "filler").unlink()
"""
    + END
)

LIMITED = (
    BEGIN
    + """
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
for layout in (0, 2):
    print(save("second", 400_000, layout))

def make_room():
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""
    + END
)

CLOSED = (
    BEGIN
    + """
os.chmod(folder, 0o555)
if os.geteuid() == 0:
    os.seteuid(65534)
print(save("second", 1000))
os.seteuid(os.getuid())

def make_room():
    os.chmod(folder, 0o755)
"""
    + END
)

READ_ONLY = (
    BEGIN
    + """
import subprocess

def make_room():
    subprocess.run(["mount", "-o", "remount,rw", folder], check=True)

subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
print(save("second", 1000))
"""
    + END
)


def run(program: str, folder: Path, *before: str) -> list[str]:
    """What a program prints, after it found all as it should be."""
    done = subprocess.run(
        [*before, sys.executable, "-c", program, str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def with_own_disk(program: str, folder: Path) -> list[str]:
    """Runs a program in a namespace of its own, in which `folder` is a disk of 16 MB."""
    mount = 'mount -t tmpfs -o size=16m none "$0" && exec "$@"'
    namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, str(folder)]
    try:
        possible = subprocess.run([*namespace, "true"], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no unshare(1) here, which makes namespaces")
    if possible.returncode:
        pytest.skip(f"namespaces are not permitted here: {possible.stderr.strip()}")
    return run(program, folder, *namespace)


def test_full_disk_is_named_with_its_tensor_and_earlier_checkpoints_are_whole(tmp_path):
    said = with_own_disk(FULL, tmp_path)
    assert len(said) == 2
    for line in said:
        assert line.startswith(f"ResourceExhaustedError: {tmp_path}/second.")
        assert "the disk is full: free space" in line
        assert "2 tensors, the largest 'weights' of 3200000 bytes" in line


def test_file_beyond_the_limit_of_the_process_is_named_and_earlier_checkpoints_are_whole(tmp_path):
    said = run(LIMITED, tmp_path)
    assert len(said) == 2
    for line in said:
        assert line.startswith(f"ResourceExhaustedError: {tmp_path}/second.")
        assert "larger than the system allows" in line
        assert "the largest 'weights' of 3200000 bytes" in line


def test_folder_that_is_closed_to_the_user_is_named(tmp_path):
    # Not in pytest's folder, which itself is closed to others.
    with tempfile.TemporaryDirectory() as folder:
        (said,) = run(CLOSED, Path(folder))
        assert said.startswith(f"PermissionDeniedError: {folder}/second.")
        assert "this process may not (Permission denied)" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up being root")
def test_folder_below_one_that_is_closed_to_the_user_is_named(tmp_path):
    tmp_path.parent.chmod(0o700)
    (said,) = run(CLOSED, tmp_path)
    assert said.startswith(f"PermissionDeniedError: {tmp_path}: this process may not")


def test_read_only_disk_is_named(tmp_path):
    (said,) = with_own_disk(READ_ONLY, tmp_path)
    assert said.startswith(f"PermissionDeniedError: {tmp_path}/second.")
    assert "the file system is read-only" in said


def test_disk_that_fails_while_it_is_read_changes_no_variable():
    root = Path("/checkpoints")
    disk = MemoryDisk()
    disk.make_directory(root)
    values = {"weights": np.arange(6.0), "names": ["left", "right"]}
    task = Task(root, disk=disk)
    task.set(**values)
    Tasks(task).save("model", *entries_of(values))
    old = {"weights": np.zeros(6), "names": ["-", "-"]}
    task.set(**old)
    begin = disk.operations
    Tasks(Task(root, disk=disk)).restore("model", *entries_of(values))
    operations = disk.operations - begin
    assert operations > 5
    for at in range(operations):
        last = disk.operations + at

        def fail(operation: str, path: Path, last: int = last) -> None:
            if disk.operations > last:
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

        disk.before = fail
        with pytest.raises(DataLossError, match=rf"{root}.*: the disk reports an error"):
            Tasks(task).restore("model", *entries_of(values))
        for name, value in old.items():
            assert np.array_equal(task.get(name), array_of(value))
