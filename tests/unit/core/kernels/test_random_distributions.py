"""Random numbers: reproducible where seeded, fresh where not, and distributed as promised.

Every test draws from fixed keys, so it passes always or never.
"""

import math

import numpy as np
import pytest

import kernel_driver
from kernel_driver import make_step
from paramserve_core import dtypes, errors
from paramserve_core.opdefs.type_sets import FLOATS

COUNT = 20_000
SHAPE = np.int32([COUNT])


def draw(op, *inputs, step=None, **attrs):
    (values,) = kernel_driver.run(op, *inputs, step=step, **attrs)
    return values


def normal_cdf(x):
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


def truncated_cdf(x):
    low, high = normal_cdf(-2), normal_cdf(2)
    return (min(max(normal_cdf(x), low), high) - low) / (high - low)


def kolmogorov_smirnov(values, cdf):
    """The distance between the distribution of `values` and `cdf`, times the root of their count.

    More than 1.95 for one correct sample in a thousand.
    """
    ordered = np.sort(values.astype(np.float64))
    expected = np.array([cdf(x) for x in ordered])
    steps = np.arange(len(ordered) + 1) / len(ordered)
    distance = max(np.max(steps[1:] - expected), np.max(expected - steps[:-1]))
    return distance * math.sqrt(len(ordered))


@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.float64], ids=lambda dtype: dtype.name)
@pytest.mark.parametrize(
    ("op", "cdf"),
    [
        ("RandomStandardNormal", normal_cdf),
        ("TruncatedNormal", truncated_cdf),
        ("RandomUniform", lambda x: x),
    ],
)
def test_floats_follow_their_distribution(op, cdf, dtype):
    assert kolmogorov_smirnov(draw(op, SHAPE, dtype=dtype, seed=3), cdf) < 1.95


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: dtype.name)
def test_a_truncated_normal_stays_within_two_deviations(dtype):
    values = draw("TruncatedNormal", np.int32([200_000]), dtype=dtype, seed=1)
    assert np.abs(values).max() <= 2
    # Redrawn, not clipped: nothing piles up at the bounds.
    assert np.mean(np.abs(values) > 1.96) < 0.01


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: dtype.name)
def test_uniform_numbers_reach_0_and_never_1(dtype):
    values = draw("RandomUniform", np.int32([100_000]), dtype=dtype, seed=1).astype(np.float64)
    assert values.min() >= 0
    assert values.max() < 1
    assert abs(values.mean() - 0.5) < 0.01
    assert abs(values.var() - 1 / 12) < 0.005


def test_uniform_integers_are_all_in_the_interval_and_equally_frequent():
    values = draw("RandomUniformInt", SHAPE, np.int32(-2), np.int32(3), seed=1)
    counts = np.bincount(values + 2)
    assert len(counts) == 5
    assert np.abs(counts / COUNT - 0.2).max() < 0.02


def test_uniform_integers_take_the_whole_range_of_the_type():
    least, most = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    values = draw("RandomUniformInt", SHAPE, np.int64(least), np.int64(most), seed=1)
    assert values.min() < least // 2
    assert values.max() > most // 2


def test_no_integers_need_no_interval():
    assert draw("RandomUniformInt", np.int32([0]), np.int32(5), np.int32(5)).shape == (0,)


def test_gamma_has_the_moments_of_each_alpha():
    values = draw("RandomGamma", SHAPE, np.float32([0.5, 4.0]), seed=1)
    assert values.shape == (COUNT, 2)
    np.testing.assert_allclose(values.mean(0), [0.5, 4.0], rtol=0.05)
    np.testing.assert_allclose(values.var(0), [0.5, 4.0], rtol=0.1)


@pytest.mark.parametrize("alpha", [-1.0, np.nan])
def test_gamma_of_no_valid_alpha_is_refused(alpha):
    with pytest.raises(errors.InvalidArgumentError, match="alpha must be non-negative"):
        draw("RandomGamma", SHAPE, np.float32([1, alpha]))


def test_a_shuffle_permutes_rows_and_keeps_them_whole():
    rows = np.arange(60, dtype=np.int32).reshape(20, 3)
    shuffled = draw("RandomShuffle", rows, seed=1)
    assert not np.array_equal(shuffled, rows)
    assert np.array_equal(shuffled[np.argsort(shuffled[:, 0])], rows)


def test_classes_are_drawn_as_often_as_their_probability_says():
    logits = np.log(np.float32([[0.1, 0.6, 0.3], [0.5, 0.25, 0.25]])) + 100
    drawn = draw("Multinomial", logits, np.int32(COUNT), seed=1)
    frequencies = [np.bincount(row, minlength=3) / COUNT for row in drawn]
    np.testing.assert_allclose(frequencies, [[0.1, 0.6, 0.3], [0.5, 0.25, 0.25]], atol=0.02)


def test_a_class_without_probability_is_never_drawn():
    logits = np.float32([[-np.inf, 0, -np.inf, 0, -np.inf]])
    drawn = draw("Multinomial", logits, np.int32(COUNT), seed=1)
    assert set(drawn.reshape(-1).tolist()) == {1, 3}


def test_classes_of_no_finite_logit_are_refused():
    with pytest.raises(errors.InvalidArgumentError, match="no finite element"):
        draw("Multinomial", np.full((1, 3), -np.inf, np.float32), np.int32(1))


SEEDED = {
    "RandomStandardNormal": (SHAPE,),
    "TruncatedNormal": (SHAPE,),
    "RandomUniform": (SHAPE,),
    "RandomUniformInt": (SHAPE, np.int64(0), np.int64(1 << 60)),
    "RandomGamma": (SHAPE, np.float32(1)),
    "RandomShuffle": (np.arange(COUNT),),
    "Multinomial": (np.zeros((1, 100), np.float32), np.int32(COUNT)),
}
DTYPE = {"RandomStandardNormal", "TruncatedNormal", "RandomUniform"}
FLOAT = {op: {"dtype": dtypes.float32} if op in DTYPE else {} for op in SEEDED}


@pytest.mark.parametrize("op", SEEDED)
def test_equal_seeds_give_equal_sequences_in_every_session(op):
    one, other = make_step(entropy=1), make_step(entropy=2)
    for _ in range(2):
        first = draw(op, *SEEDED[op], step=one, seed=7, seed2=8, **FLOAT[op])
        second = draw(op, *SEEDED[op], step=other, seed=7, seed2=8, **FLOAT[op])
        assert np.array_equal(first, second)


@pytest.mark.parametrize("op", SEEDED)
def test_each_run_and_each_seed_gives_other_numbers(op):
    step = make_step()
    runs = [draw(op, *SEEDED[op], step=step, seed=7, **FLOAT[op]) for _ in range(2)]
    runs.append(draw(op, *SEEDED[op], step=step, seed=7, seed2=1, **FLOAT[op]))
    assert not np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


@pytest.mark.parametrize("op", SEEDED)
def test_no_seed_gives_other_numbers_in_every_session(op):
    one = draw(op, *SEEDED[op], step=make_step(entropy=1), **FLOAT[op])
    other = draw(op, *SEEDED[op], step=make_step(entropy=2), **FLOAT[op])
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("op", sorted(DTYPE))
def test_an_initial_value_is_an_array_that_a_variable_can_adopt(op):
    values = draw(op, np.int32([3, 4]), dtype=dtypes.float32)
    assert values.flags.owndata
    assert values.flags.c_contiguous
