"""Equal updates side by side run as a batch, and nobody can tell but by the time it takes."""

import threading
from operator import attrgetter

import numpy as np
import pytest

from graph_builder import GraphBuilder
from paramserve_core import dtypes
from paramserve_core.errors import (
    CancelledError,
    FailedPreconditionError,
    InvalidArgumentError,
    ResourceExhaustedError,
)
from paramserve_core.executor import batches
from paramserve_core.executor.program import Program
from paramserve_core.executor.step import StepContext
from paramserve_core.executor.store import VariableStore
from paramserve_core.executor.tracing import StageRecorder
from paramserve_core.executor.updating import Ref, Update
from paramserve_core.executor.variable import read_only
from paramserve_core.kernels import small_updates
from paramserve_core.kernels.random_streams import RandomStreams
from paramserve_core.kernels.small_updates import short_update
from paramserve_core.opdefs import find_op
from paramserve_core.opdefs.training import GRADIENTS
from paramserve_core.shapes import TensorShape
from update_cases import UpdateCase, variants

COUNT = 6
NAMED = attrgetter("name")


@pytest.fixture
def store():
    return VariableStore()


@pytest.fixture
def calls(monkeypatch):
    """The names of the nodes that batches left to their kernels."""
    names = []
    run = batches.Batch.run

    def watched(batch, step, values, execute):
        def execute_and_count(instruction, step, values):
            names.append(instruction.node.name)
            execute(instruction, step, values)

        run(batch, step, values, execute_and_count)

    monkeypatch.setattr(batches.Batch, "run", watched)
    return names


def step_of(store):
    return StepContext(store, RandomStreams())


def variable(store, name, value):
    dtype = dtypes.as_dtype(value.dtype)
    found = store.get_or_create(name, "", dtype, TensorShape(value.shape))
    found.assign(np.asarray(value))
    return found


class Descents:
    """Updates `v0 -= rate * g0`, `v1 -= rate * g1` and so on; the rate and the g are fed."""

    def __init__(self, store, values, targets=None, dtype=dtypes.float32):
        self.store = store
        self.graph = GraphBuilder()
        self.names = targets or [f"v{i}" for i in range(len(values))]
        for name, value in zip(self.names, values, strict=True):
            if value is not None:
                variable(store, name, np.asarray(value, dtype.as_numpy_dtype))
        for name in dict.fromkeys(self.names):
            self.graph.node("VariableV2", name, shape=None, dtype=dtype)
        for i, name in enumerate(self.names):
            self.graph.node("ApplyGradientDescent", f"up{i}", name, "rate", f"g{i}", T=dtype)
        self.received = ["rate:0", *(f"g{i}:0" for i in range(len(self.names)))]

    def run(self, *gradients, rate=1.0, step=None, recorder=None, returned=()):
        program = Program(self.graph.graph.node, received=self.received, returned=returned)
        feeds = [np.asarray(g) for g in (np.float32(rate), *gradients)]
        return program.run(step or step_of(self.store), feeds, {}, recorder)

    def values(self):
        return [self.store.find(name).read().tolist() for name in self.names]


def ones(count=COUNT, shape=(2,)):
    return [np.ones(shape, np.float32) for _ in range(count)]


@pytest.mark.parametrize("shape", [(), (3,), (2, 2), (0, 4)])
@pytest.mark.parametrize(
    ("op", "changes", "dtype"),
    [
        pytest.param(*case.values, dtype, id=f"{case.id}-{dtype.name}")
        for case in variants("Apply")
        for dtype in (dtypes.float32, dtypes.float16)
        if dtype in find_op(case.values[0]).attrs["T"].allowed
    ],
)
def test_a_batch_gives_what_its_updates_give_one_by_one_to_the_bit(op, changes, dtype, shape):
    cases = [UpdateCase(op, dtype, shape, changes, seed=seed) for seed in range(COUNT)]
    scalars = {k: v for k, v in cases[0].feeds.items() if k not in GRADIENTS}
    graph, feeds, store = GraphBuilder(), dict(scalars), VariableStore()
    for i, case in enumerate(cases):
        for ref, value in case.state.items():
            variable(store, f"{ref}{i}", value)
            graph.node("VariableV2", f"{ref}{i}", shape=None, dtype=dtype)
    for i, case in enumerate(cases):
        inputs = [*(f"{ref}{i}" for ref in case.refs)]
        for name, value in case.feeds.items():
            inputs.append(name if name in scalars else f"{name}{i}")
            feeds[inputs[-1]] = value
        graph.node(op, f"update{i}", *inputs, T=dtype, **case.attrs)
    program = Program(graph.graph.node, received=[f"{name}:0" for name in feeds])
    for _ in range(3):
        program.run(step_of(store), list(feeds.values()), {})
    for i, case in enumerate(cases):
        for ref, value in zip(case.refs, case.run(steps=3), strict=True):
            np.testing.assert_array_equal(store.find(f"{ref}{i}").read(), value)


@pytest.mark.parametrize(("op", "change"), [("AssignAdd", np.add), ("AssignSub", np.subtract)])
@pytest.mark.parametrize(
    "dtype", [dtypes.float32, dtypes.int64, dtypes.bfloat16], ids=lambda dtype: dtype.name
)
def test_a_batch_adds_and_subtracts_in_place(store, calls, op, change, dtype):
    graph = GraphBuilder()
    before = [np.asarray([i, 2 * i], dtype.as_numpy_dtype) for i in range(COUNT)]
    for i, value in enumerate(before):
        variable(store, f"v{i}", value)
        graph.node("VariableV2", f"v{i}", shape=[2], dtype=dtype)
    for i in range(COUNT):
        graph.node(op, f"up{i}", f"v{i}", f"x{i}", T=dtype)
    program = Program(graph.graph.node, received=[f"x{i}:0" for i in range(COUNT)])
    values = [np.asarray([1, i], dtype.as_numpy_dtype) for i in range(COUNT)]
    program.run(step_of(store), values, {})
    assert calls == []
    for i in range(COUNT):
        np.testing.assert_array_equal(store.find(f"v{i}").read(), change(before[i], values[i]))


class Assignments:
    """Assigns fed values to `v0`, `v1` and so on, which are declared with two elements."""

    def __init__(self, store, *, validate_shape=True):
        self.store = store
        graph = GraphBuilder()
        for i in range(COUNT):
            graph.variable(f"v{i}", [2])
        for i in range(COUNT):
            graph.assign(f"set{i}", f"v{i}", f"x{i}", validate_shape=validate_shape)
        received = [f"x{i}:0" for i in range(COUNT)]
        self._program = Program(graph.graph.node, received=received)

    def run(self, *values):
        self._program.run(step_of(self.store), list(values), {})

    def values(self):
        return [self.store.find(f"v{i}").read().tolist() for i in range(COUNT)]


def test_a_batch_assigns_in_place_once_there_are_values(store, calls):
    assignments = Assignments(store)
    assignments.run(*ones())
    assert calls == [f"set{i}" for i in range(COUNT)]
    address = store.find("v3").read().ctypes.data
    fed = [np.full(2, n, np.float32) for n in range(COUNT)]
    assignments.run(*fed)
    assert len(calls) == COUNT
    assert assignments.values() == [[n, n] for n in range(COUNT)]
    assert store.find("v3").read().ctypes.data == address
    fed[3][...] = 7
    assert store.find("v3").read().tolist() == [3, 3]


def test_what_a_reader_holds_survives_an_assignment(store):
    assignments = Assignments(store)
    assignments.run(*ones())
    held = store.find("v4").read()
    assignments.run(*(np.zeros(2, np.float32) for _ in range(COUNT)))
    assert held.tolist() == [1, 1]
    assert assignments.values() == [[0, 0]] * COUNT


def test_a_value_of_the_old_ones_shape_is_still_held_to_the_declared_one(store):
    longer = [np.ones(3, np.float32) for _ in range(COUNT)]
    free = Assignments(store, validate_shape=False)
    free.run(*longer)
    free.run(*longer)
    with pytest.raises(InvalidArgumentError, match=r"v0: a value of shape \[3\] for") as caught:
        Assignments(store).run(*longer)
    assert caught.value.node_name == "set0"


def test_an_assignment_in_the_middle_that_does_not_fit_leaves_what_comes_after(store):
    assignments = Assignments(store)
    assignments.run(*ones())
    values = [np.zeros(2, np.float32) for _ in range(COUNT)]
    values[2] = np.zeros(3, np.float32)
    with pytest.raises(InvalidArgumentError, match=r"v2: a value of shape \[3\]") as caught:
        assignments.run(*values)
    assert caught.value.node_name == "set2"
    assert assignments.values() == [[0, 0]] * 2 + [[1, 1]] * 4


def test_a_batch_calls_no_kernel(store, calls):
    descents = Descents(store, ones())
    descents.run(*ones(), rate=0.5)
    assert calls == []
    assert descents.values() == [[0.5, 0.5]] * COUNT


def test_a_buffer_that_nobody_holds_stays_the_same(store):
    descents = Descents(store, ones())
    address = store.find("v2").read().ctypes.data
    descents.run(*ones())
    assert store.find("v2").read().ctypes.data == address


def test_variables_of_many_shapes_are_updated_in_one_batch(store, calls):
    shapes = [(3,), (2, 2), (), (3,), (1, 0), (2, 2)]
    descents = Descents(store, [np.full(shape, 2) for shape in shapes])
    descents.run(*(np.ones(shape, np.float32) for shape in shapes))
    assert calls == []
    assert descents.values() == [np.full(shape, 1.0).tolist() for shape in shapes]


def test_an_error_in_the_middle_names_its_node_and_leaves_what_comes_after(store):
    descents = Descents(store, ones())
    gradients = ones()
    gradients[3] = np.ones(3, np.float32)
    with pytest.raises(InvalidArgumentError, match=r"v3: a gradient of shape \[3\]") as caught:
        descents.run(*gradients)
    assert (caught.value.node_name, caught.value.op_type) == ("up3", "ApplyGradientDescent")
    assert descents.values() == [[0, 0]] * 3 + [[1, 1]] * 3


def test_a_gradient_of_another_type_is_refused_by_its_own_node(store):
    descents = Descents(store, ones())
    gradients = ones()
    gradients[4] = np.ones(2, np.float64)
    with pytest.raises(InvalidArgumentError, match="v4: an update of float32 by a") as caught:
        descents.run(*gradients)
    assert caught.value.node_name == "up4"
    assert descents.values() == [[0, 0]] * 4 + [[1, 1]] * 2


def test_a_variable_without_a_value_fails_as_it_would_alone(store):
    descents = Descents(store, [[1, 1], [1, 1], None, [1, 1]])
    with pytest.raises(FailedPreconditionError, match="uninitialized value v2") as caught:
        descents.run(*ones(4))
    assert caught.value.node_name == "up2"
    assert store.find("v1").read().tolist() == [0, 0]
    assert store.find("v3").read().tolist() == [1, 1]


def test_hyperparameters_that_are_no_scalars_are_refused_by_the_first_node(store):
    descents = Descents(store, ones())
    program = Program(descents.graph.graph.node, received=descents.received)
    with pytest.raises(InvalidArgumentError, match="alpha is not a scalar") as caught:
        program.run(step_of(store), [np.ones(2, np.float32), *ones()], {})
    assert caught.value.node_name == "up0"
    assert descents.values() == [[1, 1]] * COUNT


def test_a_value_fed_for_a_variable_is_refused(store):
    graph = GraphBuilder()
    names = [f"v{i}" for i in range(COUNT)]
    for i, name in enumerate(names):
        graph.assign(f"up{i}", name, "x", op="AssignAdd")
    program = Program(graph.graph.node, received=["x:0", *(f"{name}:0" for name in names)])
    with pytest.raises(InvalidArgumentError, match="a reference to a variable is needed"):
        program.run(step_of(store), ones(COUNT + 1), {})


def test_a_variable_that_occurs_twice_is_updated_twice_in_order(store, calls):
    names = ["v0", "v1", "v0", "v1", "v0"]
    descents = Descents(store, [[10, 10], [20, 20], [10, 10], [20, 20], [10, 10]], names)
    descents.run(*(np.full(2, 2**i, np.float32) for i in range(5)))
    assert calls == []
    assert descents.values()[:2] == [[-11, -11], [10, 10]]


def test_a_variable_under_two_names_in_the_graph_is_updated_twice(store):
    graph = GraphBuilder()
    variable(store, "v", np.zeros(2, np.float32))
    for i in range(COUNT):
        graph.node("VariableV2", f"name{i}", shape=[2], dtype=dtypes.float32, shared_name="v")
    for i in range(COUNT):
        graph.assign(f"up{i}", f"name{i}", "x", op="AssignAdd")
    Program(graph.graph.node, received=["x:0"]).run(step_of(store), ones(1), {})
    assert store.find("v").read().tolist() == [COUNT, COUNT]


def test_what_a_reader_holds_is_not_changed(store, calls):
    descents = Descents(store, ones())
    held = store.find("v2").read()
    descents.run(*ones())
    assert calls == ["up2"]
    assert held.tolist() == [1, 1]
    assert descents.values() == [[0, 0]] * COUNT


def test_a_variable_that_is_its_own_gradient_is_read_first(store):
    graph = GraphBuilder()
    for i in range(COUNT):
        variable(store, f"v{i}", np.full(2, i + 1, np.float32))
        graph.variable(f"v{i}", [2])
    for i in range(COUNT):
        graph.assign(f"up{i}", f"v{i}", f"v{(i + 1) % COUNT}", op="AssignAdd")
    Program(graph.graph.node).run(step_of(store), [], {})
    # One after the other: the last one adds the new value of the first.
    assert [store.find(f"v{i}").read()[0] for i in range(COUNT)] == [3, 5, 7, 9, 11, 9]


def test_a_rate_that_is_updated_among_others_counts_for_those_that_follow(store):
    graph = GraphBuilder()
    names = ["v0", "v1", "rate", "v2", "v3"]
    for name in names:
        variable(store, name, np.float32(1))
        graph.variable(name)
    for name in names:
        inputs = (name, "rate", "one")
        graph.node("ApplyGradientDescent", f"up_{name}", *inputs, T=dtypes.float32)
    Program(graph.graph.node, received=["one:0"]).run(step_of(store), [np.ones((), np.float32)], {})
    assert [float(store.find(name).read()) for name in names] == [0, 0, 0, 1, 1]


def test_a_rate_in_a_variable_is_read_once_for_all(store, calls):
    graph = GraphBuilder()
    variable(store, "rate", np.float32(0.25))
    graph.variable("rate")
    for i in range(COUNT):
        variable(store, f"v{i}", np.float32(1))
        graph.variable(f"v{i}")
    for i in range(COUNT):
        inputs = (f"v{i}", "rate", "one")
        graph.node("ApplyGradientDescent", f"up{i}", *inputs, T=dtypes.float32)
    Program(graph.graph.node, received=["one:0"]).run(step_of(store), [np.ones((), np.float32)], {})
    assert calls == []
    assert store.find("v5").read() == 0.75


def test_a_rate_without_a_value_fails_the_first_node(store):
    graph = GraphBuilder()
    graph.variable("rate")
    for i in range(COUNT):
        variable(store, f"v{i}", np.float32(1))
        graph.variable(f"v{i}")
    for i in range(COUNT):
        inputs = (f"v{i}", "rate", "one")
        graph.node("ApplyGradientDescent", f"up{i}", *inputs, T=dtypes.float32)
    program = Program(graph.graph.node, received=["one:0"])
    with pytest.raises(FailedPreconditionError, match="uninitialized value rate") as caught:
        program.run(step_of(store), [np.ones((), np.float32)], {})
    assert caught.value.node_name == "up0"


def test_an_update_whose_result_is_read_answers_its_own(store):
    descents = Descents(store, [[1, 1], [1, 1], [1, 1], [1, 1], [1, 1]], ["a", "b", "a", "b", "a"])
    first, last = descents.run(*ones(5), returned=["up0:0", "up4:0"])
    assert first.tolist() == [0, 0]
    assert last.tolist() == [-2, -2]


def test_updates_of_an_update_of_the_batch_come_after_it(store):
    graph = GraphBuilder()
    variable(store, "v", np.float32(0))
    graph.variable("v")
    for i in range(COUNT):
        graph.assign(f"up{i}", f"up{i - 1}" if i else "v", "one", op="AssignAdd")
    Program(graph.graph.node, received=["one:0"]).run(step_of(store), [np.ones((), np.float32)], {})
    assert store.find("v").read() == COUNT


def test_large_gradients_are_left_to_the_kernel(store, calls, monkeypatch):
    monkeypatch.setattr(small_updates, "MAX_BYTES", 8)
    descents = Descents(store, [np.ones(2 + i % 2) for i in range(COUNT)])
    descents.run(*(np.ones(2 + i % 2, np.float32) for i in range(COUNT)))
    assert calls == ["up1", "up3", "up5"]
    assert descents.values() == [[0] * (2 + i % 2) for i in range(COUNT)]


def test_a_traced_run_shows_every_op(store):
    descents = Descents(store, ones())
    recorder = StageRecorder(iter(range(1000)).__next__)
    descents.run(*ones(), recorder=recorder)
    names = [node.node_name for node in recorder.trace().nodes]
    assert [name for name in names if name.startswith("up")] == [f"up{i}" for i in range(COUNT)]
    assert descents.values() == [[0, 0]] * COUNT


def test_overflow_in_a_short_batch_gives_no_warning(store):
    descents = Descents(store, [np.full(2, 3e38)] * 4)
    descents.run(*[np.full(2, -3e38, np.float32)] * 4, rate=10.0)
    assert descents.values() == [[np.inf, np.inf]] * 4


def test_cancelling_takes_effect_between_updates(store, monkeypatch):
    descents = Descents(store, ones())
    step = step_of(store)
    third = store.find("v3")
    change = type(third).change_at_once

    def cancel_at_third(variable, *arguments):
        if variable is third:
            step.cancel()
        return change(variable, *arguments)

    monkeypatch.setattr(type(third), "change_at_once", cancel_at_third)
    with pytest.raises(CancelledError):
        descents.run(*ones(), step=step)
    assert descents.values() == [[0, 0]] * 4 + [[1, 1]] * 2


def test_an_update_waits_for_one_that_runs_elsewhere(store, calls):
    descents = Descents(store, ones())
    busy = store.find("v2")
    with Update(Ref(busy)) as (array,):
        thread = threading.Thread(target=lambda: descents.run(*ones()))
        thread.start()
        while not busy._turn.waiting_count:
            assert thread.is_alive()
        array[...] = 5
    thread.join()
    assert calls == ["up2"]
    assert descents.values() == [[0, 0], [0, 0], [4, 4], [0, 0], [0, 0], [0, 0]]


def test_a_slot_that_somebody_updates_lets_go_of_the_variable_before_it_waits(store):
    """Else two batches could wait for each other."""
    refs = [variable(store, name, np.ones(2, np.float32)) for name in ("var", "accum")]
    short = short_update(lambda *_: None, np.dtype(np.float32), 2)
    with refs[1]._turn:
        assert not short(Ref(refs[0]), Ref(refs[1]), np.ones(2, np.float32))
        assert not refs[0]._turn.is_held
    assert short(Ref(refs[0]), Ref(refs[1]), np.ones(2, np.float32))
    assert not any(each._turn.is_held or each._lock.locked() for each in refs)


def test_a_failing_update_lets_go_of_its_variables(store, monkeypatch):
    descents = Descents(store, ones())

    def fail(*_):
        raise MemoryError("none left")

    monkeypatch.setattr(small_updates.np, "empty", fail)
    with pytest.raises(ResourceExhaustedError, match="none left") as caught:
        descents.run(*ones())
    assert caught.value.node_name == "up0"
    assert not store.find("v0")._turn.is_held


def test_a_read_only_gradient_is_only_read(store):
    descents = Descents(store, ones())
    gradients = [read_only(g) for g in ones()]
    descents.run(*gradients)
    assert all(g.tolist() == [1, 1] for g in gradients)
