"""Checkpoints of one moment: workers move value between two servers while it is taken."""

import pytest

import paramserve as ps
from paramserve_core.checkpoint.reader import CheckpointReader
from processes import parameter_servers, programs

pytestmark = pytest.mark.slow

SIZE = 2000
GRAPH = """
import sys
import numpy as np
import paramserve as ps

with ps.device("/job:ps/task:0"):
    left = ps.Variable(np.full({size}, 1000.0), name="left")
with ps.device("/job:ps/task:1"):
    right = ps.Variable(np.zeros({size}), name="right")
amount = ps.placeholder(ps.float64, [])
move = [left.assign_sub(ps.fill([{size}], amount)), right.assign_add(ps.fill([{size}], amount))]
move = ps.group(*move)
"""
WORKER = (
    GRAPH
    + """
import select
with ps.Session(ps.train.ClusterSpec({{"ps": sys.argv[1].split(",")}})) as session:
    steps = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        session.run(move, {{amount: float(steps % 7 - 2)}})
        steps += 1
        if steps == 1:
            print("moves", flush=True)
    print(steps)
"""
)


def totals(servers, path: str) -> tuple[float, set[float]]:
    """What a variable has on the first server, and what both have together."""
    left, right = (
        CheckpointReader(server.folder / path).get_tensor(name)
        for server, name in zip(servers, ("left", "right"), strict=True)
    )
    assert len(set(left)) == 1
    return left[0], set(left + right)


def test_every_checkpoint_and_every_restore_has_the_same_total(tmp_path):
    with parameter_servers(tmp_path, 2) as servers, ps.Graph().as_default():
        addresses = [server.address for server in servers]
        names: dict = {}
        exec(GRAPH.format(size=SIZE), names)
        saver = ps.train.Saver([names["left"], names["right"]], max_to_keep=0)
        saved = []
        with ps.Session(ps.train.ClusterSpec({"ps": addresses})) as session:
            session.run(ps.initialize_all_variables())
            arguments = [[",".join(addresses)]] * 2
            with programs(WORKER.format(size=SIZE), arguments) as workers:
                assert [worker.line() for worker in workers] == ["moves"] * 2
                for step in range(0, 30, 3):
                    saved.append(saver.save(session, "model", step))
                    pending = saver.save(session, "model", step + 1, block=False)
                    saved.append(pending.result(60.0))
                    saver.restore(session, saved[step // 2])
                    saved.append(saver.save(session, "model", step + 2))
                for worker in workers:
                    worker.say("stop")
                assert min(int(worker.output()) for worker in workers) > 0
            left, right = session.run([names["left"], names["right"]])
            assert set(left + right) == {1000.0}
        found = [totals(servers, path) for path in saved]
        assert all(total == {1000.0} for _, total in found), found
        assert len({left for left, _ in found}) > 1
