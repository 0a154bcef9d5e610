"""Who silences floating-point conditions, and for how long."""

import threading
import warnings

import numpy as np
import pytest

from graph_builder import GraphBuilder
from paramserve_core import dtypes
from paramserve_core.executor.program import Program
from paramserve_core.executor.step import StepContext
from paramserve_core.executor.store import VariableStore
from paramserve_core.kernels.numerics import quiet, quietly
from paramserve_core.kernels.random_streams import RandomStreams


def divide():
    return np.ones(1) / np.zeros(1)


def test_a_quiet_kernel_divides_by_zero_without_a_warning():
    assert np.isinf(quiet(divide)())
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        divide()


def test_quietness_ends_with_the_outermost_block():
    with quietly():
        with quietly():
            divide()
        divide()
        quiet(divide)()
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        divide()
    quiet(divide)()


def test_quietness_ends_with_a_block_that_raises():
    with pytest.raises(ValueError, match="wrong"), quietly():
        raise ValueError("wrong")
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        divide()
    quiet(divide)()


def test_quietness_is_that_of_one_thread():
    found = []

    def elsewhere():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            divide()
            quiet(divide)()
        found.extend(caught)

    with quietly():
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert [str(warning.message) for warning in found] == ["divide by zero encountered in divide"]


@pytest.mark.parametrize("count", [1, 20])
def test_updates_overflow_without_a_warning_and_leave_the_thread_as_it_was(count):
    g = GraphBuilder()
    g.constant("rate", np.float32(1e38))
    g.constant("grad", np.full(2, 1e38, np.float32))
    g.constant("zero", np.zeros(2, np.float32))
    for number in range(count):
        g.variable(f"v{number}", [2])
        g.assign(f"init{number}", f"v{number}", "zero")
        inputs = (f"v{number}", "rate", "grad", f"^init{number}")
        g.node("ApplyGradientDescent", f"up{number}", *inputs, T=dtypes.float32)
    store = VariableStore()
    program = Program(g.graph.node, returned=[f"v{n}:0" for n in range(count)])
    for value in program.run(StepContext(store, RandomStreams()), [], {}):
        assert np.isneginf(value).all()
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        divide()
