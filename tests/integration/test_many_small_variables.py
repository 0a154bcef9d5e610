"""Checkpoints of very many small variables: they are right, and the disk is not asked for each."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checkpoint_tasks import Task, Tasks, entries_of
from paramserve_core.checkpoint.disk import DiskFile, LocalDisk
from paramserve_core.checkpoint.reader import CheckpointReader

pytestmark = pytest.mark.slow

VARIABLES = 20_000
ELEMENTS = 64


class CountingDisk(LocalDisk):
    """A disk that counts files that are made, and how often they are written to."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def create(self, path: Any, size: int) -> DiskFile:
        self.counts["create"] += 1
        file = super().create(path, size)
        write_at, sync = file.write_at, file.sync

        def counted_write(data: Any, offset: int) -> None:
            self.counts["write"] += 1
            write_at(data, offset)

        def counted_sync() -> None:
            self.counts["sync"] += 1
            sync()

        file.write_at, file.sync = counted_write, counted_sync  # type: ignore[method-assign]
        return file


def values_of(count: int) -> dict[str, np.ndarray[Any, Any]]:
    """Values that all differ, of sizes that do too."""
    return {
        f"layer{i}/w": np.arange(i, i + ELEMENTS - i % 3, dtype=np.float32) for i in range(count)
    }


def save(directory: Path, count: int) -> CountingDisk:
    disk = CountingDisk()
    task = Task(directory, disk=disk)
    values = values_of(count)
    task.set(**values)
    Tasks(task).save("model", *entries_of(values))
    return disk


def test_very_many_variables_come_back_with_their_own_values(tmp_path):
    values = values_of(VARIABLES)
    entries = entries_of(values)
    task = Task(tmp_path)
    task.set(**values)
    Tasks(task).save("model", *entries)

    fresh = Task(tmp_path)
    Tasks(fresh).restore("model", *entries)
    wrong = [name for name, value in values.items() if not np.array_equal(fresh.get(name), value)]
    assert not wrong

    found = CheckpointReader(tmp_path / "model").get_variable_to_shape_map()
    assert found == {name: list(value.shape) for name, value in values.items()}


def test_small_variables_are_not_written_one_by_one(tmp_path):
    few, many = tmp_path / "few", tmp_path / "many"
    few.mkdir()
    many.mkdir()
    for_few = save(few, 10).counts
    for_many = save(many, VARIABLES).counts
    assert for_many["create"] == for_few["create"]
    assert for_many["sync"] == for_few["sync"]
    # 5 MB, a megabyte at a time.
    assert for_many["write"] <= for_few["write"] + 5
