"""`paramserve serve` and the commands that ask it, as real processes."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading

import grpc
import numpy as np
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from graph_builder import GraphBuilder
from paramserve_core import dtypes
from paramserve_core.master.connect import connect_master
from processes import command_line, server

pytestmark = pytest.mark.slow


def run(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command_line(*arguments), capture_output=True, text=True, timeout=60, **options
    )


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    with server(tmp_path_factory.mktemp("server"), "--job", "ps", "--task", "3") as process:
        yield process


@contextlib.contextmanager
def variable(target: str, name: str, container: str = ""):
    """A session with a variable of two floats."""
    graph = GraphBuilder()
    graph.variable(name, shape=[2], container=container)
    graph.placeholder("x", shape=[2])
    graph.assign("set", name, "x")
    master = connect_master(target)
    master.extend(graph.graph)
    plan = master.prepare([], ["x:0"], ["set"])
    try:
        yield lambda: master.run(plan, [np.ones(2, np.float32)])
    finally:
        master.close()


def test_ls_lists_the_variables(process):
    with variable(process.target, "weights") as assign:
        assign()
    done = run("ls", process.target, "--json")
    (listed,) = json.loads(done.stdout)
    assert listed == {
        "name": "weights",
        "container": "",
        "shape": [2],
        "dtype": "float32",
        "task": "/job:ps/replica:0/task:3",
        "bytes": 8,
        "initialized": True,
    }
    for_people = run("ls", process.target).stdout
    assert "weights" in for_people
    assert "[2]" in for_people


def test_status_tells_who_the_server_is_and_how_it_does(process):
    with variable(process.target, "another"):
        during = json.loads(run("status", process.target, "--json").stdout)
    assert during["task"] == "/job:ps/replica:0/task:3"
    assert during["address"] == process.address
    assert during["uptime_s"] >= 0
    assert during["version"] == run("version").stdout.strip()
    for_people = run("status", process.target).stdout
    assert "/job:ps/replica:0/task:3" in for_people


@pytest.mark.parametrize("command", ["ls", "status"])
def test_a_server_that_is_not_there_ends_with_3(command):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # and does not listen
        target = f"grpc://127.0.0.1:{probe.getsockname()[1]}"
        done = run(command, target)
    assert done.returncode == 3
    assert done.stdout == ""
    assert target.removeprefix("grpc://") in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_server_that_does_not_answer_ends_with_3():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        done = run("status", target, "--timeout", "0.2")
    assert done.returncode == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ["status", "nonsense"],
        ["ls"],
        ["frobnicate"],
        ["serve", "--listen", "nonsense"],
        ["serve", "--listen", "0.0.0.0:0"],
        ["serve", "--log-level", "loud"],
        ["serve", "--max-sessions", "0"],
        ["run", "--ps", "0", "--", "true"],
        ["run"],
    ],
)
def test_wrong_use_ends_with_2(arguments):
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_refusing_to_listen_elsewhere_names_the_options_in_one_line():
    done = run("serve", "--listen", "0.0.0.0:0")
    assert done.stderr.count("\n") == 1
    for option in ("--token-file", "--tls-cert", "--insecure"):
        assert option in done.stderr


def test_a_port_that_is_taken_is_said_in_one_line(process):
    done = run("serve", "--listen", process.address)
    assert done.returncode == 1
    assert done.stderr == (
        f"paramserve: cannot listen on {process.address}: Address already in use\n"
    )


def test_a_checkpoint_root_that_cannot_be_written_is_said_in_one_line(tmp_path):
    file = tmp_path / "file"
    file.touch()
    done = run("serve", "--listen", "127.0.0.1:0", "--checkpoint-root", str(file))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"--checkpoint-root: {file} cannot be written" in done.stderr


def test_everything_a_server_logs_is_json(tmp_path):
    with server(tmp_path) as process:
        assert process.terminate() == 0
        lines = [json.loads(line) for line in process.log.read_text().splitlines()]
    assert [line["message"] for line in lines] == ["serving", "stopping"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_told_to_stop_exits_with_0(tmp_path, number):
    with server(tmp_path) as process, variable(process.target, "v") as assign:
        assign()
        process.process.send_signal(number)
        assert process.process.wait(timeout=60) == 0


def test_a_second_signal_ends_a_server_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("PARAMSERVE_RECONNECT_S", "0.1")
    with server(tmp_path, "--grace", "3600") as process:
        graph = GraphBuilder()
        last = graph.constant("y0", np.ones(1_000_000, np.float32))
        for index in range(1, 5000):
            last = graph.node("Tanh", f"y{index}", last, T=dtypes.float32)
        master = connect_master(process.target)
        master.extend(graph.graph)
        plan = master.prepare([], [], [last])  # Which takes a while itself.
        busy = psutil.Process(process.process.pid)
        began = busy.cpu_times().user
        master.start(plan, [])
        pause = threading.Event()
        while busy.cpu_times().user < began + 0.2:
            pause.wait(0.02)
        process.process.terminate()
        while "stopping" not in process.log.read_text():
            pause.wait(0.02)
        process.process.terminate()
        assert process.process.wait(timeout=30) == 128 + signal.SIGTERM
        master.close()


def test_health_is_served_without_a_token_and_reflection_with_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PARAMSERVE_TOKEN", "secret")
    with server(tmp_path) as process, grpc.insecure_channel(process.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "paramserve.v1.ParameterServer"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
            next(stub.ServerReflectionInfo(iter([request])))
        token = (("authorization", "Bearer secret"),)
        answer = next(stub.ServerReflectionInfo(iter([request]), metadata=token))
        names = [service.name for service in answer.list_services_response.service]
    assert "paramserve.v1.ParameterServer" in names


def test_the_version_is_printed_without_loading_grpc():
    program = (
        "import sys\n"
        "sys.argv = ['paramserve', 'version']\n"
        "from paramserve_server.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('grpc', 'numpy', 'rich.table') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[1:] == ["[]"]


def certificates(folder) -> dict[str, str]:
    """An authority, and what it signed for a server on loopback and for a client."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
    for name in ("server", "client"):
        openssl(
            "req", "-new", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr",
            "-subj", f"/CN={name}",
        )  # fmt: skip
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-out", f"{name}.pem", "-extfile", "names",
        )  # fmt: skip
    return {path.name: str(path) for path in folder.iterdir()}


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    return certificates(tmp_path_factory.mktemp("certificates"))


def test_a_client_with_the_authoritys_certificate_talks_tls(tmp_path, pem):
    options = ("--tls-cert", pem["server.pem"], "--tls-key", pem["server.key"])
    trusting = {**os.environ, "PARAMSERVE_TLS_CA": pem["ca.pem"]}
    with server(tmp_path, *options) as process:
        refused = run("status", process.target)
        assert refused.returncode == 3
        assert "set PARAMSERVE_TLS_CA" in refused.stderr
        assert run("status", process.target, env=trusting).returncode == 0


def test_tls_where_the_server_has_none_is_said_in_one_line(process, pem):
    refused = run("ls", process.target, env={**os.environ, "PARAMSERVE_TLS_CA": pem["ca.pem"]})
    assert refused.returncode == 3
    assert refused.stderr.count("\n") == 1
    assert "unset PARAMSERVE_TLS_CA" in refused.stderr


def test_mutual_tls_wants_a_certificate_of_the_client(tmp_path, pem):
    options = (
        "--tls-cert", pem["server.pem"], "--tls-key", pem["server.key"],
        "--tls-client-ca", pem["ca.pem"],
    )  # fmt: skip
    trusting = {**os.environ, "PARAMSERVE_TLS_CA": pem["ca.pem"]}
    known = {
        **trusting,
        "PARAMSERVE_TLS_CERT": pem["client.pem"],
        "PARAMSERVE_TLS_KEY": pem["client.key"],
    }
    with server(tmp_path, *options) as process:
        assert run("status", process.target, env=trusting).returncode == 3
        assert run("status", process.target, env=known).returncode == 0


def test_a_wrong_certificate_is_said_before_anything_starts(tmp_path, pem):
    done = run(
        "serve", "--listen", "127.0.0.1:0",
        "--tls-cert", pem["server.pem"], "--tls-key", pem["client.key"],
    )  # fmt: skip
    assert done.returncode == 1
    assert "not a certificate and its key" in done.stderr
    assert done.stderr.count("\n") == 1
