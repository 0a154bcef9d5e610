"""A million reads beside writers, and in each of them one value everywhere."""

import pytest

from processes import programs, server

pytestmark = [pytest.mark.slow, pytest.mark.own_transport]

WORKERS = 3

# Writes to an eighth of the variables, reads all of them several times, and so on, beside others
# that do the same. The sizes are those at which tensors travel differently: in a packet, in a
# shared block, in one of their own. Most small ones are read in bundles: what is read is the
# variable, however it is sent.
READS_AND_WRITES = """
    import sys
    import numpy as np
    import paramserve as ps

    sizes = {1024: 230, 16 << 10: 16, 512 << 10: 4}  # elements of 4 bytes: how many variables
    groups = [
        [ps.Variable(ps.zeros([size]), name=f"v{size}_{i}") for i in range(count)]
        for size, count in sizes.items()
    ]
    small, middle, large = groups
    fed = [ps.placeholder(ps.float32, [size]) for size in sizes]
    pairs = [(v, value) for group, value in zip(groups, fed) for v in group]
    descent = ps.train.GradientDescentOptimizer(0.5)
    steps = []
    for part in (pairs[i::8] for i in range(8)):
        steps.append(ps.group(*[v.assign(value) for v, value in part]))
        steps.append(ps.group(*[v.assign_add(value) for v, value in part]))
        steps.append(descent.apply_gradients([(value, v) for v, value in part]))
    bundles = [ps.pack(small[i : i + 25]) for i in range(30, len(small), 25)]
    most = [*small[:30], *middle, *bundles]

    wanted, count, runs, changes, last = int(sys.argv[2]), 0, 0, 0, None
    with ps.Session(sys.argv[1]) as sess:
        if sys.argv[3] == "0":
            sess.run(ps.initialize_all_variables())
        read_all, read_most = sess.make_callable([*most, *large]), sess.make_callable(most)
        writes = [sess.make_callable(step, fed) for step in steps]
        buffers = [sess.buffer_like(value) for value in fed]
        print("ready", flush=True)
        input()
        while count < wanted:
            for buffer in buffers:
                buffer.fill(runs % 1000 + 1)
            writes[runs % len(writes)](*buffers)
            for n in range(4):
                values = read_most() if n else read_all()
                for value in values:
                    rows = value.reshape(-1, value.shape[-1])
                    if (rows != rows[:, :1]).any():
                        print("torn", value.shape, np.unique(value)[:5], flush=True)
                        sys.exit()
                    count += len(rows)
                changes += values[0][0] != last
                last = values[0][0]
            runs += 1
        print("whole", count, changes, flush=True)
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("transport", "reads"), [("shm", 600_000), ("grpc", 400_000)])
def test_no_read_of_a_million_sees_half_an_update(tmp_path, monkeypatch, transport, reads):
    monkeypatch.setenv("PARAMSERVE_TRANSPORT", transport)
    share = str(reads // WORKERS + 1)
    with (
        server(tmp_path) as process,
        programs(
            READS_AND_WRITES, [[process.target, share, str(i)] for i in range(WORKERS)]
        ) as workers,
    ):
        for worker in workers:
            assert worker.line() == "ready"
        for worker in workers:
            worker.say("go")
        total = 0
        for worker in workers:
            word, *counts = worker.line().split()
            assert word == "whole", counts
            read, changes = map(int, counts)
            total += read
            assert changes > 20  # The others were writing.
            worker.output()
        assert total >= reads
