"""Programs of variables, savers and errors: in process, on servers, and in TensorFlow."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest

import kernel_driver
import paramserve as ps
from places import PLACES

pytestmark = [pytest.mark.oracle, pytest.mark.slow]


@pytest.fixture(scope="module")
def tf():
    return kernel_driver.tensorflow().compat.v1


@pytest.fixture(autouse=True)
def _reference_variables(tf):
    tf.disable_resource_variables()


class Run:
    """One program in a graph and a session of one of the two libraries."""

    def __init__(self, lib, session):
        self.lib = lib
        self.session = session
        self.run = session.run

    def variable(self, value, name="v", **options):
        """A variable that has its value."""
        made = self.lib.Variable(value, name=name, **options)
        self.run(made.initializer)
        return made


def updates(p):
    v = p.variable([1.0, 2.0, 3.0])
    w = p.variable([[1, 2], [3, 4], [5, 6]], "w")
    found = [p.run(v.assign_add([1.0, 1.0, 1.0])), p.run(v.assign_sub([0.5, 0.5, 0.5]))]
    found += [p.run(v), p.run(v.assign(v * 2.0)), p.run(v[1:])]
    found.append(p.run(p.lib.scatter_add(w, [0, 0, 2], [[1, 1], [1, 1], [2, 2]])))
    found.append(p.run(p.lib.scatter_update(w, [1], [[9, 9]])))
    found.append(p.run(p.lib.scatter_sub(w, [[2], [0]], [[[1, 0]], [[0, 1]]])))
    return found


def order(p):
    """What dependencies say happens first does."""
    v, w = p.variable(1.0), p.variable(10.0, "w")
    first = v.assign(5.0)
    with p.lib.control_dependencies([first]):
        second = w.assign_add(v.read_value())
    with p.lib.control_dependencies([second]):
        third = v.assign_sub(w.read_value())
    return p.run(third), p.run([v, w])


def initial_values(p):
    lib = p.lib
    a = lib.Variable(lib.fill([2], 3.0), name="a")
    b = lib.Variable(a.initialized_value() * 2.0, name="b")
    c = lib.Variable(b.initialized_value() + a.initialized_value(), name="c")
    flags = [lib.is_variable_initialized(v) for v in (a, b, c)]
    missing = lib.report_uninitialized_variables()
    found = [p.run(flags), p.run(missing)]
    for v in (a, b, c):  # in one step, TensorFlow may read one before it is there
        p.run(v.initializer)
    p.run(a.assign([7.0, 7.0]))
    return [*found, p.run(flags), p.run(missing), p.run([a, b, c]), p.run(a.initialized_value())]


def counting(p):
    v = p.variable(0)
    count = v.count_up_to(3)
    return [p.run(count) for _ in range(3)], refused(lambda: p.run(count)), p.run(v)


def types(p):
    found = []
    for name in ("float16", "float64", "int8", "int64", "uint8", "bool", "complex64"):
        dtype = getattr(p.lib, name)
        value = np.array([0, 1, 1], dtype.as_numpy_dtype)
        v = p.variable(value, name)
        found += [p.run(v), p.run(v.assign(value[::-1]))]
    text = p.variable(np.array([b"a", b"", b"\xff"], object), "text")
    return [*found, p.run(text)]


def shapes(p):
    v = p.variable(np.zeros([2, 3], np.float32))
    w = p.lib.Variable([1.0, 2.0], validate_shape=False, name="w")
    p.run(w.initializer)
    grown = p.lib.assign(w, np.ones([3], np.float32), validate_shape=False)
    return p.run(grown), p.run(w), p.run(v).shape


def growth(p):
    """The graph grows after the session has begun, by parts that use each other."""
    v = p.variable(1.0)
    found = []
    total = v.value()
    for _ in range(5):
        total = total * 2.0 + v
        found.append(p.run(total))
    late = p.variable(v.initialized_value() + 5.0, "late")
    return [*found, p.run(late), p.run(total + late)]


def feeding(p):
    v = p.variable([1.0, 2.0])
    x = p.lib.placeholder(p.lib.float32, [2], name="x")
    y = v.assign_add(x)
    return p.run(y, {x: [1.0, 1.0]}), p.run(v * 2.0, {v: [5.0, 6.0]}), p.run(v)


def partitioned(p):
    lib = p.lib
    table = lib.get_variable(
        "table",
        initializer=lib.constant(np.arange(14, dtype=np.float32).reshape(7, 2)),
        partitioner=lib.fixed_size_partitioner(3),
    )
    p.run(lib.global_variables_initializer())
    rows = lib.nn.embedding_lookup(list(table), [6, 0, 3], partition_strategy="div")
    parts = p.run(list(table))
    p.run([part.assign(part * 10.0) for part in table])
    return parts, p.run(rows), p.run(lib.convert_to_tensor(table))


def sharing(p):
    lib = p.lib
    with lib.variable_scope("s") as scope:
        v = lib.get_variable("v", [2], initializer=lib.constant_initializer(3.0))
    with lib.variable_scope(scope, reuse=True):
        same = lib.get_variable("v", [2])
    p.run(lib.global_variables_initializer())
    p.run(v.assign_add([1.0, 1.0]))
    return same is v, p.run(same)


def conditions(p):
    v = p.variable(1.0)
    flag = p.lib.placeholder(p.lib.bool, [], name="flag")
    chosen = p.lib.cond(flag, lambda: v * 2.0, lambda: v - 5.0)
    return [p.run(chosen, {flag: value}) for value in (True, True, False)], p.run(v)


VALUES = [
    updates,
    order,
    initial_values,
    counting,
    types,
    shapes,
    growth,
    feeding,
    partitioned,
    sharing,
    conditions,
]

ERRORS = {
    "uninitialized": lambda p: p.run(p.lib.Variable(1.0, name="u")),
    "uninitialized, updated": lambda p: p.run(p.lib.Variable(1.0, name="u").assign_add(1.0)),
    "index": lambda p: p.run(p.lib.scatter_add(p.variable([1.0, 2.0]), [2], [1.0])),
    "negative index": lambda p: p.run(p.lib.scatter_sub(p.variable([1.0, 2.0]), [-1], [1.0])),
    "gathered index": lambda p: p.run(p.lib.gather(p.variable([1.0, 2.0]), [5])),
    "limit": lambda p: p.run(p.variable(3).count_up_to(3)),
    "assigned shape": lambda p: p.run(
        p.variable([1.0]).assign(p.lib.placeholder_with_default([1.0, 2.0], None))
    ),
    "division": lambda p: p.run(p.variable(1) // p.variable(0, "w")),
    "reshape": lambda p: p.run(p.lib.reshape(p.variable([1.0, 2.0]), unknown(p, [3]))),
    "product": lambda p: p.run(
        p.lib.matmul(unknown(p, [[1.0]]), unknown(p, [[1.0, 2.0], [3.0, 4.0]]))
    ),
    "concatenation": lambda p: p.run(
        p.lib.concat([unknown(p, [[1.0]]), unknown(p, [[1.0, 2.0]])], 0)
    ),
    "assertion": lambda p: p.run(p.lib.Assert(p.variable(1) > 2, [p.lib.constant("no")])),
    "not fed": lambda p: p.run(p.lib.placeholder(p.lib.float32, [2], name="x") + 1.0),
    "nan": lambda p: p.run(p.lib.check_numerics(p.variable(0.0) / 0.0, "found")),
    "no checkpoint": lambda p: saver_of(p).restore(p.session, "nothing"),
    "no directory": lambda p: saver_of(p).save(p.session, "not/there/model"),
}


PUBLIC = {name for name in dir(ps.errors) if name.endswith("Error")} | {"ValueError", "TypeError"}


def unknown(p, value):
    """A tensor whose shape is not known while the graph is built."""
    return p.lib.placeholder_with_default(value, None)


def saver_of(p):
    p.variable(1.0)
    return p.lib.train.Saver()


def refused(call):
    """The classes of `ps.errors` that a program may catch what is raised as."""
    with pytest.raises(Exception) as info:  # noqa: PT011  # which one is the question
        call()
    return {kind.__name__ for kind in type(info.value).__mro__} & PUBLIC


def outcome(lib, program, session=None, devices=None):
    with (
        lib.Graph().as_default() as graph,
        (session or lib.Session)(graph=graph) as made,
        devices or nullcontext(),
    ):
        return program(Run(lib, made))


def assert_alike(ours, theirs):
    if isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs)
        for mine, other in zip(ours, theirs, strict=True):
            assert_alike(mine, other)
    elif isinstance(theirs, (np.ndarray, np.generic)):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    else:
        assert ours == theirs


@pytest.mark.parametrize("place", PLACES, indirect=True)
@pytest.mark.parametrize("program", VALUES, ids=lambda program: program.__name__)
def test_variables_have_the_values_that_they_have_in_tensorflow(tf, program, place):
    # A branch is on the task where it is decided.
    devices = place.devices(spread=program is not conditions)
    assert_alike(outcome(ps, program, place.session, devices), outcome(tf, program))


@pytest.mark.parametrize("place", PLACES, indirect=True)
@pytest.mark.parametrize("error", ERRORS)
def test_what_fails_raises_what_it_raises_in_tensorflow(tf, error, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    program = ERRORS[error]
    ours = refused(lambda: outcome(ps, program, place.session, place.devices()))
    theirs = refused(lambda: outcome(tf, program))
    assert theirs
    assert theirs <= ours


@pytest.mark.parametrize("place", PLACES, indirect=True)
def test_checkpoints_go_from_servers_to_tensorflow_and_back(tf, place, tmp_path):
    full = np.arange(14, dtype=np.float32).reshape(7, 2)

    def build(lib, value):
        with lib.variable_scope("net"):
            v = lib.get_variable("v", initializer=lib.constant([value, 2.0]))
        table = lib.get_variable(
            "table",
            initializer=lib.constant(full * value),
            partitioner=lib.fixed_size_partitioner(3),
        )
        step = lib.Variable(int(value), name="step", dtype=lib.int64)
        return [v, *table, step]

    with ps.Graph().as_default() as graph, place.session(graph) as session:
        with place.devices():
            variables = build(ps, 1.0)
            saver = ps.train.Saver(write_version=ps.train.SaverDef.V2)
        session.run(ps.global_variables_initializer())
        ours = saver.save(session, str(tmp_path / "ours"), variables[-1])
        with tf.Graph().as_default() as their_graph, tf.Session(graph=their_graph) as theirs:
            their_variables = build(tf, 3.0)
            their_saver = tf.train.Saver()
            their_saver.restore(theirs, ours)
            assert_alike(session.run(variables), theirs.run(their_variables))
            theirs.run(tf.global_variables_initializer())
            path = their_saver.save(theirs, str(tmp_path / "theirs"), their_variables[-1])
            saver.restore(session, path)
            assert_alike(session.run(variables), theirs.run(their_variables))
    assert [ours[-7:], path[-9:]] == ["/ours-1", "/theirs-3"]


def test_ops_are_spread_over_both_servers(two_servers):
    with ps.Graph().as_default() as graph:
        with two_servers.devices():
            ps.add(ps.constant(1.0), ps.constant(2.0))
        devices = [op.device for op in graph.get_operations()]
    assert devices == ["/job:ps/task:0", "/job:ps/task:1", "/job:ps/task:0"]


def draws(p):
    """Values of one seed for the graph, and of seeds for ops, over several steps."""
    p.lib.set_random_seed(7)
    v = p.lib.Variable(p.lib.random_normal([3]), name="v")
    drawn = [
        v.initialized_value(),
        p.lib.truncated_normal([2], seed=1),
        p.lib.random_uniform([2], maxval=9, dtype=p.lib.int32, seed=2),
        p.lib.random_shuffle(p.lib.range(5)),
        p.lib.multinomial([[0.0, 1.0, 2.0]], 4),
    ]
    p.run(v.initializer)
    return [p.run(drawn) for _ in range(3)]


@pytest.mark.parametrize("place", PLACES[1:], indirect=True)
def test_the_same_seeds_draw_the_same_values_on_servers(place):
    here = outcome(ps, draws)
    assert_alike(outcome(ps, draws, place.session, place.devices(spread=False)), here)
    place.reset()
    assert_alike(outcome(ps, draws, place.session, place.devices()), here)
    assert not np.array_equal(here[0][1], here[1][1])
