"""Invariants of the whole system under thousands of seeded fault schedules.

One seed alone: PARAMSERVE_SEED=1234 pytest tests/fault/test_simulated_cluster.py
"""

import os
from collections import Counter

import numpy as np
import pytest

from paramserve_core.errors import AbortedError, DeadlineExceededError, UnavailableError
from paramserve_core.master.cut import consistent_cut
from simulation.cluster import Cluster
from simulation.network import Weather

ONE_SEED = os.environ.get("PARAMSERVE_SEED")
BLOCK = 50


def blocks(count: int) -> list[range]:
    """Seeds in blocks, one test each, or the one seed that the environment asks for."""
    if ONE_SEED is not None:
        return [range(int(ONE_SEED), int(ONE_SEED) + 1)]
    return [range(begin, begin + BLOCK) for begin in range(0, count, BLOCK)]


def ids(seeds: range) -> str:
    return f"{seeds.start}-{seeds.stop - 1}"


def side_by_side(cluster: Cluster, clients: list) -> None:
    """Runs the clients at once, until all have returned."""
    done = [cluster.runtime.event() for _ in clients]

    def run(client, event):
        client()
        event.set()

    for client, event in zip(clients, done, strict=True):
        cluster.runtime.spawn("client", lambda client=client, event=event: run(client, event))
    for event in done:
        event.wait()


def one(value: int = 1) -> list:
    return [np.asarray(value, np.int64)]


def add_without_crashes(seed: int) -> None:
    cluster = Cluster(seed, Weather(breaks=0.05, doubles=0.1, refuses=0.2))
    seen: list[int] = []

    def client():
        master = cluster.master()
        plan = master.prepare(["add0:0"], ["delta0:0"], [])
        for _ in range(5):
            seen.append(int(master.run(plan, one())[0]))
        master.close()

    cluster.scheduler.run(lambda: side_by_side(cluster, [client] * 3))
    assert cluster.value(cluster.names[0]) == 15
    assert sorted(seen) == list(range(1, 16))
    assert cluster.hosts[cluster.names[0]].session_count <= 3


def add_with_crashes(seed: int) -> None:
    cluster = Cluster(seed, Weather(breaks=0.03, doubles=0.1, refuses=0.2, crashes=0.03))
    name = cluster.names[0]
    acknowledged: Counter[int] = Counter()
    values: set[tuple[int, int]] = set()
    unknown = 0
    names_task: list[bool] = []
    final: dict[int, int] = {}

    crash = cluster.servers[0].crash

    def remember_and_crash():
        final[cluster.value(name, "epoch")] = cluster.value(name)
        crash()

    cluster.servers[0].crash = remember_and_crash

    def client():
        nonlocal unknown
        left = 5
        while left:
            master = cluster.master()
            try:
                plan = master.prepare(["add0:0", "seen0:0"], ["delta0:0"], [])
                while left:
                    unknown += 1
                    value, epoch = master.run(plan, one())
                    unknown -= 1
                    left -= 1
                    acknowledged[int(epoch)] += 1
                    assert (int(epoch), int(value)) not in values, "one update, answered twice"
                    values.add((int(epoch), int(value)))
            except (AbortedError, UnavailableError) as error:
                names_task.append(name in str(error))
            finally:
                master.close()

    cluster.scheduler.run(lambda: side_by_side(cluster, [client] * 3))
    final[cluster.value(name, "epoch")] = cluster.value(name)
    assert all(names_task)
    for epoch, value in final.items():
        assert acknowledged[epoch] <= value <= acknowledged[epoch] + unknown
    assert sum(final.values()) <= 15 + unknown


def move_between_tasks(seed: int) -> None:
    cluster = Cluster(seed, Weather(breaks=0.05, doubles=0.1, refuses=0.1), tasks=2)

    def client():
        master = cluster.master()
        plan = master.prepare([], ["delta0:0", "delta1:0"], ["add0", "add1"])
        for step in range(1, 4):
            master.run(plan, [*one(-step), *one(step)])
        master.close()

    cluster.scheduler.run(lambda: side_by_side(cluster, [client] * 3))
    assert [cluster.value(name) for name in cluster.names] == [-18, 18]


def cut_between_moves(seed: int) -> None:
    cluster = Cluster(seed, Weather(breaks=0.03, doubles=0.1, refuses=0.1), tasks=2)
    sums: list[int] = []

    def mover():
        master = cluster.master()
        plan = master.prepare([], ["delta0:0", "delta1:0"], ["add0", "add1"])
        for step in range(1, 5):
            master.run(plan, [*one(-step), *one(step)])
        master.close()

    def saver():
        master = cluster.master()
        for _ in range(3):
            with consistent_cut(master._tasks, master._parallel, cluster.runtime):
                sums.append(sum(cluster.value(name) for name in cluster.names))
        master.close()

    cluster.scheduler.run(lambda: side_by_side(cluster, [mover, mover, saver]))
    assert sums == [0, 0, 0]
    assert [cluster.value(name) for name in cluster.names] == [-20, 20]


def end_by_the_deadline(seed: int) -> None:
    cluster = Cluster(seed, Weather(breaks=0.3, refuses=0.5, crashes=0.1, restart_s=20.0))
    late = 0

    def client():
        nonlocal late
        master = cluster.master()
        try:
            plan = master.prepare(["add0:0"], ["delta0:0"], [])
            for _ in range(3):
                began_s = cluster.scheduler.now
                try:
                    master.run(plan, one(), 0.5)
                except DeadlineExceededError:
                    late += 1
                assert cluster.scheduler.now - began_s <= 0.6
        except (AbortedError, UnavailableError):
            return
        finally:
            master.close()

    cluster.scheduler.run(lambda: side_by_side(cluster, [client] * 2))
    assert cluster.value(cluster.names[0]) <= 6


def run_all(scenario, seeds: range) -> None:
    for seed in seeds:
        try:
            scenario(seed)
        except BaseException as error:
            error.add_note(
                f"replay: PARAMSERVE_SEED={seed} pytest {__file__} -k {scenario.__name__}"
            )
            raise


@pytest.mark.slow
@pytest.mark.parametrize("seeds", blocks(800), ids=ids)
def test_add_without_crashes_every_update_is_applied_once(seeds):
    run_all(add_without_crashes, seeds)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", blocks(800), ids=ids)
def test_add_with_crashes_acknowledged_once_unacknowledged_at_most_once(seeds):
    run_all(add_with_crashes, seeds)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", blocks(300), ids=ids)
def test_move_between_tasks_keeps_the_sum(seeds):
    run_all(move_between_tasks, seeds)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", blocks(200), ids=ids)
def test_cut_between_moves_has_no_step_half_in_it(seeds):
    run_all(cut_between_moves, seeds)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", blocks(200), ids=ids)
def test_end_by_the_deadline_whatever_happens(seeds):
    run_all(end_by_the_deadline, seeds)


def test_a_schedule_replays_from_its_seed():
    def trace(seed: int) -> list[tuple[float, int]]:
        cluster = Cluster(seed, Weather(breaks=0.1, doubles=0.2, refuses=0.2))
        events: list[tuple[float, int]] = []

        def client():
            master = cluster.master()
            plan = master.prepare(["add0:0"], ["delta0:0"], [])
            for _ in range(3):
                value = int(master.run(plan, one())[0])
                events.append((cluster.scheduler.now, value))
            master.close()

        cluster.scheduler.run(lambda: side_by_side(cluster, [client] * 2))
        return events

    assert trace(7) == trace(7)
    assert trace(7) != trace(8)
