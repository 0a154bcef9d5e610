"""Checkpoints of very many small variables: they are right, and the disk is not asked for each."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import paramserve as ps
from checkpoint_tasks import Task, Tasks, entries_of
from paramserve._framework.apply import apply_op
from paramserve_core.checkpoint.disk import DiskFile, LocalDisk
from paramserve_core.checkpoint.reader import CheckpointReader
from paramserve_core.shapes import TensorShape
from paramserve_protos.v1.saver_pb2 import SaverDef

pytestmark = pytest.mark.slow

VARIABLES = 20_000
SERVED = 100_000
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


def test_a_hundred_thousand_variables_of_a_server_come_back_bit_for_bit(tmp_path):
    random = np.random.default_rng(7)
    values = {f"layer{i}/w": random.random(ELEMENTS, np.float32) for i in range(SERVED)}
    task = Task(tmp_path)
    task.set(**values)
    Tasks(task).save("first", *entries_of(values))
    with ps.train.Server({"ps": ["127.0.0.1:0"]}, checkpoint_root=str(tmp_path)) as server:
        with ps.Graph().as_default() as graph:
            shape = TensorShape([ELEMENTS])
            # The bare ops: what else a variable has takes ten times as long to make.
            refs = [apply_op("VariableV2", name, shape=shape, dtype=ps.float32) for name in values]
            saver = ps.train.Saver(refs, saver_def=SaverDef())
        with ps.Session(server.target, graph=graph) as session:
            saver.restore(session, "first")
            saver.save(session, "second", write_meta_graph=False)
            saver.restore(session, "second")
            saver.save(session, "third", write_meta_graph=False)
    fresh = Task(tmp_path)
    Tasks(fresh).restore("third", *entries_of(values))
    wrong = [name for name, value in values.items() if not np.array_equal(fresh.get(name), value)]
    assert not wrong
    shards = {path.read_bytes() for path in tmp_path.glob("*.safetensors")}
    assert len(shards) == 1
