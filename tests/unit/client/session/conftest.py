"""Sessions for tests: each test has a graph of its own, and may watch what the master is asked."""

import pytest

import paramserve as ps
from paramserve._session import session as session_module


@pytest.fixture(autouse=True)
def graph():
    with ps.Graph().as_default() as graph:
        yield graph


@pytest.fixture
def sess(graph):
    with ps.Session() as session:
        yield session


class WatchedMaster:
    """A real master that remembers how often each method was called, and what it was sent."""

    def __init__(self, master):
        self._master = master
        self.calls = []
        self.nodes = []
        self.timeouts = []

    def __getattr__(self, name):
        method = getattr(self._master, name)

        def call(*args, **kwargs):
            self.calls.append(name)
            return method(*args, **kwargs)

        return call

    def extend(self, nodes, timeout_s=None):
        self.calls.append("extend")
        self.nodes.append([node.name for node in nodes.node])
        self._master.extend(nodes, timeout_s)

    def run(self, plan, feeds, timeout_s=None, report=None):
        self.calls.append("run")
        self.timeouts.append(timeout_s)
        return self._master.run(plan, feeds, timeout_s, report)


@pytest.fixture
def watched(monkeypatch):
    """The masters of all sessions made in the test, in order."""
    masters = []
    connect = session_module.connect_master

    def connect_and_watch(target, config, wire):
        masters.append(WatchedMaster(connect(target, config, wire)))
        return masters[-1]

    monkeypatch.setattr(session_module, "connect_master", connect_and_watch)
    return masters
