"""`paramserve top` in front of real servers, while a client trains on one."""

import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator

import pytest

from processes import START_S, command_line, programs, server

pytestmark = pytest.mark.slow

TRAINING = """
    import sys

    import numpy as np
    import paramserve as ps

    weights = ps.Variable(ps.zeros([250, 1000]), name="weights")
    count = ps.Variable(0.0, name="count")
    x = ps.placeholder(ps.float32, [250, 1000])
    train = [weights.assign_sub(x).op, count.assign_add(1.0).op]
    with ps.Session(sys.argv[1]) as session:
        session.run(ps.global_variables_initializer())
        step = 0
        while True:
            session.run(train, {x: np.ones([250, 1000])})
            step += 1
            if step == 10:
                print("trains", flush=True)
"""


@contextlib.contextmanager
def top(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command as a process, for the length of the block."""
    with subprocess.Popen(
        command_line("top", *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(*arguments: str) -> tuple[int, str, str]:
    """How the command ends by itself, and what it prints."""
    with top(*arguments) as process:
        out, err = process.communicate(timeout=START_S)
    return process.returncode, out, err


@pytest.mark.own_transport
@pytest.mark.parametrize("transport", ["grpc", "shm"])
def test_what_a_client_does_is_seen_while_it_trains(tmp_path, transport):
    environment = {"PARAMSERVE_TRANSPORT": transport}
    with (
        server(tmp_path) as process,
        programs(TRAINING, [[process.target]], environment=environment) as (training,),
    ):
        assert training.line() == "trains"
        options = ("--json", "--count", "2", "--interval", "0.5")
        code, out, err = ended(process.target, *options)
    assert (code, err) == (0, "")
    looks = [json.loads(line)["servers"] for line in out.splitlines()]
    assert len(looks) == 2
    for (seen,) in looks:
        assert seen["target"] == process.address
        assert seen["steps_per_s"] > 0
        assert seen["queued_s_per_step"] >= 0
        assert seen["run_s_per_step"] > 0
        assert seen["sessions"] == 1
        assert seen["failures"] == {}
        used = seen["transports"][transport]
        assert used["connections"] == 1
        # Every step brings a megabyte, and few are in the middle of it at either end.
        assert used["received_bytes_per_s"] > 0.5e6 * seen["steps_per_s"]
        assert used["sent_bytes_per_s"] > 0
        names = [(row["name"], row["bytes"]) for row in seen["largest_variables"]]
        assert names == [("weights", 1_000_000), ("count", 4)]
    assert looks[1][0]["steps"] > looks[0][0]["steps"]


def test_a_server_that_dies_ends_a_program_that_watches_with_3(tmp_path):
    with (
        server(tmp_path) as process,
        top(process.target, "--json", "--interval", "0.1") as watching,
    ):
        assert watching.stdout.readline()
        process.kill()
        _, err = watching.communicate(timeout=START_S)
    assert watching.returncode == 3
    assert f"{process.address}: nothing listens on port" in err


def test_ctrl_c_ends_it_with_0_after_it_found_a_server_again(tmp_path):
    with server(tmp_path) as process, top(process.target, "--interval", "0.1") as watching:
        lines = iter(watching.stdout.readline, "")
        assert any("steps/s" in line for line in lines)
        process.kill()
        assert any("asking again" in line for line in lines)
        process.end()
        process.start()
        assert any("sessions" in line for line in lines)
        watching.send_signal(signal.SIGINT)
        _, err = watching.communicate(timeout=START_S)
    assert watching.returncode == 0, err
    assert not err


def test_a_server_that_is_not_there_ends_with_3_and_a_wrong_target_with_2(tmp_path):
    with server(tmp_path) as process:
        gone = process.target
    for arguments, code in (([gone], 3), ([gone, "nonsense"], 2), ([], 2)):
        found, out, err = ended(*arguments)
        assert (found, out) == (code, "")
        assert "Traceback" not in err


def test_a_missing_token_is_said_with_what_to_set_and_ends_with_3(tmp_path, monkeypatch):
    secret = tmp_path / "token"
    secret.write_text("secret")
    with server(tmp_path, "--token-file", str(secret)) as process:
        code, _, err = ended(process.target)
        assert code == 3
        assert "set PARAMSERVE_TOKEN" in err
        monkeypatch.setenv("PARAMSERVE_TOKEN", "secret")
        assert ended(process.target, "--count", "1", "--interval", "0.1")[0] == 0
