"""What strangers send to a server's port: refused, said once, and forgotten."""

import contextlib
import json
import queue
import socket
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paramserve_core.errors import ResourceExhaustedError
from paramserve_core.transport.frames import MAX_FRAME_BYTES, Assembler, encode
from paramserve_core.transport.grpc_client import GrpcDialer
from paramserve_core.transport.interface import Message
from paramserve_protos.v1 import service_pb2, types_pb2
from processes import ServerProcess, server
from transport_fakes import Inbox

pytestmark = pytest.mark.slow

MIB = 1 << 20
LIMIT = 64 * MIB
REQUESTS = [f.name for f in service_pb2.Call.DESCRIPTOR.oneofs_by_name["request"].fields]


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    with server(folder, "--max-message-bytes", str(LIMIT), "--session-grace", "0") as process:
        yield process


@pytest.fixture(autouse=True)
def still_serves(process):
    """Whatever a test did, the server lives and serves the next client."""
    yield
    assert GrpcDialer(process.address).describe(30).task.name
    with talking(process) as talk:
        assert talk.hello().status.code == 0


class Talk:
    """A stream of raw bytes to the server."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        converse = channel.stream_stream("/paramserve.v1.ParameterServer/Converse")
        self.call = converse(iter(self._outgoing.get, None))
        self._assembler = Assembler(1 << 30)

    def say(self, *frames: bytes) -> None:
        for frame in frames:
            self._outgoing.put(frame)

    def say_message(self, envelope: service_pb2.Envelope, *tensors: np.ndarray) -> None:
        self.say(*encode(Message(envelope, tensors), 1 << 40))

    def stop_talking(self) -> None:
        self._outgoing.put(None)

    def hear(self) -> service_pb2.Envelope:
        while True:
            message = self._assembler.feed(next(self.call))
            if message is not None:
                return message.envelope

    def hello(self, **fields) -> service_pb2.Welcome:
        greeting = {"session_id": "a session", "kind": service_pb2.SESSION_KIND_TASK, **fields}
        self.say_message(service_pb2.Envelope(hello=service_pb2.Hello(**greeting)))
        return self.hear().welcome

    def status(self) -> tuple[grpc.StatusCode, str]:
        """How the server ended the stream."""
        with contextlib.suppress(grpc.RpcError):
            for _ in self.call:
                pass
        return self.call.code(), self.call.details()


@contextlib.contextmanager
def talking(process: ServerProcess) -> Iterator[Talk]:
    with grpc.insecure_channel(process.address) as channel:
        talk = Talk(channel)
        try:
            yield talk
        finally:
            talk.stop_talking()
            talk.call.cancel()


def frame(header: bytes = b"", payload: bytes = b"") -> bytes:
    return service_pb2.Frame(header=header, payload=payload).SerializeToString()


def announcing(dims: list[int], payload_bytes: int) -> bytes:
    envelope = service_pb2.Envelope(hello=service_pb2.Hello(session_id="x"))
    envelope.tensors.add(dtype=types_pb2.DT_UINT8, dims=dims, payload_bytes=payload_bytes)
    return frame(envelope.SerializeToString())


@pytest.mark.parametrize(
    ("sent", "code", "details"),
    [
        (b"\x00garbage", grpc.StatusCode.INVALID_ARGUMENT, "malformed frame"),
        (b"", grpc.StatusCode.INVALID_ARGUMENT, "malformed frame"),
        (frame(b"\xff\xff"), grpc.StatusCode.INVALID_ARGUMENT, "no envelope"),
        (announcing([3], 4), grpc.StatusCode.INVALID_ARGUMENT, "the header says 4"),
        (
            announcing([LIMIT], LIMIT),
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"the limit is {LIMIT}; send",
        ),
        (
            bytes(MAX_FRAME_BYTES + 1),
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "larger than max",
        ),
    ],
)
@pytest.mark.parametrize("when", ["at first", "in a session"])
def test_a_bad_frame_ends_its_stream_with_a_status(process, when, sent, code, details):
    with talking(process) as talk:
        if when == "in a session":
            assert talk.hello().status.code == 0
        talk.say(sent)
        found, text = talk.status()
    assert found == code
    assert details in text


def test_a_message_that_stops_in_its_middle_is_forgotten(process):
    with talking(process) as talk:
        talk.say(announcing([10 * MIB], 10 * MIB), frame(payload=bytes(MIB)))
        talk.stop_talking()
        code, _ = talk.status()
    assert code == grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"session_id": ""}, "1 to 64 characters"),
        ({"session_id": "x" * 1_000_000}, "1 to 64 characters"),
        ({"kind": 0}, "no sessions of kind 0"),
        ({"kind": 77}, "no sessions of kind 77"),
        ({"incarnation": 1}, "restarted"),
    ],
)
def test_a_greeting_that_makes_no_sense_is_answered(process, fields, found):
    with talking(process) as talk:
        welcome = talk.hello(**fields)
        assert welcome.status.code != 0
        assert found in welcome.status.message
        assert talk.status()[0] == grpc.StatusCode.OK


def test_whoever_does_not_greet_is_told_to(process):
    with talking(process) as talk:
        talk.say_message(service_pb2.Envelope(cancel=service_pb2.Cancel(id=1)))
        assert "must be a Hello" in talk.hear().welcome.status.message


@pytest.mark.parametrize("kind", ["welcome", "reply", "hello", None])
def test_a_message_that_no_client_sends_ends_its_connection(process, kind):
    with talking(process) as talk:
        talk.hello(session_id=f"session {kind}")
        envelope = service_pb2.Envelope()
        if kind is not None:
            getattr(envelope, kind).SetInParent()
        talk.say_message(envelope)
        assert talk.status()[0] == grpc.StatusCode.OK


@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize("session", ["TASK", "MASTER"])
def test_every_call_without_its_contents_is_answered(process, session, kind):
    with talking(process) as talk:
        talk.hello(kind=f"SESSION_KIND_{session}", session_id=f"{session} {kind}")
        call = service_pb2.Call(id=1)
        getattr(call, kind).SetInParent()
        talk.say_message(service_pb2.Envelope(call=call))
        assert talk.hear().reply.id == 1


numbers = st.sampled_from([0, 1, 2, 3, 2**31, 2**63, 2**64 - 1])
calls = st.one_of(
    st.builds(
        lambda plan, step, stage: {"run_stage": {"plan": plan, "step": step, "stage": stage}},
        numbers,
        numbers,
        st.sampled_from([0, 1, 2**32 - 1]),
    ),
    st.builds(lambda plan: {"register_plan": {"plan": plan}}, numbers),
    st.builds(lambda steps: {"end_steps": {"steps": steps}}, st.lists(numbers)),
    st.builds(lambda c: {"reset_containers": {"containers": c}}, st.lists(st.text())),
    st.builds(lambda c: {"list_variables": {"containers": c}}, st.lists(st.text())),
    st.just({}),
)


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(numbers, numbers, calls, st.binary(max_size=30)), max_size=8))
def test_calls_at_random_end_no_stream(process, sent):
    """Numbers that were never given, tensors that are no plan, calls out of order."""
    with talking(process) as talk:
        talk.hello(session_id="random")
        for number, below, request, data in sent:
            call = service_pb2.Call(id=number, completed_below=below, **request)
            talk.say_message(service_pb2.Envelope(call=call), np.frombuffer(data, np.uint8))
        talk.stop_talking()
        assert talk.status()[0] == grpc.StatusCode.OK


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.binary(max_size=100), max_size=5))
def test_bytes_at_random_end_with_a_status(process, stream):
    with talking(process) as talk:
        talk.say(*stream)
        talk.stop_talking()
        assert talk.status()[0] in (
            grpc.StatusCode.OK,
            grpc.StatusCode.INVALID_ARGUMENT,
            grpc.StatusCode.RESOURCE_EXHAUSTED,
        )


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 1000,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x00\x00\x00\x00\x00\x01",
        b"\x16\x03\x01\x02\x00\x01",
        bytes(range(256)) * 1000,
        b"",
    ],
)
def test_what_is_no_grpc_is_hung_up_on(process, sent):
    host, _, port = process.address.rpartition(":")
    for _ in range(20):
        with (
            socket.create_connection((host, int(port))) as connection,
            contextlib.suppress(OSError),
        ):
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass


def test_attacks_leave_memory_threads_and_descriptors_as_they_were(process):
    def attack(times: int) -> None:
        for _ in range(times):
            for stream in (
                [b"\x00garbage"],
                [announcing([LIMIT // 2], LIMIT // 2)],
                [announcing([LIMIT], LIMIT)],
                [announcing([4 * MIB], 4 * MIB), frame(payload=bytes(MIB))],
            ):
                with talking(process) as talk:
                    talk.say(*stream)
                    talk.stop_talking()
                    talk.status()

    attack(30)
    before = process.resources()
    attack(150)
    memory, threads, descriptors = process.resources()
    assert memory - before[0] < 8 * MIB
    assert threads <= before[1] + 2
    assert descriptors <= before[2] + 2


def test_a_peer_that_keeps_trying_is_logged_once(tmp_path):
    with server(tmp_path) as process:
        for _ in range(20):
            with talking(process) as talk:
                talk.say(b"\x00garbage")
                talk.status()
        lines = [json.loads(line) for line in process.log.read_text().splitlines()]
    refused = [line for line in lines if line["message"] == "message refused"]
    assert len(refused) == 1
    assert refused[0]["level"] == "warning"
    assert "malformed frame" in refused[0]["error"]
    assert "127.0.0.1" in refused[0]["peer"]


def test_sessions_beyond_the_limit_are_refused_and_the_others_go_on(tmp_path):
    with server(tmp_path, "--max-sessions", "3") as process, contextlib.ExitStack() as stack:
        talks = [stack.enter_context(talking(process)) for _ in range(3)]
        for number, talk in enumerate(talks):
            assert talk.hello(session_id=f"{number}").status.code == 0
        with talking(process) as another:
            refused = another.hello(session_id="one too many").status
            assert "has 3 sessions, the limit is 3" in refused.message
            assert "--max-sessions" in refused.message
        for talk in talks:
            call = service_pb2.Call(id=1, list_variables=service_pb2.ListVariablesRequest())
            talk.say_message(service_pb2.Envelope(call=call))
            assert talk.hear().reply.id == 1


def test_connections_that_say_nothing_are_limited(tmp_path):
    with server(tmp_path, "--max-sessions", "3") as process, contextlib.ExitStack() as stack:
        for _ in range(6):
            talk = stack.enter_context(talking(process))
            assert dict(talk.call.initial_metadata())
        with pytest.raises(ResourceExhaustedError, match="6 connections, its limit"):
            GrpcDialer(process.address).dial(Inbox(), 30)
