"""Functions that make initial values."""

import math

import numpy as np
import pytest

from paramserve._framework.seeds import set_random_seed
from paramserve._variables import initializers, variance_scaling
from paramserve._variables.initializers import (
    PartitionInfo,
    constant_initializer,
    ones_initializer,
    random_normal_initializer,
    random_uniform_initializer,
    truncated_normal_initializer,
    uniform_unit_scaling_initializer,
    zeros_initializer,
)
from paramserve._variables.variance_scaling import (
    glorot_normal_initializer,
    glorot_uniform_initializer,
    he_normal_initializer,
    he_uniform_initializer,
    lecun_normal_initializer,
    lecun_uniform_initializer,
    variance_scaling_initializer,
)
from paramserve_core import dtypes
from paramserve_core.shapes import TensorShape

RANDOM = [
    random_normal_initializer,
    truncated_normal_initializer,
    random_uniform_initializer,
    uniform_unit_scaling_initializer,
    variance_scaling_initializer,
    glorot_normal_initializer,
    glorot_uniform_initializer,
    he_normal_initializer,
    he_uniform_initializer,
    lecun_normal_initializer,
    lecun_uniform_initializer,
]


def test_zeros_and_ones_work_in_both_ways(session):
    tensors = [
        zeros_initializer([2], dtypes.int32),
        zeros_initializer(TensorShape([2])),
        zeros_initializer()([2], dtypes.float64),
        zeros_initializer(dtypes.int64)([2]),
        zeros_initializer("bool")([2]),
        ones_initializer([2], dtypes.int32),
        ones_initializer()([2]),
    ]
    wanted = ["int32", "float32", "float64", "int64", "bool", "int32", "float32"]
    assert [t.dtype.name for t in tensors] == wanted
    values = session.run(tensors)
    assert all(not value.any() for value in values[:5])
    assert all(value.all() for value in values[5:])
    assert session.run(zeros_initializer(())).shape == ()


def test_a_constant_fills_the_shape(session):
    assert session.run(constant_initializer(0.4)([2])).tolist() == pytest.approx([0.4, 0.4])
    filled = constant_initializer([1, 2, 3])([2, 2], dtypes.int32)
    assert session.run(filled).tolist() == [[1, 2], [3, 3]]
    with pytest.raises(TypeError):
        constant_initializer([1, 2, 3], verify_shape=True)([2, 2])


def test_normal_values_have_mean_and_deviation(session):
    value = session.run(random_normal_initializer(3.0, 0.5, seed=1)([20_000]))
    assert value.mean() == pytest.approx(3, abs=0.02)
    assert value.std() == pytest.approx(0.5, abs=0.02)


def test_truncated_values_are_within_two_deviations(session):
    value = session.run(truncated_normal_initializer(3.0, 0.5, seed=1)([20_000]))
    assert abs(value - 3).max() <= 1
    assert abs(value - 3).max() > 0.99


def test_uniform_values_are_within_bounds_of_either_kind(session):
    value = session.run(random_uniform_initializer(2.0, 3.0, seed=1)([2000]))
    assert 2 <= value.min() < 2.01
    assert 2.99 < value.max() < 3
    integers = random_uniform_initializer(0, 10, dtype=dtypes.int32)([1000])
    assert set(session.run(integers).tolist()) == set(range(10))


def bound_of(session, initializer, shape, **options):
    """The bound of what an initializer of uniform values makes."""
    return float(abs(session.run(initializer(shape, **options))).max())


def test_unit_scaling_keeps_the_variance_of_the_inputs(session):
    bound = math.sqrt(3 / 100) * 1.43
    found = bound_of(session, uniform_unit_scaling_initializer(1.43, seed=1), [100, 200])
    assert found <= bound
    assert found == pytest.approx(bound, rel=1e-3)


@pytest.mark.parametrize(
    ("shape", "inputs", "outputs"),
    [([], 1, 1), ([50], 50, 50), ([30, 50], 30, 50), ([3, 5, 7, 11], 105, 165)],
)
def test_the_fans_of_a_shape(shape, inputs, outputs):
    assert variance_scaling._fans(shape) == (inputs, outputs)


def test_uniform_variance_scaling_is_bounded_by_the_fans(session):
    shape = [60, 140]
    for initializer, bound in [
        (glorot_uniform_initializer(seed=1), math.sqrt(6 / 200)),
        (he_uniform_initializer(seed=1), math.sqrt(6 / 60)),
        (lecun_uniform_initializer(seed=1), math.sqrt(3 / 60)),
        (variance_scaling_initializer(1.0, "fan_out", "uniform", seed=1), math.sqrt(3 / 140)),
    ]:
        found = bound_of(session, initializer, shape)
        assert found <= bound
        assert found == pytest.approx(bound, rel=2e-3)


def test_normal_variance_scaling_has_the_variance_by_the_fans(session):
    shape = [160, 240]
    for initializer, variance in [
        (glorot_normal_initializer(seed=1), 2 / 400),
        (he_normal_initializer(seed=1), 2 / 160),
        (lecun_normal_initializer(seed=1), 1 / 160),
        (variance_scaling_initializer(3.0, "fan_avg", "untruncated_normal", seed=1), 3 / 200),
    ]:
        assert session.run(initializer(shape)).var() == pytest.approx(variance, rel=0.05)


def test_a_part_is_scaled_as_the_whole(session):
    part = PartitionInfo((400, 100), (0, 0))
    for initializer, bound in [
        (uniform_unit_scaling_initializer(seed=1), math.sqrt(3 / 400)),
        (glorot_uniform_initializer(seed=1), math.sqrt(6 / 500)),
    ]:
        found = bound_of(session, initializer, [40, 100], partition_info=part)
        assert found == pytest.approx(bound, rel=1e-2)
    given = uniform_unit_scaling_initializer(seed=1, full_shape=[400, 100])
    assert bound_of(session, given, [40, 100]) == pytest.approx(math.sqrt(3 / 400), rel=1e-2)


@pytest.mark.parametrize("kind", RANDOM)
def test_a_seed_settles_the_values_and_none_leaves_them_open(graph, session, kind):
    first, second = kind(seed=7)([50]), kind(seed=7)([50])
    free, other = kind()([50]), kind()([50])
    a, b, c, d = session.run([first, second, free, other])
    assert not np.array_equal(c, d)
    assert first.op.inputs
    seeds = [op.get_attr("seed2") for op in graph.get_operations() if "seed2" in op.attrs]
    assert seeds == [7, 7, 0, 0]
    assert a.shape == b.shape == (50,)


def test_the_graphs_seed_is_used(graph):
    set_random_seed(5)
    random_normal_initializer()([2])
    assert [o.get_attr("seed") for o in graph.get_operations() if "seed" in o.attrs] == [5]


@pytest.mark.parametrize("kind", [k for k in RANDOM if k is not random_uniform_initializer])
def test_random_values_are_floats(kind):
    assert kind()([2], dtypes.float64).dtype is dtypes.float64
    assert kind(dtype=dtypes.float16)([2]).dtype is dtypes.float16
    with pytest.raises(ValueError, match=r"Expected floating point type, got .*int32"):
        kind(dtype=dtypes.int32)
    with pytest.raises(ValueError, match=r"Expected floating point type, got .*string"):
        kind()([2], dtypes.string)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"scale": 0.0}, "`scale` must be a positive number, got 0"),
        ({"mode": "fan"}, "Invalid `mode` 'fan'; it is one of fan_in"),
        ({"distribution": "beta"}, "Invalid `distribution` 'beta'; it is one of normal"),
    ],
)
def test_variance_scaling_refuses_what_it_does_not_know(options, text):
    with pytest.raises(ValueError, match=text):
        variance_scaling_initializer(**options)


def test_an_initializer_that_takes_anything_is_told_of_its_part():
    part = PartitionInfo((4,), (0,))
    asked = []
    initializers.call_initializer(
        lambda shape, **options: asked.append(options), [2], dtypes.float32, part
    )
    initializers.call_initializer(
        lambda shape, dtype: asked.append(dtype), [2], dtypes.float32, part
    )
    assert asked == [{"dtype": dtypes.float32, "partition_info": part}, dtypes.float32]
    assert initializers.parameters_of(min) is None


def test_the_public_names_are_documented():
    for module in (initializers, variance_scaling):
        for name in module.__all__:
            assert getattr(module, name).__doc__


# As a configuration.


@pytest.mark.parametrize(
    "initializer",
    [
        constant_initializer([1.0, 2.0], dtypes.float64, verify_shape=True),
        zeros_initializer(dtypes.int32),
        random_normal_initializer(1.0, 2.0, seed=3),
        random_uniform_initializer(1, 9, seed=3, dtype=dtypes.int32),
        uniform_unit_scaling_initializer(1.4, seed=3, full_shape=[2, 3]),
        variance_scaling_initializer(2.0, "fan_out", "uniform", seed=3),
        glorot_uniform_initializer(seed=3, dtype=dtypes.float64),
    ],
    ids=lambda initializer: type(initializer).__name__,
)
def test_an_initializer_can_be_made_again_from_its_configuration(initializer):
    again = type(initializer).from_config(initializer.get_config())
    assert again is not initializer
    assert vars(again) == vars(initializer)
