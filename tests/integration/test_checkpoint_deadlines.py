"""`operation_timeout_in_ms` limits saves and restores, too."""

import os
import signal

import pytest

import paramserve as ps
from processes import parameter_servers

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["cluster", "target"])
def test_a_save_and_a_restore_of_a_stopped_server_end_in_time(tmp_path, kind):
    with ps.Graph().as_default(), parameter_servers(tmp_path, 1) as (stopped,):
        with ps.device("/job:ps/task:0"):
            ps.Variable(1.0, name="v")
        saver = ps.train.Saver()
        config = ps.ConfigProto(operation_timeout_in_ms=400)
        cluster = ps.train.ClusterSpec({"ps": [stopped.address]})
        place = cluster if kind == "cluster" else stopped.target
        with ps.Session(place, config=config) as sess:
            sess.run(ps.initialize_all_variables())
            path = saver.save(sess, "model")
            os.kill(stopped.process.pid, signal.SIGSTOP)
            try:
                for do in (saver.save, saver.restore):
                    with pytest.raises(ps.errors.DeadlineExceededError, match=r"0\.4 s"):
                        do(sess, path)
            finally:
                os.kill(stopped.process.pid, signal.SIGCONT)
