"""Servers that cannot be asked, and what the command line advises."""

import contextlib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from paramserve_core.errors import InternalError, UnavailableError
from paramserve_core.transport.grpc_client import GrpcDialer
from paramserve_server.cli.targets import NotReachedError, Target
from transport_fakes import Echo, grpc_server


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch):
    for name in ("TOKEN", "TLS_CA", "TLS_CERT", "TLS_KEY"):
        monkeypatch.delenv(f"PARAMSERVE_{name}", raising=False)


@pytest.fixture
def unavailable(monkeypatch):
    """Every server is unavailable, and a plain connection ends as the test says."""

    def ends(error: OSError) -> None:
        def describe(self, timeout_s):
            raise UnavailableError(None, None, "raw text")

        def connect(place, timeout_s):
            raise error

        monkeypatch.setattr(GrpcDialer, "describe", describe)
        monkeypatch.setattr(socket, "create_connection", connect)

    return ends


@contextlib.contextmanager
def listener(answer: bytes | None):
    """A listening socket that says the same to everybody, and hangs up; None: says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connected, _ = listening.accept()
                    with connected:
                        connected.sendall(answer)

        thread = threading.Thread(target=serve) if answer is not None else None
        if thread is not None:
            thread.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            if thread is not None:
                listening.shutdown(socket.SHUT_RDWR)
                thread.join()


@pytest.mark.parametrize(
    "text",
    [
        "", "nonsense", "grpc://", "grpc://host", "host:", ":2222", "host:port", "host:0",
        "host:65536", "host:-1", "host:22/", "http://host:80", "grpc://grpc://host:80",
        "a:1,b:2", "::1:2222", "host name:1", "host:²", "host:" + "9" * 5000,
    ],
)  # fmt: skip
def test_what_is_no_target_is_refused_with_what_one_looks_like(text):
    with pytest.raises(ValueError, match="is no target; wanted grpc://host:port"):
        Target(text)


@pytest.mark.parametrize("text", ["grpc://host:80", "host:80", "127.0.0.1:1", "[::1]:65535"])
def test_a_target_is_an_address_with_or_without_its_scheme(text):
    assert Target(text).address == text.removeprefix("grpc://")


def test_a_server_that_is_there_answers():
    with grpc_server(Echo()) as (_, address):
        target = Target(f"grpc://{address}")
        assert target.describe(10).task.incarnation == 1
        assert [variable.name for variable in target.variables(10)] == ["v"]


def test_where_nobody_listens_the_advice_is_to_start_a_server():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # and does not listen
        target = Target(f"127.0.0.1:{probe.getsockname()[1]}")
        with pytest.raises(NotReachedError, match=r"^127.0.0.1:\d+: nothing listens.*--listen"):
            target.describe(10)
        with pytest.raises(NotReachedError, match="nothing listens"):
            target.variables(10)


@pytest.mark.parametrize(
    ("found", "advice"),
    [
        (socket.gaierror(-2, "not known"), "the name 'host' is not known; check its spelling"),
        (TimeoutError(), "does a firewall between let port 80 through"),
        (OSError(113, "No route to host"), "no connection: No route to host; check"),
    ],
)
def test_advice_says_what_the_network_does(unavailable, found, advice):
    unavailable(found)
    with pytest.raises(NotReachedError, match=f"^host:80: .*{advice}") as raised:
        Target("host:80").describe(1)
    assert "raw text" not in str(raised.value)


def test_a_server_that_says_nothing_may_be_stopped_or_busy():
    with listener(None) as address, pytest.raises(NotReachedError, match=r"0\.1 s; the server may"):
        Target(address).describe(0.1)


def test_where_no_grpc_is_spoken_the_advice_is_to_think_of_tls():
    with (
        listener(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address,
        pytest.raises(NotReachedError, match=r"without TLS there; .* set PARAMSERVE_TLS_CA"),
    ):
        Target(address).describe(10)


def test_with_tls_the_advice_is_about_certificates(tmp_path, monkeypatch):
    certificates = tmp_path / "ca.pem"
    certificates.write_bytes(b"")
    monkeypatch.setenv("PARAMSERVE_TLS_CA", str(certificates))
    with (
        listener(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address,
        pytest.raises(NotReachedError, match=r"no TLS session.*unset PARAMSERVE_TLS_CA") as raised,
    ):
        Target(address).describe(10)
    assert "\n" not in str(raised.value)


def test_another_grpc_server_is_told_from_one_of_ours():
    with ThreadPoolExecutor(1) as pool:
        other = grpc.server(pool)
        port = other.add_insecure_port("127.0.0.1:0")
        other.start()
        try:
            with pytest.raises(NotReachedError, match="but not one of this version of paramserve"):
                Target(f"127.0.0.1:{port}").describe(10)
        finally:
            other.stop(0).wait()


def test_an_error_of_the_server_itself_stays_one(monkeypatch):
    def describe(self, timeout_s):
        raise InternalError(None, None, "broken")

    monkeypatch.setattr(GrpcDialer, "describe", describe)
    with pytest.raises(InternalError, match="broken"):
        Target("host:80").describe(1)
