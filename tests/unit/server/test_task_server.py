"""A server in this process: its token, its metrics, and what it says of itself."""

import socket
import urllib.request

import numpy as np
import pytest

from graph_builder import GraphBuilder
from local_fakes import until
from paramserve_core import dtypes
from paramserve_core.cluster import ClusterSpec
from paramserve_core.errors import UnauthenticatedError
from paramserve_core.master.connect import connect_master
from paramserve_core.serving import ServingOptions, TaskServer
from paramserve_core.shapes import TensorShape
from paramserve_core.transport.choice import Transport
from paramserve_core.transport.credentials import ClientCredentials
from paramserve_core.transport.grpc_client import GrpcDialer
from paramserve_server import metrics
from paramserve_server.interceptors import TokenInterceptor
from transport_fakes import Inbox

TASK = "/job:ps/replica:0/task:0"


@pytest.fixture
def started(monkeypatch):
    """Starts servers, and stops them after the test."""
    monkeypatch.delenv("PARAMSERVE_TOKEN", raising=False)
    servers = []

    def start(**options) -> TaskServer:
        server = TaskServer(ServingOptions(**options))
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop(1)


def assign_ones(server: TaskServer) -> None:
    graph = GraphBuilder()
    graph.variable("w")
    graph.placeholder("x")
    graph.assign("set", "w", "x")
    master = connect_master(f"grpc://{server.address}")
    master.extend(graph.graph)
    plan = master.prepare([], ["x:0"], ["set"])
    master.run(plan, [np.ones((), np.float32)])
    master.close()


def test_a_server_says_who_it_is(started):
    cluster = ClusterSpec({"ps": ["a:1", "b:2"]})
    server = started(index=1, cluster=cluster)
    answer = GrpcDialer(server.address).describe(10)
    assert answer.task.name == "/job:ps/replica:0/task:1"
    assert answer.task.address == server.address
    assert answer.task.incarnation
    assert answer.version[0].isdigit()
    assert ClusterSpec(answer.cluster) == cluster


def test_two_servers_have_two_incarnations(started):
    found = {GrpcDialer(started().address).describe(10).task.incarnation for _ in range(2)}
    assert len(found) == 2


def test_a_caller_without_the_token_is_refused_and_told_what_to_do(started, caplog):
    address = started(interceptors=[TokenInterceptor("secret")]).address
    for token, found in (("", "shows no token"), ("guess", "shows another token")):
        dialer = GrpcDialer(address, ClientCredentials(token=token))
        for ask in (
            lambda dialer=dialer: dialer.describe(10),
            lambda dialer=dialer: dialer.list_variables(10),
            lambda dialer=dialer: dialer.dial(Inbox(), 10),
        ):
            with pytest.raises(UnauthenticatedError, match=f"{found}; set PARAMSERVE_TOKEN"):
                ask()
    refused = [record for record in caplog.records if record.message == "call refused"]
    assert len(refused) == 6
    assert all("127.0.0.1" in record.peer for record in refused)
    assert "secret" not in caplog.text


def test_a_caller_with_the_token_is_served(started):
    address = started(interceptors=[TokenInterceptor("secret")]).address
    dialer = GrpcDialer(address, ClientCredentials(token="secret"))
    assert dialer.describe(10).task.name == TASK
    dialer.dial(Inbox(), 10).close()


def scraped(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return {
        name: float(value)
        for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    }


@pytest.mark.slow
def test_metrics_count_what_the_server_does(started):
    server = started()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    stop = metrics.serve(server, "127.0.0.1", port)
    try:
        before = scraped(port)
        assign_ones(server)
        after = scraped(port)
        with pytest.raises(OSError, match="in use"):
            metrics.serve(server, "127.0.0.1", port)
    finally:
        stop()
    assert before["paramserve_variables"] == 0
    assert after["paramserve_variables"] == 1
    assert after["paramserve_variable_bytes"] == 4
    assert after["paramserve_inflight_bytes"] == 0
    assert after['paramserve_calls_total{kind="run_step"}'] == 1
    assert after['paramserve_call_seconds_total{kind="run_step"}'] > 0
    assert after["paramserve_steps_total"] == 1
    assert after['paramserve_call_queue_seconds_total{kind="run_step"}'] > 0
    received, sent = (
        sum(value for name, value in after.items() if name.startswith(f"paramserve_{way}_bytes"))
        for way in ("received", "sent")
    )
    assert received > 0
    assert sent > 0
    assert before['paramserve_connections{transport="grpc"}'] == 0
    assert after["paramserve_running_calls"] == 0
    assert after["paramserve_waiting_messages"] == 0
    assert after["paramserve_sessions"] == 0


def test_a_server_tells_what_goes_on_in_it(started):
    server = started(transport=Transport.GRPC)
    dialer = GrpcDialer(server.address)
    assert not dialer.describe(10).activity.calls
    assign_ones(server)
    activity = dialer.describe(10).activity
    (step,) = (call for call in activity.calls if call.kind == "run_step")
    assert (activity.steps, step.count, activity.variables) == (1, 1, 1)
    assert step.queued_s > 0
    assert step.run_s > 0
    (transport,) = activity.transports
    assert transport.transport == "grpc"
    assert transport.received_bytes > 0
    assert transport.sent_bytes > 0


def test_each_transport_counts_its_own_connections_and_bytes(started, monkeypatch):
    monkeypatch.setenv("PARAMSERVE_TRANSPORT", "shm")
    server = started()

    def transports():
        found = GrpcDialer(server.address).describe(10).activity.transports
        return {each.transport: each for each in found}

    assert {name: each.connections for name, each in transports().items()} == {"grpc": 0, "shm": 0}
    master = connect_master(f"grpc://{server.address}")
    master.devices()
    assert {name: each.connections for name, each in transports().items()} == {"grpc": 0, "shm": 1}
    over_grpc = GrpcDialer(server.address).dial(Inbox(), 10)
    assert {name: each.connections for name, each in transports().items()} == {"grpc": 1, "shm": 1}
    over_grpc.close()
    master.close()
    until(lambda: not sum(each.connections for each in transports().values()))
    assert transports()["shm"].received_bytes > 0
    assert transports()["grpc"].received_bytes == 0


def test_the_largest_variables_are_listed_when_asked_for(started):
    server = started()
    for name, size in (("a", 2), ("b", 5), ("c", 3)):
        variable = server.host.store.get_or_create(name, "", dtypes.float32, TensorShape(None))
        variable.assign(np.zeros(size, np.float32))
    listed = GrpcDialer(server.address).list_variables(10, largest=2)
    assert [variable.name for variable in listed] == ["b", "c"]
    listed = GrpcDialer(server.address).list_variables(10)
    assert [variable.name for variable in listed] == ["a", "b", "c"]


def test_failed_calls_are_counted_by_their_error(started):
    server = started()
    server.host.statistics.call_failed(8)
    samples = {
        (metric.name, *sample.labels.values()): sample.value
        for metric in metrics.Collector(server).collect()
        for sample in metric.samples
    }
    assert samples["paramserve_failed_calls", "ResourceExhaustedError"] == 1
