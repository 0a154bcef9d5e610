"""Variables in parts: how they are cut, made, shared and read."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import paramserve as ps
from paramserve._framework.convert import convert_to_tensor
from paramserve._variables.partitioned import slices_of
from paramserve._variables.save_slice import SaveSliceInfo


def cut(*partitions):
    """A partitioner that always answers the same."""
    return lambda *, shape, dtype: list(partitions)


# Partitioners.


def parts(partitioner, shape, dtype=ps.float32):
    return list(partitioner(shape=ps.TensorShape(shape), dtype=dtype))


def test_a_fixed_number_of_parts_is_no_more_than_the_length():
    assert parts(ps.fixed_size_partitioner(3), [7, 2]) == [3, 1]
    assert parts(ps.fixed_size_partitioner(3, axis=1), [7, 2]) == [1, 2]


@pytest.mark.parametrize(
    ("options", "shape", "dtype", "expected"),
    [
        ({"max_shard_bytes": 16}, [4, 3], ps.float32, [4, 1]),
        ({"max_shard_bytes": 16, "axis": 1}, [4, 3], ps.float32, [1, 3]),
        ({"max_shard_bytes": 24}, [4, 3], ps.float32, [2, 1]),
        ({"max_shard_bytes": 100}, [4, 3], ps.string, [2, 1]),
        ({"max_shard_bytes": 16, "max_shards": 5}, [100, 3], ps.float32, [5, 1]),
        ({"max_shard_bytes": 1 << 20}, [100, 3], ps.float32, [1, 1]),
        ({"max_shard_bytes": 1}, [0, 3], ps.float32, [1, 1]),
    ],
)
def test_parts_have_no_more_bytes_than_said_if_rows_allow(options, shape, dtype, expected):
    assert parts(ps.variable_axis_size_partitioner(**options), shape, dtype) == expected


@pytest.mark.parametrize(
    ("options", "shape", "dtype", "expected"),
    [
        ({"max_partitions": 5, "min_slice_size": 1000}, [100, 30], ps.float32, [5, 1]),
        ({"max_partitions": 50, "min_slice_size": 1000}, [100, 30], ps.float32, [12, 1]),
        ({"max_partitions": 50, "min_slice_size": 999}, [100, 30], ps.float32, [13, 1]),
        ({"max_partitions": 50, "axis": 1, "min_slice_size": 9}, [100, 3], ps.float32, [1, 3]),
        ({"max_partitions": 50, "min_slice_size": 100}, [100], ps.string, [16]),
        ({"max_partitions": 50}, [10], ps.float32, [1]),
    ],
)
def test_parts_have_about_as_many_bytes_as_said_if_there_are_so_many(
    options, shape, dtype, expected
):
    assert parts(ps.min_max_variable_partitioner(**options), shape, dtype) == expected


@pytest.mark.parametrize(
    "make",
    [
        lambda: ps.fixed_size_partitioner(0),
        lambda: ps.variable_axis_size_partitioner(0),
        lambda: ps.variable_axis_size_partitioner(1, bytes_per_string_element=0),
        lambda: ps.variable_axis_size_partitioner(1, max_shards=0),
        lambda: ps.min_max_variable_partitioner(0),
        lambda: ps.min_max_variable_partitioner(1, min_slice_size=0),
    ],
)
def test_numbers_of_a_partitioner_are_positive(make):
    with pytest.raises(ValueError, match=r"must be positive, got 0"):
        make()


def test_a_partitioner_needs_a_known_shape():
    for partitioner in (
        ps.fixed_size_partitioner(2),
        ps.variable_axis_size_partitioner(8),
        ps.min_max_variable_partitioner(8),
    ):
        for shape in ([None, 4], [4, None]):
            with pytest.raises(ValueError, match="shape is not fully defined"):
                parts(partitioner, shape)


@pytest.mark.parametrize(
    "partitioner",
    [
        ps.fixed_size_partitioner(2, axis=2),
        ps.variable_axis_size_partitioner(8, axis=2),
        ps.min_max_variable_partitioner(8, axis=2),
        ps.fixed_size_partitioner(2, axis=-1),
    ],
)
def test_an_axis_that_is_not_there_is_refused(partitioner):
    with pytest.raises(ValueError, match=r"cannot cut axis -?\d of a variable of shape \(3, 4\)"):
        parts(partitioner, [3, 4])


# Places.


@settings(max_examples=30)
@given(st.data())
def test_the_parts_cover_the_whole_and_differ_by_one_at_most(data):
    shape = data.draw(st.lists(st.integers(1, 20), min_size=1, max_size=3))
    axis = data.draw(st.integers(0, len(shape) - 1))
    partitions = [1] * len(shape)
    partitions[axis] = data.draw(st.integers(1, shape[axis]))
    places = slices_of("w", ps.TensorShape(shape), partitions)
    covered = np.zeros(shape, int)
    for place in places:
        region = zip(place.var_offset, place.var_shape, strict=True)
        covered[tuple(slice(begin, begin + size) for begin, size in region)] += 1
        assert place.full_shape == tuple(shape)
        assert place.full_name == "w"
    assert (covered == 1).all()
    lengths = [place.var_shape[axis] for place in places]
    assert lengths == sorted(lengths, reverse=True)
    assert max(lengths) - min(lengths) <= 1


def test_a_place_says_itself_as_checkpoints_do():
    place = SaveSliceInfo("w", [784, 200], [392, 0], [392, 200])
    assert place.spec == "784 200 392,392:0,200"
    assert SaveSliceInfo.from_proto(place.to_proto()) == place
    scoped = SaveSliceInfo.from_proto(place.to_proto(), import_scope="model")
    assert scoped.full_name == "model/w"
    assert scoped.to_proto(export_scope="model").full_name == "w"
    assert scoped.to_proto(export_scope="other") is None
    assert ps.Variable.SaveSliceInfo is SaveSliceInfo


@pytest.mark.parametrize(
    "place", [([4], [0, 0], [2]), ([4], [3], [2]), ([4], [-1], [2]), ([4], [0], [])]
)
def test_a_place_outside_of_the_whole_is_refused(place):
    with pytest.raises(ValueError, match=r"w: a part at"):
        SaveSliceInfo("w", *place)


# get_variable with a partitioner.


def test_a_partitioner_makes_a_variable_per_part_each_knowing_its_place():
    whole = ps.get_variable("w", [7, 2], partitioner=ps.fixed_size_partitioner(3))
    assert isinstance(whole, ps.PartitionedVariable)
    assert [(v.name, v.shape.as_list()) for v in whole] == [
        ("w/part_0:0", [3, 2]),
        ("w/part_1:0", [2, 2]),
        ("w/part_2:0", [2, 2]),
    ]
    assert [v._get_save_slice_info().spec for v in whole] == [
        "7 2 0,3:0,2",
        "7 2 3,2:0,2",
        "7 2 5,2:0,2",
    ]
    assert ps.global_variables() == ps.trainable_variables() == list(whole)
    assert (whole.name, whole.dtype, whole.shape, len(whole)) == ("w", ps.float32, [7, 2], 3)
    assert whole.get_shape() == whole.shape
    assert whole.partitions == (3, 1)
    assert whole.graph is ps.get_default_graph()
    assert "'w' shape=(7, 2) dtype=float32 partitions=[3, 1]" in repr(whole)


def test_the_parts_go_to_the_servers_in_turn():
    with ps.device(ps.train.replica_device_setter(3)):
        whole = ps.get_variable("w", [6], partitioner=ps.fixed_size_partitioner(3))
    assert [v.device for v in whole] == [f"/job:ps/task:{i}" for i in range(3)]


def test_the_whole_is_a_tensor_where_one_is_wanted(session):
    value = np.arange(14, dtype=np.float32).reshape(7, 2)
    whole = ps.get_variable("w", initializer=value, partitioner=ps.fixed_size_partitioner(3))
    session.run(ps.initialize_all_variables())
    assert [session.run(v).tolist() for v in whole] == [
        value[:3].tolist(),
        value[3:5].tolist(),
        value[5:].tolist(),
    ]
    np.testing.assert_array_equal(session.run(whole), value)
    np.testing.assert_array_equal(session.run(whole.as_tensor()), value)
    np.testing.assert_array_equal(session.run(ps.add(whole, 1.0)), value + 1)
    np.testing.assert_array_equal(session.run(ps.stack([whole, value])), [value, value])


def test_columns_may_be_cut_too(session):
    value = np.arange(14, dtype=np.float32).reshape(2, 7)
    partitioner = ps.fixed_size_partitioner(2, axis=1)
    whole = ps.get_variable("w", initializer=value, partitioner=partitioner)
    session.run(ps.initialize_all_variables())
    assert [v.shape.as_list() for v in whole] == [[2, 4], [2, 3]]
    np.testing.assert_array_equal(session.run(whole), value)


def test_one_part_is_a_partitioned_variable_and_a_scalar_is_not_cut(session):
    whole = ps.get_variable("w", [4], partitioner=cut(1))
    assert isinstance(whole, ps.PartitionedVariable)
    scalar = ps.get_variable("s", [], partitioner=cut())
    assert isinstance(scalar, ps.Variable)
    session.run(ps.initialize_all_variables())
    assert session.run(whole).shape == (4,)


def test_fetching_the_whole_twice_adds_to_the_graph_once(graph, session):
    whole = ps.get_variable("w", [4], partitioner=cut(2))
    session.run(ps.initialize_all_variables())
    with ps.control_dependencies([ps.no_op()]):
        session.run(whole)
    graph.finalize()
    session.run(whole)


def test_an_initializer_is_told_which_part_it_makes():
    told = []

    def initializer(shape, dtype, partition_info=None):
        told.append((shape, partition_info.full_shape, partition_info.var_offset))
        return ps.zeros(shape, dtype)

    ps.get_variable("w", [5, 2], initializer=initializer, partitioner=cut(2, 1))
    assert told == [([3, 2], (5, 2), (0, 0)), ([2, 2], (5, 2), (3, 0))]
    ps.get_variable("v", [4], initializer=lambda shape, dtype: ps.zeros(shape), partitioner=cut(2))


def test_a_loss_is_collected_for_each_part():
    ps.get_variable("w", [4], partitioner=cut(2), regularizer=ps.reduce_sum)
    assert len(ps.get_collection(ps.GraphKeys.REGULARIZATION_LOSSES)) == 2


def test_reuse_finds_the_whole_with_or_without_the_partitioner():
    whole = ps.get_variable("w", [7, 2], partitioner=cut(3, 1))
    with ps.variable_scope("", reuse=True):
        assert ps.get_variable("w", [7, 2], partitioner=cut(3, 1)) is whole
        assert ps.get_variable("w") is whole
        with pytest.raises(ValueError, match=r"specified partitions \[2, 1\] and found .*\[3, 1\]"):
            ps.get_variable("w", [7, 2], partitioner=cut(2, 1))
        with pytest.raises(ValueError, match=r"Trying to share variable w, but specified shape"):
            ps.get_variable("w", [8, 2], partitioner=cut(3, 1))
    with pytest.raises(ValueError, match="Partitioned variable with name w already exists"):
        ps.get_variable("w", [7, 2], partitioner=cut(3, 1))
    with pytest.raises(ValueError, match="Partitioned variable with name w already exists"):
        ps.get_variable("w", [7, 2])


def test_a_whole_variable_is_not_shared_in_parts():
    ps.get_variable("w", [4])
    with (
        ps.variable_scope("", reuse=True),
        pytest.raises(ValueError, match=r"an unpartitioned version of the variable was found: w"),
    ):
        ps.get_variable("w", [4], partitioner=cut(2))
    with (
        ps.variable_scope("", reuse=True),
        pytest.raises(ValueError, match="Variable v does not exist"),
    ):
        ps.get_variable("v", [4], partitioner=cut(2))


@pytest.mark.parametrize(
    ("partitioner", "text"),
    [
        (cut(2, 2), "w: Can only slice a variable along one dimension"),
        (cut(2), r"w: .* does not match the Variable's rank: \[2\] vs. \(4, 2\)"),
        (cut(0, 1), r"w: Partitioner returned zero partitions for some axes: \[0, 1\]"),
        (cut(5, 1), "w: 5 parts along dimension 0, which has only 4 elements"),
        (lambda *, shape, dtype: 3, "w: Partitioner must return a sequence, but saw: 3"),
        (3, "Partitioner must be callable, but received: 3"),
    ],
)
def test_a_partitioner_that_makes_no_sense_is_refused(partitioner, text):
    with pytest.raises(ValueError, match=text):
        ps.get_variable("w", [4, 2], partitioner=partitioner)
    assert ps.global_variables() == []


def test_a_shape_to_cut_is_fully_known():
    with pytest.raises(ValueError, match=r"\(w\) must be fully defined"):
        ps.get_variable("w", [None, 2], partitioner=cut(2, 1))


# The whole.


def test_the_whole_has_no_reference():
    whole = ps.get_variable("w", [4], partitioner=cut(2))
    with pytest.raises(TypeError, match="change its parts one by one"):
        convert_to_tensor(whole, as_ref=True)
    with pytest.raises(ValueError, match="'int32'"):
        convert_to_tensor(whole, ps.int32)


def test_a_whole_is_made_of_variables_as_many_as_it_says():
    v = ps.Variable([1.0])
    with pytest.raises(TypeError, match="w: a part must be a Variable, got 3"):
        ps.PartitionedVariable("w", ps.TensorShape([1]), ps.float32, [3], [1])
    for part_list, partitions in [([], [0]), ([v], [2])]:
        with pytest.raises(ValueError, match=r"w: \d parts for the partitions"):
            ps.PartitionedVariable("w", ps.TensorShape([1]), ps.float32, part_list, partitions)


# create_partitioned_variables.


def test_parts_by_a_given_cut(session):
    made = ps.create_partitioned_variables([4, 3], [1, 2], ps.ones_initializer(), name="emb")
    assert [(v.name, v.shape.as_list()) for v in made] == [
        ("emb/part_0:0", [4, 2]),
        ("emb/part_1:0", [4, 1]),
    ]
    value = ps.random_uniform([4, 3])
    cut_up = ps.create_partitioned_variables([4, 3], [2, 1], value, name="value")
    whole = ps.concat(0, cut_up)
    copy = ps.Variable(value)
    init = ps.initialize_all_variables()
    session.run(init)
    found, expected = session.run([whole, copy])
    np.testing.assert_array_equal(found, expected)


def test_default_names_are_unique_and_given_ones_shared_on_purpose():
    def make(**options):
        return ps.create_partitioned_variables([4], [2], ps.zeros_initializer(), **options)

    assert make()[0].name == "PartitionedVariable/part_0:0"
    assert make()[0].name == "PartitionedVariable_1/part_0:0"
    made = make(name="emb")
    assert make(name="emb", reuse=True) == made
    with pytest.raises(ValueError, match="emb already exists"):
        make(name="emb")


def test_options_of_the_parts():
    made = ps.create_partitioned_variables(
        [4],
        [2],
        ps.constant_initializer(0.3),
        dtype=ps.float64,
        trainable=False,
        collections=["mine"],
    )
    assert made[0].dtype.base_dtype is ps.float64
    assert ps.get_collection("mine") == made
    assert ps.trainable_variables() == []


def test_a_cut_has_one_number_per_dimension():
    with pytest.raises(ValueError, match="must have the length"):
        ps.create_partitioned_variables([4, 3], [1, 2, 1], ps.zeros_initializer())
