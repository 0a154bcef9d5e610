"""Loops that never end, and the steps of others beside them."""

import numpy as np
import pytest

import paramserve as ps
from processes import programs, server

pytestmark = pytest.mark.slow

LOOPS, STEPS = 8, 100

MOST_ITERATIONS = 2000
"""Of all loops together, for each step of somebody else, which needs Python's lock a few times.

It is some 200. Where loops do not give way it is more than 10,000: the interpreter lets each of
them go on for 5 ms, each time that the step needs the lock.
"""

ENDLESS = """
    import sys
    import threading
    import paramserve as ps

    def one(number):
        count = ps.Variable(0, name=f"count{number}")

        def body(i):
            with ps.control_dependencies([count.assign_add(1)]):
                return ps.identity(i)

        return count.initializer, ps.while_loop(lambda i: i >= 0, body, [0])

    inits, loops = zip(*[one(number) for number in range(int(sys.argv[2]))])

    with ps.Session(sys.argv[1]) as sess:
        sess.run(inits)
        for loop in loops:
            threading.Thread(target=sess.run, args=(loop,), daemon=True).start()
        print("looping", flush=True)
        input()
"""


def test_endless_loops_of_one_client_leave_the_others_their_turns(tmp_path):
    counts = [ps.Variable(0, name=f"count{number}") for number in range(LOOPS)]
    v = ps.Variable(0.0, name="v")
    with (
        server(tmp_path) as process,
        ps.Session(process.target) as sess,
        programs(ENDLESS, [[process.target, str(LOOPS)]]) as (client,),
    ):
        assert client.line() == "looping"
        sess.run(v.initializer)
        step, read = sess.make_callable(v.assign_add(1.0)), sess.make_callable(counts)
        while min(read()) < 100:
            step()
        begin = read()
        for _ in range(STEPS):
            taken = step()
        iterations = np.subtract(read(), begin)
        assert taken >= STEPS
        assert iterations.sum() < MOST_ITERATIONS * STEPS
        # And each of the loops goes on.
        assert iterations.min() > 0
