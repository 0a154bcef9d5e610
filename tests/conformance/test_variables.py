"""The same programs, run here and in TensorFlow: names, places, collections and refusals."""

import warnings

import numpy as np
import pytest

import paramserve as ps
from paramserve._variables import slots

pytestmark = [pytest.mark.oracle, pytest.mark.slow]


@pytest.fixture(scope="module")
def tf():
    """TensorFlow as it was in 1.x: graphs and reference variables."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tf = pytest.importorskip("tensorflow", reason="TensorFlow, the oracle, is not installed")
    tf.compat.v1.disable_resource_variables()
    return tf.compat.v1


def in_graph(library, program):
    """What a program answers in a new graph of a library."""
    with library.Graph().as_default():
        return program(library)


def variable_ops(library):
    """Names, types, devices and colocation of the ops that variables consist of."""
    kinds = ("VariableV2", "Assign", "Identity")
    return [
        (op.name, op.type, op.device, op.colocation_groups())
        for op in library.get_default_graph().get_operations()
        if op.type in kinds
    ]


# Programs that answer something.


def creation(lib):
    lib.Variable([1.0, 2.0], name="w")
    lib.Variable(3, name="w")
    lib.Variable(4.0)
    with lib.name_scope("scope"), lib.device("/job:ps/task:1"):
        v = lib.Variable(np.zeros([2, 3]), name="v", trainable=False)
    with lib.device("/job:ps/task:2"):
        lib.Variable(1.0, name="cached", caching_device="/job:worker")
    return variable_ops(lib), v.name, v.dtype.name, v.shape.as_list(), v.device


def control(lib):
    with lib.control_dependencies([lib.no_op()]):
        v = lib.Variable([1.0], name="v")
        w = lib.get_variable("w", [2])
    return [
        [op.name for op in made.control_inputs]
        for x in (v, w)
        for made in (x.op, x.initializer, x.value().op)
    ]


def shapes(lib):
    x = lib.placeholder(lib.float32, [None, 2])
    v = lib.Variable(x, validate_shape=False)
    return str(v.shape), str(v.value().shape), str(v.assign(lib.zeros([3])).shape)


def collections(lib):
    lib.Variable(1.0, name="a")
    lib.Variable(1.0, name="b", trainable=False)
    lib.Variable(1.0, name="c", collections=[lib.GraphKeys.LOCAL_VARIABLES])
    lib.Variable(1.0, name="d", collections=[], trainable=False)
    lists = (lib.global_variables, lib.trainable_variables, lib.local_variables)
    return [[v.name for v in found()] for found in lists]


def messages(lib):
    v = lib.Variable([1.0], name="v")
    w = lib.get_variable("w", [5], partitioner=lib.fixed_size_partitioner(2))
    found = [x.to_proto() for x in (v, *w)]
    for message in found:
        message.ClearField("initial_value_name")  # that of random values is another op here
    return [message.SerializeToString(deterministic=True) for message in found]


def assignments(lib):
    with lib.name_scope("scope"):
        v = lib.Variable([1.0], name="v")
        made = [v.assign([2.0]), v.assign_add([2.0]), v.assign_sub([2.0], name="sub")]
        made += [v.read_value(), v + 1.0, 1.0 - v, -v, v[0]]
    return [tensor.name for tensor in made], [tensor.dtype.name for tensor in made]


def updates_elsewhere(lib):
    """Ops that take a reference go where the variable is."""
    with lib.device("/job:ps/task:1"):
        v = lib.Variable([1.0], name="v")
        w = lib.Variable([0], name="w")
    with lib.device("/job:worker"):
        made = [v.assign([2.0]), lib.assign_add(v, [2.0]), lib.scatter_sub(v, [0], [2.0])]
        made += [lib.is_variable_initialized(v), lib.scatter_update(w, [0], [1])]
        made.append(v + 1.0)
    return [(x.device, x.op.colocation_groups()) for x in made]


def initializers(lib):
    v = lib.Variable([1.0], name="v")
    return [
        lib.global_variables_initializer().name,
        lib.variables_initializer([v]).name,
        lib.variables_initializer([], name="none").type,
        lib.local_variables_initializer().name,
        [op.name for op in lib.variables_initializer([v], name="x").control_inputs],
    ]


def scopes(lib):
    found = []
    with lib.variable_scope("foo") as foo:
        v = lib.get_variable("v", [1])
        found.append((foo.name, foo.original_name_scope, foo.reuse, v.name))
        with lib.name_scope("ops"), lib.variable_scope("inner") as inner:
            x = lib.get_variable("x", [1]) + 1.0
            found.append((inner.name, inner.original_name_scope, x.name))
    with lib.variable_scope("foo", reuse=True) as again:
        found.append((again.name, again.original_name_scope, lib.get_variable("v") is v))
    with lib.variable_scope("bar"):
        with lib.variable_scope(foo) as captured:
            x = lib.get_variable("y", [1]) + 1.0
            found.append((captured.name, captured.original_name_scope, x.name))
        with lib.variable_scope("deep/er") as deeper:
            found.append((deeper.name, deeper.original_name_scope))
        with lib.variable_scope("quiet", reuse=True), lib.variable_scope(foo) as loud:
            found.append(loud.reuse)
    with lib.variable_scope(lib.get_variable_scope(), reuse=True) as root:
        found.append((root.name, root.reuse, lib.no_op().name))
    return found


def default_names(lib):
    found = []
    for parent in ("p", "p", "q"):
        with lib.variable_scope(parent) as scope:
            for _ in range(2):
                with lib.variable_scope(None, "d") as inner:
                    found.append((inner.name, inner.original_name_scope))
            with lib.variable_scope(scope), lib.variable_scope(None, "d") as inner:
                found.append((inner.name, inner.original_name_scope))
            with lib.variable_scope(None, "d") as inner:
                found.append((inner.name, inner.original_name_scope))
    for _ in range(2):
        with lib.variable_scope(None, "d") as inner:
            found.append(inner.name)
    return found


def defaults(lib):
    with lib.variable_scope("s", dtype=lib.float64):
        a = lib.get_variable("a", [1])
        b = lib.get_variable("b", initializer=lib.zeros([1], lib.int32))
        c = lib.get_variable("c", initializer=3.0)
        d = lib.get_variable("d", [1], lib.int32)
    return [v.dtype.name for v in (a, b, c, d)], variable_ops(lib)


def initial_ops(lib):
    with lib.device("/job:ps/task:1"):
        v = lib.get_variable("v", [2], initializer=lib.constant_initializer(1.0))
        w = lib.get_variable("w", [2], initializer=lib.zeros_initializer())
    return [(x.initial_value.op.name, x.initial_value.op.colocation_groups()) for x in (v, w)]


def partitions(lib):
    found = []
    with lib.device(lib.train.replica_device_setter(2)):
        for name, shape, partitioner in [
            ("a", [7, 2], lib.fixed_size_partitioner(3)),
            ("b", [7, 2], lib.fixed_size_partitioner(5, axis=1)),
            ("c", [1000, 4], lib.variable_axis_size_partitioner(3000)),
            ("d", [1000, 4], lib.min_max_variable_partitioner(4, min_slice_size=6000)),
        ]:
            whole = lib.get_variable(name, shape, partitioner=partitioner)
            found.append((whole.name, whole.dtype.name, whole.get_shape().as_list(), len(whole)))
            for part in whole:
                place = part._get_save_slice_info()
                found.append((part.name, part.device, place.spec, place.full_name))
        parts = lib.create_partitioned_variables([4, 3], [1, 2], lib.zeros_initializer())
        named = lib.create_partitioned_variables([4], [2], lib.zeros_initializer(), name="emb")
    return found + [v.name for v in parts + named]


def templates(lib):
    def scale(x, name):
        return x * lib.get_variable(name, [], initializer=lib.ones_initializer())

    first = lib.make_template("sc", scale, name="y")
    second = lib.make_template("sc", scale, name="y")
    with lib.variable_scope("outer"):
        now = lib.make_template("now", scale, create_scope_now_=True, name="y")
    made = [first(1.0), first(2.0), second(1.0), now(1.0), now(1.0)]
    scopes = [template.variable_scope.name for template in (first, second, now)]
    return [x.name for x in made], [v.name for v in lib.global_variables()], scopes


def placement(lib):
    found = []
    cluster = {"ps": ["a:1", "b:1", "c:1"], "worker": ["d:1"]}
    for options in [
        {"ps_tasks": 2},
        {"cluster": cluster},
        {"cluster": lib.train.ClusterSpec(cluster).as_cluster_def()},
        {"cluster": {"worker": ["a:1"]}},
        {"ps_tasks": 2, "worker_device": ""},
        {"ps_tasks": 2, "ps_device": "/job:ps/cpu:0", "worker_device": "/job:worker/task:3"},
        {"ps_tasks": 2, "merge_devices": False},
        {"ps_tasks": 2, "ps_device": "/cpu:0"},
        {"ps_tasks": 2, "ps_ops": ["Const"]},
    ]:
        with lib.Graph().as_default(), lib.device(lib.train.replica_device_setter(**options)):
            made = [lib.Variable(1.0), lib.Variable(1.0), lib.no_op()]
            with lib.device("/job:ps/task:5"):
                made.append(lib.Variable(1.0))
            with lib.device("/job:other"):
                made.append(lib.Variable(1.0))
            with lib.device("/cpu:1"):
                made += [lib.Variable(1.0), lib.no_op()]
            made.append(lib.get_variable("v", [2]))
            found.append([item.device for item in made])
    return found


PROGRAMS = [
    creation,
    control,
    shapes,
    collections,
    messages,
    assignments,
    updates_elsewhere,
    initializers,
    scopes,
    default_names,
    defaults,
    initial_ops,
    partitions,
    templates,
    placement,
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_program_answers_the_same(tf, program):
    assert in_graph(ps, program) == in_graph(tf, program)


def test_slots_have_the_same_names_and_places(tf):
    from tensorflow.python.training import slot_creator

    def program(lib, creator):
        with lib.device("/job:ps/task:1"):
            w = lib.Variable([1.0, 2.0], name="w")
        whole = lib.get_variable("p", [5], partitioner=lib.fixed_size_partitioner(2))
        made = [creator.create_zeros_slot(w, "Adam"), creator.create_zeros_slot(w, "Adam")]
        with lib.variable_scope("opt"), lib.name_scope("x"):
            made.append(creator.create_slot(w, lib.zeros([2]), "m"))
        parts = [creator.create_zeros_slot(v, "Adam") for v in [*whole, *whole]]
        return (
            [(v.name, v.device, v.op.colocation_groups()) for v in made],
            [v.name for v in parts],
            [v._get_save_slice_info().full_name for v in parts],
        )

    with ps.Graph().as_default():
        found = program(ps, slots)
    with tf.Graph().as_default():
        assert found == program(tf, slot_creator)


# Programs that are refused.

REFUSED = {
    "no value": lambda lib: lib.Variable(),
    "unknown shape": lambda lib: lib.Variable(lib.placeholder(lib.float32)),
    "part of a shape": lambda lib: lib.Variable(lib.placeholder(lib.float32, [None, 2])),
    "collections": lambda lib: lib.Variable(1.0, collections="abc"),
    "type": lambda lib: lib.Variable(lib.zeros([2]), dtype=lib.int32),
    "two sources": lambda lib: lib.Variable(1.0, variable_def=lib.Variable(2.0).to_proto()),
    "slices": lambda lib: lib.Variable([1.0]).scatter_sub(3),
    "assigned shape": lambda lib: lib.Variable([1.0]).assign([1.0, 2.0]),
    "assigned type": lambda lib: lib.Variable([1.0]).assign(lib.constant([1])),
    "set_shape": lambda lib: lib.Variable([1.0]).set_shape([2]),
    "iteration": lambda lib: list(lib.Variable([1.0])),
    "length": lambda lib: len(lib.Variable([1.0])),
    "number": lambda lib: float(lib.Variable(1.0)),
    "load": lambda lib: lib.Variable(1.0).load(2.0),
    "eval": lambda lib: lib.Variable(1.0).eval(),
    "exists": lambda lib: [lib.get_variable("v", [1]) for _ in range(2)],
    "no shape": lambda lib: lib.get_variable("v"),
    "open shape": lambda lib: lib.get_variable("v", [None]),
    "value and shape": lambda lib: lib.get_variable("v", [1], initializer=lib.zeros([1])),
    "value and type": lambda lib: lib.get_variable(
        "v", dtype=lib.float64, initializer=lib.zeros([1])
    ),
    "name": lambda lib: lib.get_variable("/v", [1]),
    "no scope": lambda lib: lib.variable_scope(None).__enter__(),
    "scope": lambda lib: lib.variable_scope(3).__enter__(),
    "reuse": lambda lib: lib.variable_scope("s", reuse=3).__enter__(),
    "reuse by default": lambda lib: lib.variable_scope(None, "s", reuse=True).__enter__(),
    "partitioner": lambda lib: lib.get_variable("v", [4], partitioner=3),
    "partitions": lambda lib: lib.get_variable("v", [4], partitioner=lambda shape, dtype: 3),
    "two axes": lambda lib: lib.get_variable("v", [4, 4], partitioner=lambda shape, dtype: [2, 2]),
    "rank": lambda lib: lib.get_variable("v", [4, 4], partitioner=lambda shape, dtype: [2]),
    "zero": lambda lib: lib.get_variable("v", [4], partitioner=lambda shape, dtype: [0]),
    "template": lambda lib: lib.make_template(None, lambda: 1),
    "cluster": lambda lib: lib.train.replica_device_setter(cluster=3),
    "strategy": lambda lib: lib.train.replica_device_setter(1, ps_strategy=3),
}


@pytest.mark.parametrize("program", REFUSED.values(), ids=REFUSED)
def test_a_program_is_refused_with_the_same_kind_of_error(tf, program):
    with pytest.raises(Exception) as theirs:  # noqa: PT011  # which one is the question
        in_graph(tf, program)
    with pytest.raises(Exception) as ours:  # noqa: PT011
        in_graph(ps, program)
    kinds = (TypeError, ValueError)
    assert [isinstance(ours.value, k) for k in kinds] == [
        isinstance(theirs.value, k) for k in kinds
    ]


REUSE = {
    "missing": lambda lib: lib.get_variable("w"),
    "shape": lambda lib: lib.get_variable("v", [2]),
    "type": lambda lib: lib.get_variable("v", dtype=lib.int32),
    "parts": lambda lib: lib.get_variable("v", [4], partitioner=lib.fixed_size_partitioner(2)),
}


@pytest.mark.parametrize("program", REUSE.values(), ids=REUSE)
def test_sharing_is_refused_for_the_same_reasons(tf, program):
    for lib in (tf, ps):
        with lib.Graph().as_default():
            lib.get_variable("v", [4])
            with lib.variable_scope("", reuse=True), pytest.raises(ValueError, match=r"\b[vw]\b"):
                program(lib)


# Graphs that go from here to there and back.


def test_tensorflow_runs_our_initialized_values(tf):
    with ps.Graph().as_default() as graph:
        w = ps.Variable(ps.random_normal([100], seed=3), name="w")
        w2 = ps.Variable(w.initialized_value() * 2.0, name="w2")
        ps.Variable(w2.initialized_value() + w.initialized_value(), name="w3")
        ps.initialize_all_variables()
        missing = ps.report_uninitialized_variables()
        ps.identity(w.initialized_value(), name="now")
        message = graph.as_graph_def().SerializeToString()
    with tf.Graph().as_default():
        tf.import_graph_def(tf.GraphDef.FromString(message), name="")
        with tf.Session() as session:
            assert session.run(missing.name).tolist() == [b"w", b"w2", b"w3"]
            session.run("init")
            first, second, third = session.run(["w:0", "w2:0", "w3:0"])
            np.testing.assert_array_equal(second, first * 2)
            np.testing.assert_allclose(third, first * 3, rtol=1e-6)
            np.testing.assert_array_equal(session.run("now:0"), first)
            assert session.run(missing.name).tolist() == []


def test_tensorflow_finds_our_variables_in_a_meta_graph(tf):
    with ps.Graph().as_default():
        ps.Variable([1.0], name="v")
        ps.get_variable("w", [5], partitioner=ps.fixed_size_partitioner(2))
        ps.initialize_all_variables()
        message = ps.train.export_meta_graph().SerializeToString()
    with tf.Graph().as_default():
        tf.train.import_meta_graph(tf.MetaGraphDef.FromString(message))
        assert [v.name for v in tf.global_variables()] == ["v:0", "w/part_0:0", "w/part_1:0"]
        assert [v.name for v in tf.trainable_variables()] == ["v:0", "w/part_0:0", "w/part_1:0"]
        with tf.Session() as session:
            session.run("init")
            assert session.run("v:0").tolist() == [1.0]


def test_variables_of_a_meta_graph_of_tensorflow_are_found(tf):
    with tf.Graph().as_default():
        tf.Variable([1.0], name="v")
        tf.get_variable("w", [5], partitioner=tf.fixed_size_partitioner(2))
        tf.global_variables_initializer()
        message = tf.train.export_meta_graph().SerializeToString()
    with ps.Graph().as_default():
        ps.train.import_meta_graph(ps.MetaGraphDef.FromString(message))
        v, first, second = ps.global_variables()
        assert second._get_save_slice_info().spec == "5 3,2"
        with ps.Session() as session:
            session.run("init")
            assert session.run(v).tolist() == [1.0]
            assert session.run([first, second])[1].shape == (2,)
            assert session.run(v.initialized_value()).tolist() == [1.0]
