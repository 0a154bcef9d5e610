"""A program looks its variables up once, and again whenever that could find others."""

import numpy as np
import pytest

from graph_builder import GraphBuilder
from paramserve_core.errors import FailedPreconditionError, InvalidArgumentError
from paramserve_core.executor.program import Program
from paramserve_core.executor.step import StepContext
from paramserve_core.executor.store import VariableStore
from paramserve_core.kernels.random_streams import RandomStreams


def step_of(store):
    return StepContext(store, RandomStreams())


def graph_of(*shape):
    g = GraphBuilder()
    g.variable("v", shape)
    g.constant("one", np.ones(shape, np.float32))
    return g


@pytest.fixture
def store():
    return VariableStore()


@pytest.fixture
def write():
    g = graph_of(2)
    g.assign("set", "v", "one")
    return Program(g.graph.node)


@pytest.fixture
def read():
    return Program(graph_of(2).graph.node, returned=["v:0"])


def test_a_variable_is_looked_up_once(store, read, write, monkeypatch):
    lookups = []
    found = store.get_or_create
    monkeypatch.setattr(
        store, "get_or_create", lambda name, *rest: lookups.append(name) or found(name, *rest)
    )
    for program in (write, read):
        for _ in range(3):
            program.run(step_of(store), [], {})
    assert lookups == ["v", "v"]


def test_after_a_reset_a_program_finds_the_new_variable(store, read, write):
    write.run(step_of(store), [], {})
    assert read.run(step_of(store), [], {})[0].tolist() == [1, 1]
    store.reset()
    with pytest.raises(FailedPreconditionError, match="uninitialized value v"):
        read.run(step_of(store), [], {})
    write.run(step_of(store), [], {})
    assert read.run(step_of(store), [], {})[0].tolist() == [1, 1]
    assert [variable.name for variable in store.variables()] == ["v"]


def test_one_program_may_run_on_several_stores(store, read, write):
    other = VariableStore()
    write.run(step_of(store), [], {})
    for _ in range(2):
        assert read.run(step_of(store), [], {})[0].tolist() == [1, 1]
        with pytest.raises(FailedPreconditionError, match="uninitialized value v"):
            read.run(step_of(other), [], {})


def test_a_variable_that_is_there_otherwise_is_refused_each_time(store, read, write):
    write.run(step_of(store), [], {})
    wider = Program(graph_of(3).graph.node, returned=["v:0"])
    for _ in range(2):
        with pytest.raises(InvalidArgumentError, match="the graph declares float32") as caught:
            wider.run(step_of(store), [], {})
        assert caught.value.node_name == "v"


def test_a_value_that_was_read_is_not_kept_by_the_program(store, read, write):
    write.run(step_of(store), [], {})
    (first,) = read.run(step_of(store), [], {})
    place = first.ctypes.data
    del first
    write.run(step_of(store), [], {})  # In place: nobody has a lease.
    assert read.run(step_of(store), [], {})[0].ctypes.data == place
