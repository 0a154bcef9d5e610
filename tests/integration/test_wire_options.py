"""Sessions whose messages travel narrower, or compressed, through real servers."""

import contextlib

import grpc
import ml_dtypes
import numpy as np
import pytest

import paramserve as ps
from cutting_proxy import CuttingProxy
from paramserve_core.transport.grpc_client import SERVICE, GrpcDialer
from paramserve_core.transport.interface import Message
from paramserve_protos.v1 import service_pb2
from transport_fakes import WAIT_S, Inbox

VALUES = np.array([1 + 1e-3, np.nan, np.inf, -np.inf, 1e-3, -70_000.0], np.float32)


@pytest.fixture(autouse=True)
def graph(monkeypatch):
    monkeypatch.setenv("PARAMSERVE_TRANSPORT", "grpc")
    with ps.Graph().as_default() as graph:
        yield graph


@pytest.fixture
def server():
    with ps.train.Server.create_local_server() as server:
        yield server


@pytest.fixture
def addresses():
    """Two parameter servers that know each other."""
    with ps.train.Server({"ps": ["localhost:0"]}) as one:
        first = one.target.removeprefix("grpc://")
        with ps.train.Server({"ps": [first, "localhost:0"]}, task_index=1) as two:
            yield [first, two.target.removeprefix("grpc://")]


def rounded(values, dtype):
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float32).astype(dtype).astype(np.float32)


class CountingProxy(CuttingProxy):
    """Forwards everything, and counts the bytes."""

    def __init__(self, target: str) -> None:
        super().__init__(target, seed=1, most_bytes=2)
        self.bytes = 0

    def passed(self, pair, count):
        with self._lock:
            self.bytes += count
        return count


@contextlib.contextmanager
def counted(server):
    proxy = CountingProxy(server.target.removeprefix("grpc://"))
    try:
        yield proxy
    finally:
        proxy.close()


@pytest.mark.parametrize(
    ("wire_dtype", "numpy_dtype"),
    [(ps.bfloat16, ml_dtypes.bfloat16), (ps.float16, np.float16)],
    ids=["bfloat16", "float16"],
)
def test_what_is_fed_and_fetched_is_rounded_and_the_variable_is_float32(
    server, wire_dtype, numpy_dtype
):
    x = ps.placeholder(ps.float32, [6], name="x")
    v = ps.Variable(ps.zeros([6]), name="v")
    tenth = ps.Variable(ps.fill([6], 0.1), name="tenth")
    fed = rounded(VALUES, numpy_dtype)
    with ps.Session(server.target, wire_dtype=wire_dtype) as sess:
        sess.run([v.initializer, tenth.initializer])
        found = sess.run(v.assign(x), {x: VALUES})
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, fed)
        found += 1  # the caller's own
        np.testing.assert_array_equal(sess.run(tenth), rounded([0.1] * 6, numpy_dtype))
    with ps.Session(server.target) as exact:
        np.testing.assert_array_equal(exact.run(v), fed)
        np.testing.assert_array_equal(exact.run(tenth), np.full(6, 0.1, np.float32))


def test_other_types_are_not_changed(server):
    with ps.Session(server.target, wire_dtype=ps.bfloat16) as sess:
        for dtype in (ps.float64, ps.int32, ps.int64, ps.bool, ps.complex64, ps.float16):
            x = ps.placeholder(dtype, [2])
            value = np.array([1, 12_344]).astype(dtype.as_numpy_dtype)
            found = sess.run(ps.identity(x), {x: value})
            assert found.dtype == value.dtype
            np.testing.assert_array_equal(found, value)
        text = ps.placeholder(ps.string, [None])
        assert sess.run(ps.identity(text), {text: ["a", "b"]}).tolist() == [b"a", b"b"]


def test_constants_and_checkpoints_are_exact(server, tmp_path):
    v = ps.Variable(ps.constant([0.1, 0.2]), name="v")
    saver = ps.train.Saver()
    with ps.Session(server.target, wire_dtype=ps.bfloat16) as sess:
        sess.run(v.initializer)
        path = saver.save(sess, str(tmp_path / "model"))
        sess.run(v.assign([0.0, 0.0]))
        saver.restore(sess, path)
    with ps.Session(server.target) as exact:
        np.testing.assert_array_equal(exact.run(v), np.array([0.1, 0.2], np.float32))


def test_half_the_bytes_go_over_the_wire_in_both_directions(server):
    x = ps.placeholder(ps.float32, [100_000], name="x")
    v = ps.Variable(ps.zeros([100_000]), name="v")
    update = v.assign(x)
    traffic = server._task.server.traffic

    def moved(**options):
        with ps.Session(server.target, **options) as sess:
            sess.run(v.initializer)
            sess.run(update, {x: np.ones(100_000)})  # what is sent once has been sent
            before = traffic.received_bytes, traffic.sent_bytes
            sess.run(update, {x: np.ones(100_000)})
            return traffic.received_bytes - before[0], traffic.sent_bytes - before[1]

    whole, half = moved(), moved(wire_dtype=ps.bfloat16)
    for there_and_back, narrow in zip(whole, half, strict=True):
        assert 400_000 <= there_and_back < 401_000
        assert 200_000 <= narrow < 201_000


def test_a_trace_has_the_bytes_that_travelled(server):
    x = ps.placeholder(ps.float32, [1000], name="x")
    metadata = ps.RunMetadata()
    options = ps.RunOptions(trace_level=ps.RunOptions.FULL_TRACE)
    with ps.Session(server.target, wire_dtype=ps.float16) as sess:
        sess.run(x + 1, {x: np.ones(1000)}, options=options, run_metadata=metadata)
    whole = metadata.stage_stats[-1]
    assert (whole.request_bytes, whole.response_bytes) == (2000, 2000)


@pytest.mark.parametrize("plans", ["worker", "server"])
def test_tensors_between_tasks_are_rounded_too(addresses, plans):
    with ps.device("/job:ps/task:0"):
        a = ps.Variable([0.1], name="a")
    with ps.device("/job:ps/task:1"):
        b = ps.Variable([0.0], name="b")
        copied = b.assign(a)
    target = ps.train.ClusterSpec({"ps": addresses})
    if plans == "server":
        target = f"grpc://{addresses[1]}"
    with ps.Session(target, wire_dtype=ps.bfloat16) as sess:
        sess.run(ps.global_variables_initializer())
        sess.run(copied.op)
    with ps.Session(ps.train.ClusterSpec({"ps": addresses})) as exact:
        assert exact.run(a).tolist() == np.array([0.1], np.float32).tolist()
        assert exact.run(b).tolist() == rounded([0.1], ml_dtypes.bfloat16).tolist()


def test_sessions_of_both_kinds_share_a_server(server):
    v = ps.Variable(ps.fill([2], 0.1), name="v")
    with (
        ps.Session(server.target, wire_dtype=ps.bfloat16) as narrow,
        ps.Session(server.target) as exact,
    ):
        exact.run(v.initializer)
        np.testing.assert_array_equal(narrow.run(v), rounded([0.1, 0.1], ml_dtypes.bfloat16))
        np.testing.assert_array_equal(exact.run(v), np.full(2, 0.1, np.float32))


@pytest.mark.parametrize("target", ["in process", "shm"])
def test_nothing_is_rounded_where_nothing_is_saved(monkeypatch, target):
    monkeypatch.setenv("PARAMSERVE_TRANSPORT", "shm")
    x = ps.placeholder(ps.float32, [1])
    y = ps.identity(x)
    with contextlib.ExitStack() as stack:
        place = ""
        if target == "shm":
            place = stack.enter_context(ps.train.Server.create_local_server()).target
        sess = stack.enter_context(ps.Session(place, wire_dtype=ps.bfloat16))
        assert sess.run(y, {x: [0.1]}).tolist() == np.array([0.1], np.float32).tolist()


def test_types_and_compressions_that_there_are_not_are_refused():
    with pytest.raises(ValueError, match="wire_dtype is float64; float32 tensors can travel as"):
        ps.Session(wire_dtype=ps.float64)
    with pytest.raises(ValueError, match="wire_dtype is int8"):
        ps.Session("grpc://localhost:1", wire_dtype=ps.int8)
    with pytest.raises(TypeError):
        ps.Session(wire_dtype="no type")
    with pytest.raises(ValueError, match="compression is 'zstd'; gRPC offers 'gzip'"):
        ps.Session(compression="zstd")
    with pytest.raises(TypeError, match="compression must be a string, but got 'bool'"):
        ps.Session(compression=True)


@pytest.mark.parametrize("fields", [{"dtype": 9999}, {"compression": "zstd"}])
def test_a_stranger_that_asks_for_what_there_is_not_is_told_so(server, fields):
    inbox = Inbox()
    connection = GrpcDialer(server.target.removeprefix("grpc://")).dial(inbox, WAIT_S)
    hello = service_pb2.Hello(
        session_id="stranger",
        kind=service_pb2.SESSION_KIND_TASK,
        wire=service_pb2.WireOptions(**fields),
    )
    connection.send(Message(service_pb2.Envelope(hello=hello)))
    status = inbox.next().envelope.welcome.status
    connection.close()
    assert status.code == ps.errors.INVALID_ARGUMENT
    assert "it is" in status.message


def test_gzip_compresses_what_goes_over_the_wire_both_ways(server):
    x = ps.placeholder(ps.float32, [100_000], name="x")
    echo = ps.identity(x)
    zeros, moved = np.zeros(100_000, np.float32), {}
    for compression in (None, "gzip"):
        with counted(server) as proxy:
            with ps.Session(f"grpc://{proxy.address}", compression=compression) as sess:
                assert not sess.run(echo, {x: zeros}).any()
            moved[compression] = proxy.bytes
    assert moved[None] > 800_000
    assert moved["gzip"] < 40_000


def test_gzip_reaches_the_servers_behind_the_one_that_plans(server):
    x = ps.placeholder(ps.float32, [100_000], name="x")
    with counted(server) as proxy:
        spec = {"local": [proxy.address], "ps": ["localhost:0"]}
        with (
            ps.train.Server(spec, "ps", 0) as planner,
            ps.Session(planner.target, compression="gzip") as sess,
        ):
            with ps.device("/job:local/task:0"):
                there = x + 1
            assert sess.run(there, {x: np.zeros(100_000)}).all()
        assert proxy.bytes < 40_000


@pytest.mark.slow
def test_a_small_message_that_unpacks_to_a_large_one_is_refused(server):
    address = server.target.removeprefix("grpc://")
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(address, options, grpc.Compression.Gzip) as channel:
        converse = channel.stream_stream(f"/{SERVICE}/Converse", bytes, bytes)
        with pytest.raises(grpc.RpcError) as info:
            list(converse(iter([bytes(24 << 20)])))
    assert info.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    with ps.Session(server.target) as sess:
        assert sess.run(ps.constant(1) + 1) == 2
