"""TensorFlow reads the checkpoints that are written here, and the other way round."""

import warnings

import ml_dtypes
import numpy as np
import pytest

from checkpoint_tasks import Task, Tasks, array_of, entry
from paramserve_core import dtypes
from paramserve_core.checkpoint.reader import CheckpointReader, list_variables, load_variable
from paramserve_core.dtypes import ALL_TYPES, as_dtype
from paramserve_core.errors import DataLossError, InvalidArgumentError
from paramserve_core.shapes import TensorShape
from paramserve_protos.v1 import checkpoint_service_pb2 as messages

pytestmark = [pytest.mark.oracle, pytest.mark.slow]


@pytest.fixture(scope="module")
def tf1():
    """TensorFlow as it was in 1.x: graphs and reference variables."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tf = pytest.importorskip("tensorflow", reason="TensorFlow, the oracle, is not installed")
    tf.compat.v1.disable_resource_variables()
    return tf.compat.v1


V2 = messages.CHECKPOINT_FORMAT_TENSORFLOW_V2


def value_of(dtype, shape):
    count = int(np.prod(shape))
    if dtype is dtypes.string:
        texts = [b"", "größe".encode(), b"\x00\xff\x00", b"y" * 200]
        return np.array([texts[i % 4] for i in range(count)], object).reshape(shape)
    numbers = np.arange(count) % (2 if dtype is dtypes.bool else 100)
    return numbers.astype(dtype.as_numpy_dtype).reshape(shape)


VALUES = {
    f"{dtype.name}/{'x'.join(map(str, shape)) or 'scalar'}": value_of(dtype, shape)
    for dtype in ALL_TYPES
    for shape in [(), (0, 2), (3,), (2, 3)]
} | {"large": np.random.default_rng(0).normal(size=(300, 400)), "a/b_c.d-e": np.float32(1)}


def own_save(root, values, path="model"):
    task = Task(root)
    for name, value in values.items():
        dtype = as_dtype(value.dtype)
        variable = task.store.get_or_create(name, "", dtype, TensorShape(value.shape))
        variable.assign(np.asarray(value))
    entries = [entry(n, as_dtype(v.dtype), v.shape) for n, v in values.items()]
    Tasks(task).save(path, *entries, format=V2)


def same(found, wanted):
    return found.shape == wanted.shape and (found == wanted).all() and found.dtype == wanted.dtype


def test_tensorflow_reads_what_is_written_here(tmp_path, tf1):
    own_save(tmp_path, VALUES)
    reader = tf1.train.NewCheckpointReader(str(tmp_path / "model"))
    assert reader.get_variable_to_shape_map() == {n: list(v.shape) for n, v in VALUES.items()}
    for name, value in VALUES.items():
        assert same(np.asarray(reader.get_tensor(name), value.dtype), np.asarray(value)), name


def test_tensorflows_saver_restores_what_is_written_here(tmp_path, tf1):
    values = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "names": array_of(["a", "bc"])}
    own_save(tmp_path, values)
    with tf1.Graph().as_default(), tf1.Session() as session:
        w = tf1.get_variable("w", [2, 3])
        names = tf1.get_variable("names", [2], tf1.string)
        tf1.train.Saver().restore(session, str(tmp_path / "model"))
        assert session.run(w).tolist() == [[0, 1, 2], [3, 4, 5]]
        assert session.run(names).tolist() == [b"a", b"bc"]


def test_tensorflow_reads_partitions_that_are_written_here(tmp_path, tf1):
    full = np.arange(28, dtype=np.float32).reshape(7, 4)
    first, second = Task(tmp_path, name="first"), Task(tmp_path, name="second")
    first.set(a=full[:3], c=full[5:])
    second.set(b=full[3:5])
    tasks = Tasks(first, second)
    tasks.place = {"b": "second"}
    bounds = {"a": (0, 3), "b": (3, 5), "c": (5, 7)}
    tasks.save(
        "model",
        *(
            entry("table", node=node, slice_of=([7, 4], [low, 0], [high - low, 4]))
            for node, (low, high) in bounds.items()
        ),
        format=V2,
    )
    reader = tf1.train.NewCheckpointReader(str(tmp_path / "model"))
    assert (reader.get_tensor("table") == full).all()
    with tf1.Graph().as_default(), tf1.Session() as session:
        split = tf1.get_variable("table", [7, 4], partitioner=tf1.fixed_size_partitioner(2))
        tf1.train.Saver().restore(session, str(tmp_path / "model"))
        assert (session.run(tf1.convert_to_tensor(split)) == full).all()


_NOT_IN_V1 = ("bfloat16", "uint32", "uint64")


def tensorflow_save(tf1, directory, values, version, partitions=None, sharded=False):
    with tf1.Graph().as_default(), tf1.Session() as session:
        fed = {}
        for name, value in values.items():
            variable = tf1.Variable(
                tf1.placeholder(value.dtype if value.dtype != object else tf1.string, value.shape),
                name=name,
            )
            fed[variable.initializer.inputs[1]] = value
        for name, value in (partitions or {}).items():
            parts = tf1.get_variable(
                name, value.shape, tf1.float32, partitioner=tf1.fixed_size_partitioner(3)
            )
            begin = 0
            for part in parts:
                end = begin + part.shape[0]
                session.run(part.assign(value[begin:end]))
                begin = end
        assign = [op for op in tf1.get_default_graph().get_operations() if op.type == "Assign"]
        session.run([op for op in assign if op.inputs[1] in fed], fed)
        saver = tf1.train.Saver(write_version=version, sharded=sharded)
        return saver.save(session, str(directory / "model"))


@pytest.mark.parametrize("version", ["V1", "V2"])
@pytest.mark.parametrize("sharded", [False, True])
def test_what_tensorflow_writes_is_read_here(tmp_path, tf1, version, sharded):
    unsupported = _NOT_IN_V1 if version == "V1" else ()
    values = {n: np.asarray(v) for n, v in VALUES.items() if n.split("/")[0] not in unsupported}
    parts = {"split": np.arange(40, dtype=np.float32).reshape(10, 4)}
    path = tensorflow_save(
        tf1, tmp_path, values, getattr(tf1.train.SaverDef, version), parts, sharded
    )
    reader = CheckpointReader(path)
    assert reader.get_variable_to_shape_map() == {
        n: list(v.shape) for n, v in (values | parts).items()
    }
    for name, value in (values | parts).items():
        assert same(reader.get_tensor(name), value), name
    assert all(error is None for _, error in reader.verify())
    task = Task(tmp_path)
    entries = [entry(n, as_dtype(v.dtype), v.shape) for n, v in values.items()]
    entries.append(entry("split", shape=[5, 4], slice_of=([10, 4], [2, 0], [5, 4])))
    Tasks(task).restore(path, *entries)
    for name, value in values.items():
        assert same(task.get(name), value), name
    assert (task.get("split") == parts["split"][2:7]).all()


def test_tools_answer_as_tensorflows_do(tmp_path, tf1):
    values = {"w": np.ones((2, 3), np.float32), "b": np.arange(4)}
    path = tensorflow_save(tf1, tmp_path, values, tf1.train.SaverDef.V2)
    assert list_variables(path) == tf1.train.list_variables(path)
    assert list_variables(tmp_path) == tf1.train.list_variables(str(tmp_path))
    assert (load_variable(tmp_path, "b") == tf1.train.load_variable(str(tmp_path), "b")).all()
    ours, theirs = CheckpointReader(path), tf1.train.NewCheckpointReader(path)
    assert ours.get_variable_to_shape_map() == theirs.get_variable_to_shape_map()
    assert {n: t.name for n, t in ours.get_variable_to_dtype_map().items()} == {
        n: t.name for n, t in theirs.get_variable_to_dtype_map().items()
    }
    assert ours.has_tensor("w")
    assert not ours.has_tensor("x")


def test_damage_that_tensorflow_notices_is_noticed_here(tmp_path, tf1):
    values = {"w": np.ones((2, 3), np.float32), "s": array_of(["a", "b"])}
    path = tensorflow_save(tf1, tmp_path, values, tf1.train.SaverDef.V2)
    data = tmp_path / "model.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    for at in (0, len(content) - 1):
        content[at] ^= 4
        data.write_bytes(content)
        damaged = {name for name, error in CheckpointReader(path).verify() if error}
        assert len(damaged) == 1
        with pytest.raises(tf1.errors.OpError):
            tf1.train.NewCheckpointReader(path).get_tensor(damaged.pop())
        content[at] ^= 4
    content[0] ^= 1
    data.write_bytes(content)
    with pytest.raises(DataLossError, match=r"model.data-00000-of-00001"):
        load_variable(path, "s")


def test_bfloat16_is_the_same_on_both_sides(tmp_path, tf1):
    values = {"h": np.array([1.5, -2.25, 1e30], ml_dtypes.bfloat16)}
    path = tensorflow_save(tf1, tmp_path, values, tf1.train.SaverDef.V2)
    assert load_variable(path, "h").tolist() == values["h"].tolist()


@pytest.mark.parametrize("version", [1, 2])
def test_tensors_of_tensorflow_are_cast_where_that_is_asked_for(tmp_path, tf1, version):
    with tf1.Graph().as_default(), tf1.Session() as session:
        tf1.get_variable("double", initializer=np.array([[0.5], [-1e30]]))
        tf1.get_variable("long", initializer=np.array([7, -8]))
        session.run(tf1.global_variables_initializer())
        path = tf1.train.Saver(write_version=version).save(session, str(tmp_path / "model"))
    task = Task(tmp_path)
    wanted = [entry("double", dtypes.bfloat16, [2, 1]), entry("long", dtypes.int32, [2])]
    for tensor in wanted:
        tensor.cast = True
    Tasks(task).restore(path, *wanted)
    assert task.get("double").tolist() == [[0.5], [float(ml_dtypes.bfloat16(-1e30))]]
    assert (task.get("long").dtype, task.get("long").tolist()) == (np.int32, [7, -8])
    wanted[0].dtype = dtypes.float16.as_datatype_enum
    with pytest.raises(InvalidArgumentError, match=r"double: -1e\+30 .* range of float16"):
        Tasks(Task(tmp_path)).restore(path, *wanted)
