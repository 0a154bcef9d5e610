"""Rates out of two answers of a server."""

import pytest

from paramserve_protos.v1 import service_pb2
from paramserve_server.cli.figures import Failures, TransportRates, figures


def answer(uptime_s=10.0, incarnation=1, **activity) -> service_pb2.DescribeResponse:
    return service_pb2.DescribeResponse(
        task=service_pb2.Task(name="/job:ps/replica:0/task:0", incarnation=incarnation),
        uptime_s=uptime_s,
        sessions=3,
        variable_bytes=400,
        activity=service_pb2.Activity(**activity),
    )


def calls(kind, count, queued_s, run_s):
    return service_pb2.CallActivity(kind=kind, count=count, queued_s=queued_s, run_s=run_s)


def test_rates_are_differences_by_the_servers_own_clock():
    before = answer(
        10.0, steps=100, calls=[calls("run_stage", 100, 1.0, 2.0), calls("save", 1, 50.0, 50.0)]
    )
    now = answer(
        14.0,
        steps=120,
        calls=[
            calls("run_stage", 130, 1.5, 4.0),
            calls("run_step", 10, 0.5, 1.0),
            calls("save", 9, 90.0, 90.0),
        ],
    )
    found = figures(before, now)
    assert found.interval_s == 4.0
    assert found.steps == 120
    assert found.steps_per_s == 5.0
    assert found.queued_s_per_step == pytest.approx(1.0 / 20)
    assert found.run_s_per_step == pytest.approx(3.0 / 20)


def test_what_is_there_now_is_told_as_it_is():
    now = answer(calls_in_flight=2, messages_waiting=5, inflight_bytes=70, variables=6)
    found = figures(answer(calls_in_flight=9, variables=1), now)
    assert (found.calls_in_flight, found.messages_waiting, found.inflight_bytes) == (2, 5, 70)
    assert (found.sessions, found.variables, found.variable_bytes) == (3, 6, 400)


def test_each_transport_has_its_own_rates():
    def transports(*received):
        return [
            service_pb2.TransportActivity(
                transport=name, connections=1, received_bytes=count, sent_bytes=2 * count
            )
            for name, count in zip(("grpc", "shm"), received, strict=False)
        ]

    before, now = answer(10, transports=transports(100)), answer(12, transports=transports(300, 50))
    assert figures(before, now).transports == {
        "grpc": TransportRates(connections=1, received_bytes_per_s=100.0, sent_bytes_per_s=200.0),
        "shm": TransportRates(connections=1, received_bytes_per_s=25.0, sent_bytes_per_s=50.0),
    }


def test_failures_have_the_names_of_their_errors():
    before = answer(failures=[service_pb2.FailureCount(code=3, count=4)])
    now = answer(
        failures=[
            service_pb2.FailureCount(code=3, count=6),
            service_pb2.FailureCount(code=8, count=1),
        ]
    )
    assert figures(before, now).failures == {
        "InvalidArgumentError": Failures(count=2, total=6),
        "ResourceExhaustedError": Failures(count=1, total=1),
    }


@pytest.mark.parametrize("before", [None, answer(1000.0, incarnation=7, steps=5000)])
def test_a_server_that_is_new_is_measured_from_its_start(before):
    found = figures(before, answer(10.0, steps=20))
    assert found.interval_s == 10.0
    assert found.steps_per_s == 2.0


def test_without_a_step_there_is_no_time_of_a_step():
    found = figures(answer(10.0, steps=7), answer(11.0, steps=7))
    assert found.steps_per_s == 0.0
    assert found.queued_s_per_step is None
    assert found.run_s_per_step is None


def test_an_answer_given_twice_divides_by_nothing():
    found = figures(answer(10.0, steps=7), answer(10.0, steps=7))
    assert found.steps_per_s == 0.0
