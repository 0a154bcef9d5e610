"""A graph for each test."""

import pytest

from paramserve._framework.graph import Graph


@pytest.fixture(autouse=True)
def graph():
    with Graph().as_default() as made:
        yield made
