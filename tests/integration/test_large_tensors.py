"""A 1 GiB variable over gRPC: assigned, fetched and saved with two copies in memory at most."""

import psutil
import pytest

from processes import peak_bytes_of, programs, server

pytestmark = pytest.mark.slow

GIB = 1 << 30

PROGRAM = """
    import resource
    import sys
    import numpy as np
    import paramserve as ps

    elements = 1 << 28
    pushed = ps.placeholder(ps.float32, [elements])
    v = ps.Variable(pushed, name="large", validate_shape=True)
    saver = ps.train.Saver()
    with ps.Session(sys.argv[1]) as sess:
        sess.run(ps.constant(0.0))
        print("ready", flush=True)
        values = np.arange(elements, dtype=np.float32)
        sess.run(v.initializer, {pushed: values})
        print("assigned", flush=True)
        del values
        fetched = sess.run(v)
        assert (fetched[::4096] == np.arange(0, elements, 4096)).all()
        del fetched
        print("fetched", flush=True)
        saver.save(sess, "large.ckpt")
        print("saved", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10, flush=True)
"""


@pytest.mark.timeout(300)
def test_a_1_gib_variable_is_assigned_fetched_and_saved_in_two_copies(tmp_path):
    with server(tmp_path) as process, programs(PROGRAM, [[process.target]]) as (client,):
        assert client.line() == "ready"
        before = psutil.Process(process.process.pid).memory_info().rss
        for step in ("assigned", "fetched"):
            assert client.line() == step
            assert peak_bytes_of(process.process.pid) - before < 2.2 * GIB
        word, client_peak = client.line().split()
        assert word == "saved"
        assert int(client_peak) < 2.4 * GIB
        assert peak_bytes_of(process.process.pid) - before < 2.2 * GIB
        client.output()
    assert sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file()) > GIB
