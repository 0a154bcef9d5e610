"""Each test has a graph of its own, and a session that initialises its variables."""

import pytest

import paramserve as ps


@pytest.fixture(autouse=True)
def graph():
    with ps.Graph().as_default() as graph:
        yield graph


class InitializedSession(ps.Session):
    """A session whose `start` gives all variables their initial values."""

    def start(self):
        self.run(ps.global_variables_initializer())
        return self


@pytest.fixture
def session(graph):
    with InitializedSession() as session:
        yield session
