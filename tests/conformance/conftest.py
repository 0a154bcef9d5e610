"""Places where the programs of these tests run."""

from __future__ import annotations

import pytest

import paramserve as ps
from places import IN_PROCESS, ON_A_SERVER, Place, cluster


@pytest.fixture(scope="session")
def one_server():
    with ps.train.Server.create_local_server() as server:
        yield Place(server.target)


@pytest.fixture(scope="session")
def two_servers():
    with cluster(2) as spec:
        yield Place(spec)


@pytest.fixture(scope="session")
def three_servers():
    with cluster(3) as spec:
        yield Place(spec)


@pytest.fixture
def place(request):
    """Where the test's sessions run; the servers are empty when it begins."""
    name = getattr(request, "param", IN_PROCESS)
    if name == IN_PROCESS:
        yield Place("")
        return
    found = request.getfixturevalue("one_server" if name == ON_A_SERVER else "two_servers")
    yield found
    found.reset()
