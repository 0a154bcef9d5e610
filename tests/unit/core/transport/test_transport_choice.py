"""Which transport a client takes, and why."""

import logging
import os

import pytest

from local_fakes import RawClient, local_server
from paramserve_core.errors import (
    InvalidArgumentError,
    ResourceExhaustedError,
    UnavailableError,
    UnimplementedError,
)
from paramserve_core.transport import local_dialer, local_socket, segments
from paramserve_core.transport.choice import Transport, dialer, shared_memory, transport_from_env
from paramserve_core.transport.grpc_client import GrpcConnection, GrpcDialer
from paramserve_core.transport.interface import Message
from paramserve_core.transport.local_dialer import LocalDialer, is_loopback
from transport_fakes import Echo, Inbox, call, grpc_server


def test_a_server_has_no_more_local_connections_than_it_may():
    with local_server(Echo(), max_conversations=2) as (_, dialer):
        connections = [dialer.dial(Inbox(), 10) for _ in range(2)]
        with pytest.raises(ResourceExhaustedError, match="2 connections, its limit"):
            dialer.dial(Inbox(), 10)
        for connection in connections:
            connection.close()


def test_a_server_that_stops_ends_its_local_conversations():
    inbox = Inbox()
    with local_server(Echo()) as (_, dialer):
        connection = dialer.dial(inbox, 10)
    assert isinstance(inbox.error(), UnavailableError)
    with pytest.raises(UnavailableError, match="closed the connection"):
        connection.send(Message(call()))


# Which transport.


def test_a_server_without_local_connections_is_reached_by_grpc_and_the_log_says_so_once(caplog):
    caplog.set_level(logging.INFO, "paramserve_core")
    with grpc_server(Echo()) as (_, address):
        dialer = LocalDialer(GrpcDialer(address))
        for _ in range(3):
            inbox = Inbox()
            connection = dialer.dial(inbox, 10)
            assert isinstance(connection, GrpcConnection)
            connection.send(Message(call(4)))
            assert inbox.next().envelope.call.id == 4
            connection.close()
    told = [r.getMessage() for r in caplog.records if "using gRPC" in r.getMessage()]
    assert len(told) == 1
    assert address in told[0]


def test_a_socket_that_is_not_here_is_a_reason_for_grpc(monkeypatch):
    """As in a container, whose namespace for such sockets is its own."""
    with local_server(Echo()) as (listener, dialer):
        listener.name = "paramserve-elsewhere"
        with pytest.raises(UnimplementedError, match="not here, Connection refused"):
            dialer.dial(Inbox(), 10)


@pytest.mark.parametrize("module", ["local_dialer", "local_listener"])
def test_a_peer_of_another_user_is_a_reason_for_grpc(monkeypatch, module):
    import paramserve_core.transport.local_listener as local_listener
    from paramserve_core.errors import PermissionDeniedError

    def refuse(connected):
        raise PermissionDeniedError(None, None, "process 1 belongs to user 0, this one to 1")

    target = {"local_dialer": local_dialer, "local_listener": local_listener}[module]
    with local_server(Echo()) as (_, dialer):
        monkeypatch.setattr(target, "check_peer", refuse)
        with pytest.raises(UnimplementedError, match="belongs to user 0"):
            dialer.dial(Inbox(), 10)


def test_a_peer_of_another_user_is_told_from_ones_own(monkeypatch):
    with local_server(Echo()) as (listener, _):
        client = RawClient(listener)
        assert local_socket.check_peer(client.socket) == os.getpid()
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        with pytest.raises(local_socket.PermissionDeniedError, match="this one to 12345"):
            local_socket.check_peer(client.socket)
        client.close()


def test_a_server_that_is_gone_is_not_reached_by_grpc_either():
    with local_server(Echo()) as (_, dialer):
        address = dialer.address
    for falls_back in (True, False):
        with pytest.raises(UnavailableError, match=address):
            LocalDialer(GrpcDialer(address), falls_back=falls_back).dial(Inbox(), 10)


def test_the_environment_chooses_the_transport(monkeypatch):
    for value, kind in (("auto", LocalDialer), ("shm", LocalDialer), ("grpc", GrpcDialer)):
        monkeypatch.setenv("PARAMSERVE_TRANSPORT", value)
        assert isinstance(dialer("localhost:1"), kind)
    assert transport_from_env({}) is Transport.AUTO
    assert isinstance(dialer("192.0.2.1:1", transport=Transport.AUTO), GrpcDialer)
    with pytest.raises(InvalidArgumentError, match="'auto', 'shm' or 'grpc', not 'tcp'"):
        transport_from_env({"PARAMSERVE_TRANSPORT": "tcp"})


def test_shared_memory_is_never_used_to_another_host_even_if_demanded():
    with pytest.raises(UnimplementedError, match="no address of this host"):
        dialer("192.0.2.1:1", transport=Transport.SHM).dial(Inbox(), 10)


def test_a_server_shares_memory_unless_told_otherwise(monkeypatch):
    assert shared_memory(Transport.AUTO) is segments.POOL
    assert shared_memory(Transport.GRPC) is None
    monkeypatch.setattr(segments, "can_share", lambda: False)
    assert shared_memory(Transport.AUTO) is None
    with pytest.raises(UnimplementedError, match=r"Linux 5\.14"):
        shared_memory(Transport.SHM)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("localhost:1", True),
        ("127.0.0.1:1", True),
        ("127.3.2.1:1", True),
        ("[::1]:1", True),
        ("10.0.0.1:1", False),
        ("example.com:1", False),
        ("0.0.0.0:1", False),
    ],
)
def test_loopback_addresses_are_told_from_others(address, expected):
    assert is_loopback(address) is expected
