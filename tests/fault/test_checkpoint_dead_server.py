"""How long a save or a restore waits for a server that is gone, on the simulation's clock."""

from pathlib import Path

import pytest

from checkpoint_tasks import entry
from memory_disk import MemoryDisk
from paramserve_core import dtypes
from paramserve_core.checkpoint.entries import pack_entries
from paramserve_core.checkpoint.task_side import TaskCheckpoints
from paramserve_core.errors import DeadlineExceededError, UnavailableError
from paramserve_protos.v1 import checkpoint_service_pb2 as messages
from simulation.cluster import Cluster
from simulation.network import Weather

ROOT = Path("/checkpoints")
ENTRIES = [entry(f"counter{i}", dtypes.int64, [], node=f"counter{i}") for i in range(2)]
for _entry in ENTRIES:
    _entry.shared_name = "counter"
FOREVER_S = 1e9
RECONNECT_S = 15.0


class Mortals(Cluster):
    """Two servers with disks, of which one may die for good, or answer nothing any more."""

    def __init__(self):
        super().__init__(1, Weather(delay_s=0.001), tasks=2, checkpoints=self._checkpoints_of)

    def _checkpoints_of(self, name, store):
        disk = MemoryDisk(self.names.index(name))
        disk.make_directory(ROOT)
        return TaskCheckpoints(store, name, ROOT, self.runtime, disk)

    def kill(self, number):
        self.network.weather = Weather(delay_s=0.001, restart_s=FOREVER_S)
        self.servers[number].crash()
        self.runtime.sleep(0.1)  # Its clients hear of it.

    def silence(self, number):
        self.servers[number].pipes.copy().pop().client_end.peer = None


def save(master, timeout_s=None):
    request = messages.SaveRequest(path="model", entries=pack_entries(ENTRIES))
    master.save(request, timeout_s)


def begin_save(master, timeout_s=None):
    request = messages.SaveRequest(path="model", entries=pack_entries(ENTRIES))
    master.begin_save(request, timeout_s)


def restore(master, timeout_s=None):
    request = messages.RestoreRequest(path="model", entries=pack_entries(ENTRIES))
    master.restore(request, timeout_s)


def read_state(master, timeout_s=None):
    master.read_checkpoint_state(messages.ReadStateRequest(directory=""), timeout_s)


def waited_for(do, error_type, timeout_s, lose):
    """The error of an operation on two servers, of which `lose` takes one, and how long it took."""
    cluster = Mortals()

    def client():
        master = cluster.master()
        save(master)
        lose(cluster)
        began = cluster.scheduler.now
        with pytest.raises(error_type) as raised:
            do(master, timeout_s)
        return raised.value, cluster.scheduler.now - began

    return cluster.scheduler.run(client)


@pytest.mark.parametrize("do", [save, begin_save, restore])
def test_a_dead_server_is_waited_for_once_and_named(do):
    error, waited_s = waited_for(do, UnavailableError, None, lambda cluster: cluster.kill(1))
    assert error.task == "/job:ps/replica:0/task:1"
    assert "could not be reached for 15 s" in error.message
    assert "ps1:2222" in error.message
    assert waited_s <= RECONNECT_S


@pytest.mark.parametrize("do", [save, begin_save, restore])
def test_a_dead_server_is_waited_for_no_longer_than_the_operation_may_take(do):
    error, waited_s = waited_for(do, DeadlineExceededError, 3.0, lambda cluster: cluster.kill(1))
    assert error.task == "/job:ps/replica:0/task:1"
    assert "within the 3 s that the operation may take" in error.message
    assert 2.9 < waited_s < 3.1


@pytest.mark.parametrize("do", [save, begin_save, restore, read_state])
def test_a_server_that_answers_nothing_is_waited_for_as_long_as_the_operation_may_take(do):
    error, waited_s = waited_for(do, DeadlineExceededError, 3.0, lambda cluster: cluster.silence(1))
    assert error.task == "/job:ps/replica:0/task:1"
    assert "operation_timeout_in_ms" in error.message
    assert 2.9 < waited_s < 3.1


def test_what_cleans_up_reaches_a_server_that_returns():
    cluster = Mortals()

    def client():
        master = cluster.master()
        save(master)
        server = cluster.servers[1]
        acceptor, server.acceptor = server.acceptor, None
        server.pipes.copy().pop().break_now()
        with pytest.raises(UnavailableError):
            save(master)
        server.acceptor = acceptor  # The network was gone, the process was not.
        cluster.runtime.sleep(5.0)
        save(master)

    cluster.scheduler.run(client)


def test_the_time_of_a_save_in_the_background_ends_with_its_moment():
    cluster = Mortals()

    def client():
        master = cluster.master()
        request = messages.SaveRequest(path="model", entries=pack_entries(ENTRIES))
        cluster.network.weather = Weather(delay_s=0.2)
        running = master.begin_save(request, 2.0)
        cluster.network.weather = Weather(delay_s=3.0)
        return running.result().path

    assert cluster.scheduler.run(client) == "model"
