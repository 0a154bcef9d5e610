"""Saves and restores over a network and disks that fail, as the seed says.

One seed alone: PARAMSERVE_SEED=1234 pytest tests/fault/test_checkpoint_simulated.py
"""

import os
from pathlib import Path

import greenlet
import numpy as np
import pytest

from checkpoint_tasks import entry
from memory_disk import MemoryDisk
from paramserve_core import dtypes
from paramserve_core.checkpoint.entries import pack_entries
from paramserve_core.checkpoint.task_side import TaskCheckpoints
from paramserve_core.errors import NotFoundError, OpError
from paramserve_protos.v1 import checkpoint_service_pb2 as messages
from simulation.cluster import Cluster
from simulation.network import Weather

ONE_SEED = os.environ.get("PARAMSERVE_SEED")
ROOT = Path("/checkpoints")
ENTRIES = [entry(f"counter{i}", dtypes.int64, [], node=f"counter{i}") for i in range(2)]
for _entry in ENTRIES:
    _entry.shared_name = "counter"


class ProcessDisk:
    """A disk as one process has it: when the process is gone, so is whoever still uses it."""

    def __init__(self, disk: MemoryDisk) -> None:
        self._disk = disk
        self._restarts = disk.restarts

    def __getattr__(self, name):
        if self._disk.restarts != self._restarts:
            raise greenlet.GreenletExit
        return getattr(self._disk, name)


class DiskCluster(Cluster):
    """Two servers with a disk each, which loses what was not synced when its server crashes."""

    def __init__(self, seed: int, weather: Weather) -> None:
        self.disks: dict[str, MemoryDisk] = {}
        super().__init__(seed, weather, tasks=2, checkpoints=self._checkpoints_of)

    def _checkpoints_of(self, name, store):
        disk = self.disks.get(name)
        if disk is None:
            disk = self.disks[name] = MemoryDisk(len(self.disks))
            disk.make_directory(ROOT)
        else:
            disk.restart()
        return TaskCheckpoints(store, name, ROOT, self.runtime, ProcessDisk(disk))

    def counters(self) -> tuple[int, int]:
        first, second = (self.value(name) for name in self.names)
        return first, second


def save(master, path: str) -> None:
    state = messages.StateUpdate(all_paths=[path])
    master.save(messages.SaveRequest(path=path, entries=pack_entries(ENTRIES), state=state))


def restore(master, path: str) -> None:
    master.restore(messages.RestoreRequest(path=path, entries=pack_entries(ENTRIES)))


def train_through_crashes(seed: int) -> None:
    """One client trains, saves, and after each failure goes on from the last checkpoint."""
    weather = Weather(breaks=0.01, doubles=0.05, refuses=0.1, crashes=0.01)
    cluster = DiskCluster(seed, weather)
    may_be_saved = {0}
    """What the checkpoint may hold: the last acknowledged save, or one attempted since."""

    def client():
        nonlocal may_be_saved
        progress, left = 0, 12
        while left:
            master = cluster.master()
            try:
                plan = master.prepare([], ["delta0:0", "delta1:0"], ["add0", "add1"])
                read = master.prepare(["counter0:0", "counter1:0"], [], [])
                try:
                    restore(master, "model")
                except NotFoundError:
                    assert 0 in may_be_saved  # No save was acknowledged yet.
                    reset(master)
                # Asked for, because a server may have crashed since.
                first, second = map(int, master.run(read, []))
                assert first == -second
                assert first in may_be_saved
                progress = first
                while left:
                    left -= 1
                    progress += 1
                    master.run(plan, [np.asarray(1), np.asarray(-1)])
                    may_be_saved = may_be_saved | {progress}
                    save(master, "model")
                    may_be_saved = {progress}
            except OpError:
                left = max(left, 1)
            finally:
                master.close()

    def reset(master):
        current = cluster.counters()
        plan = master.prepare([], ["delta0:0", "delta1:0"], ["add0", "add1"])
        master.run(plan, [np.asarray(-c) for c in current])

    cluster.scheduler.run(client)
    calm(cluster)
    final: list[tuple[int, int]] = []

    def check():
        master = cluster.master()
        restore(master, "model")
        final.append(cluster.counters())
        save(master, "next")
        restore(master, "model")
        final.append(cluster.counters())
        master.close()

    cluster.scheduler.run(check)
    assert final[0] == final[1]
    assert final[0][0] == -final[0][1]
    assert final[0][0] in may_be_saved
    for disk in cluster.disks.values():
        # A shard and an index of each checkpoint, and the state file: nothing is left over.
        assert len(disk.names(ROOT)) == 5, disk.names(ROOT)


def save_while_others_move(seed: int) -> None:
    """What is saved while steps run on both tasks has no step half in it."""
    cluster = DiskCluster(seed, Weather(breaks=0.02, doubles=0.1, refuses=0.1))
    done = [cluster.runtime.event() for _ in range(3)]

    def mover(event):
        master = cluster.master()
        plan = master.prepare([], ["delta0:0", "delta1:0"], ["add0", "add1"])
        for step in range(1, 5):
            master.run(plan, [np.asarray(step), np.asarray(-step)])
        master.close()
        event.set()

    def saver(event):
        master = cluster.master()
        for i in range(3):
            save(master, f"model-{i}")
        master.close()
        event.set()

    def everybody():
        for client, event in zip((mover, mover, saver), done, strict=True):
            cluster.runtime.spawn("client", lambda client=client, event=event: client(event))
        for event in done:
            event.wait()

    cluster.scheduler.run(everybody)
    assert cluster.counters() == (20, -20)
    sums = []

    def check():
        master = cluster.master()
        for i in range(3):
            restore(master, f"model-{i}")
            sums.append(sum(cluster.counters()))
        master.close()

    cluster.scheduler.run(check)
    assert sums == [0, 0, 0]


def restore_while_others_move(seed: int) -> None:
    """No step finds a restore half done: what two tasks have together is always the same."""
    cluster = DiskCluster(seed, Weather(breaks=0.02, doubles=0.1, refuses=0.1))
    done = [cluster.runtime.event() for _ in range(3)]

    def mover(event):
        master = cluster.master()
        plan = master.prepare([], ["delta0:0", "delta1:0"], ["add0", "add1"])
        for step in range(1, 20):
            master.run(plan, [np.asarray(step), np.asarray(-step)])
        master.close()
        event.set()

    def restorer(event):
        master = cluster.master()
        save(master, "model")
        for _ in range(6):
            restore(master, "model")
        master.close()
        event.set()

    def everybody():
        for client, event in zip((mover, mover, restorer), done, strict=True):
            cluster.runtime.spawn("client", lambda client=client, event=event: client(event))
        for event in done:
            event.wait()

    cluster.scheduler.run(everybody)
    assert sum(cluster.counters()) == 0


def calm(cluster: DiskCluster) -> None:
    """The weather is good from now on, and all servers are up."""
    cluster.network.calm()

    def wait():
        while any(server.acceptor is None for server in cluster.servers):
            cluster.runtime.sleep(0.1)
        cluster.runtime.sleep(60.0)  # Sessions that were left alone have ended.

    cluster.scheduler.run(wait)


def run_all(scenario, seeds: range) -> None:
    for seed in seeds:
        try:
            scenario(seed)
        except BaseException as error:
            error.add_note(
                f"replay: PARAMSERVE_SEED={seed} pytest {__file__} -k {scenario.__name__}"
            )
            raise


def blocks(count: int, size: int = 50) -> list[range]:
    if ONE_SEED is not None:
        return [range(int(ONE_SEED), int(ONE_SEED) + 1)]
    return [range(begin, begin + size) for begin in range(0, count, size)]


def ids(seeds: range) -> str:
    return f"{seeds.start}-{seeds.stop - 1}"


@pytest.mark.slow
@pytest.mark.parametrize("seeds", blocks(100), ids=ids)
def test_train_through_crashes(seeds):
    run_all(train_through_crashes, seeds)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", blocks(50), ids=ids)
def test_save_while_others_move(seeds):
    run_all(save_while_others_move, seeds)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", blocks(50), ids=ids)
def test_restore_while_others_move(seeds):
    run_all(restore_while_others_move, seeds)
