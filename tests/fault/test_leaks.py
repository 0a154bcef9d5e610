"""Thousands of steps by clients that are killed: afterwards the server is as it was.

PARAMSERVE_LEAK_STEPS says how many steps to take over each transport. Without it there are 10,000
through shared memory, and fewer over gRPC, where ten thousand take a quarter of an hour.
"""

import gc
import json
import os
import random
import subprocess
from dataclasses import dataclass

import psutil
import pytest

import paramserve as ps
from local_fakes import until
from processes import (
    ProgramProcess,
    ServerProcess,
    command_line,
    foreign_segments_of,
    mapped_segments_of,
    programs,
    segments_of,
    server,
)

pytestmark = [pytest.mark.slow, pytest.mark.own_transport]

MIB = 1 << 20
STEPS = {"shm": 10_000, "grpc": 200}

# What gRPC carries lies in memory of the allocator, which keeps some tens of MB, now more, now
# less.
GROWTH_BYTES = {"shm": 48 * MIB, "grpc": 128 * MIB}
CLIENTS = 2

IN_USE = 2 * CLIENTS
"""By so many segments may differ what is in use at once, and is kept then: of each client a value
that it has fetched and the one that has replaced it. Each is two descriptors and a mapping."""

# Half of the clients push from a buffer of the session, and every tenth step is a fetch that is
# kept until the next.
PUSHES = """
    import sys
    import numpy as np
    import paramserve as ps

    elements = 2_500_000
    fed = ps.placeholder(ps.float32, [elements])
    v = ps.Variable(ps.zeros([elements]), name="v")
    train = ps.train.GradientDescentOptimizer(0.5).apply_gradients([(fed, v)])
    with ps.Session(sys.argv[1]) as sess:
        sess.run(v.initializer)
        push, pull = sess.make_callable(train, [fed]), sess.make_callable(v)
        values = sess.buffer_like(v) if sys.argv[2] == "buffer" else np.ones(elements, np.float32)
        steps = 0
        while True:
            push(values)
            steps += 1
            if steps % 10 == 0:
                fetched = pull()
                print(steps, flush=True)
"""


@dataclass(frozen=True)
class Resources:
    """What a server process has."""

    memory_bytes: int
    descriptors: int
    mappings: int
    segments: int
    threads: int

    @classmethod
    def of(cls, process: ServerProcess) -> "Resources":
        pid = process.process.pid
        memory_bytes, threads, descriptors = process.resources()
        return cls(memory_bytes, descriptors, mapped_segments_of(pid), segments_of(pid), threads)


def session_count(process: ServerProcess) -> int:
    done = subprocess.run(
        command_line("status", process.target, "--json"), capture_output=True, text=True, check=True
    )
    return int(json.loads(done.stdout)["sessions"])


def take_steps(process: ServerProcess, wanted: int, seed: int) -> int:
    """Lets clients push, each killed after some hundred steps at most; answers how many."""
    chance = random.Random(seed)
    most = max(10, min(900, wanted // 8))
    taken = 0
    while taken < wanted:
        clients = [
            ProgramProcess(PUSHES, process.target, "buffer" if i % 2 else "array")
            for i in range(CLIENTS)
        ]
        try:
            for client in clients:
                last, end = 0, chance.randint(most // 2, most)
                while last < end:
                    last = int(client.line())
                client.kill()
                taken += last
        finally:
            for client in clients:
                client.end()
    until(lambda: session_count(process) == 0)
    until(lambda: foreign_segments_of(process.process.pid) == 0)
    return taken


def test_programs_and_servers_that_a_failed_test_left_are_ended_with_their_pipes(tmp_path):
    left = [ProgramProcess("input()"), ProgramProcess("pass"), ServerProcess(tmp_path)]
    left[1].process.wait()
    processes = [each.process for each in left]
    del left
    gc.collect()
    for process in processes:
        assert process.returncode is not None
        for pipe in (process.stdin, process.stdout, process.stderr):
            assert pipe is None or pipe.closed


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("transport", ["shm", "grpc"])
def test_steps_of_10_mb_by_clients_that_are_killed_leave_nothing(tmp_path, monkeypatch, transport):
    monkeypatch.setenv("PARAMSERVE_TRANSPORT", transport)
    wanted = int(os.environ.get("PARAMSERVE_LEAK_STEPS", STEPS[transport]))
    with server(tmp_path, "--session-grace", "0.2") as process:
        # Pools of threads and of memory have grown to what so many clients need.
        take_steps(process, max(100, wanted // 10), seed=1)
        before = Resources.of(process)
        taken = take_steps(process, wanted, seed=2)
        after = Resources.of(process)
        with ps.Graph().as_default(), ps.Session(process.target) as sess:
            assert sess.run(ps.constant(1)) == 1
        print(f"{transport}: {taken} steps, before {before}, after {after}")
    assert taken >= wanted
    # A step that left its 10 MB would leave gigabytes; a client, its socket or its buffer.
    assert after.memory_bytes < before.memory_bytes + GROWTH_BYTES[transport]
    assert after.descriptors <= before.descriptors + 2 * IN_USE
    assert after.segments <= before.segments + 2 * IN_USE
    assert after.mappings <= before.mappings + IN_USE
    assert after.threads <= before.threads + 8


LIVES_LONG = """
    import gc
    import sys
    import paramserve as ps

    elements = 2_500_000

    def use():
        with ps.Graph().as_default(), ps.Session(sys.argv[1]) as sess:
            fed = ps.placeholder(ps.float32, [elements])
            v = ps.Variable(ps.zeros([elements]), name="v")
            add = v.assign_add(fed)
            sess.run(v.initializer)
            for _ in range(20):
                buffer = sess.buffer_like(v)
                fetched = sess.run(add, {fed: buffer})
                fetched[0] += 1

    while True:
        use()
        gc.collect()
        print("used", flush=True)
        sys.stdin.readline()
"""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("transport", ["shm", "grpc"])
def test_a_client_of_many_steps_grows_no_more_than_its_server(tmp_path, monkeypatch, transport):
    """Clients live long too: arrays that were fetched, buffers and connections all go."""
    monkeypatch.setenv("PARAMSERVE_TRANSPORT", transport)
    with (
        server(tmp_path, "--session-grace", "0.2") as process,
        programs(LIVES_LONG, [[process.target]]) as (client,),
    ):
        me = psutil.Process(client.process.pid)

        def use(rounds: int) -> tuple[int, int, int]:
            for _ in range(rounds):
                assert client.line() == "used"
                client.say("on")
            assert client.line() == "used"
            found = me.memory_info().rss, me.num_fds(), mapped_segments_of(me.pid)
            client.say("on")
            return found

        use(4)
        before = use(2)
        after = use(7)
        client.kill()
    assert after[0] < before[0] + GROWTH_BYTES[transport]
    assert after[1] <= before[1] + 4
    assert after[2] <= before[2] + 2
