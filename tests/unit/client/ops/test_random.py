"""Random functions follow their seeds, their shapes and their distributions."""

import numpy as np
import pytest

import paramserve as ps


@pytest.fixture
def session():
    with ps.Graph().as_default(), ps.Session() as session:
        yield session


DRAWS = {
    "random_normal": lambda seed: ps.random_normal([100], seed=seed),
    "truncated_normal": lambda seed: ps.truncated_normal([100], seed=seed),
    "random_uniform": lambda seed: ps.random_uniform([100], seed=seed),
    "random_uniform of integers": lambda seed: ps.random_uniform([100], 0, 9, ps.int64, seed=seed),
    "random_shuffle": lambda seed: ps.random_shuffle(list(range(100)), seed=seed),
    "random_crop": lambda seed: ps.random_crop(np.arange(1000), [100], seed=seed),
    "multinomial": lambda seed: ps.multinomial([[0.0, 1.0, 2.0]], 100, seed=seed),
    "random_gamma": lambda seed: ps.random_gamma([100], 2.0, seed=seed),
    "dropout": lambda seed: ps.nn.dropout(ps.ones([100]), 0.5, seed=seed),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_equal_seeds_give_equal_numbers_in_every_session(draw):
    found = []
    for _ in range(2):
        with ps.Graph().as_default(), ps.Session() as session:
            numbers = draw(5)
            found.append([session.run(numbers).tolist() for _ in range(2)])
    assert found[0] == found[1]
    assert found[0][0] != found[0][1]


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_other_seeds_give_other_numbers(session, draw):
    one, other = session.run([draw(5), draw(6)])
    assert one.tolist() != other.tolist()


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_without_seeds_every_session_draws_other_numbers(draw):
    with ps.Graph().as_default():
        numbers = draw(None)
        found = []
        for _ in range(2):
            with ps.Session() as session:
                found.append(session.run(numbers).tolist())
    assert found[0] != found[1]


def test_the_graphs_seed_settles_all_sequences():
    found = []
    for _ in range(2):
        with ps.Graph().as_default(), ps.Session() as session:
            ps.set_random_seed(7)
            found.append(session.run([ps.random_normal([5]), ps.random_normal([5])]))
    assert found[0][0].tolist() == found[1][0].tolist()
    assert found[0][0].tolist() != found[0][1].tolist()


def test_mean_and_deviation_broadcast(session):
    numbers = ps.random_normal([10000, 2], mean=[0.0, 100.0], stddev=[1.0, 0.001], seed=1)
    values = session.run(numbers)
    assert abs(values[:, 0].mean()) < 0.1
    assert abs(values[:, 1] - 100).max() < 0.1


def test_bounds_are_kept(session):
    floats = ps.random_uniform([10000], -2.0, 3.0, seed=1)
    integers = ps.random_uniform([10000], -2, 3, ps.int32, seed=1)
    cut = ps.truncated_normal([10000], 5.0, 2.0, seed=1)
    floats, integers, cut = session.run([floats, integers, cut])
    assert -2 <= floats.min() < -1.9 < 2.9 < floats.max() < 3
    assert set(integers.tolist()) == {-2, -1, 0, 1, 2}
    assert 1 <= cut.min() < cut.max() <= 9


def test_random_gamma_has_its_mean(session):
    values = session.run(ps.random_gamma([20000], [2.0, 6.0], beta=[1.0, 2.0], seed=3))
    assert values.shape == (20000, 2)
    np.testing.assert_allclose(values.mean(0), [2.0, 3.0], rtol=0.05)


def test_a_crop_is_a_block(session):
    image = np.arange(20).reshape(4, 5)
    block = session.run(ps.random_crop(image, [2, 3]))
    first = block[0, 0]
    assert block.tolist() == [[first, first + 1, first + 2], [first + 5, first + 6, first + 7]]


def test_a_crop_that_is_too_large_fails(session):
    with pytest.raises(ValueError, match="beyond its end"):
        ps.random_crop(ps.zeros([2, 2]), [3, 1])
    image = ps.placeholder(ps.float32)
    with pytest.raises(ps.errors.InvalidArgumentError, match=r"Need value\.shape >= size"):
        session.run(ps.random_crop(image, [3, 1]), {image: np.zeros((2, 2))})


def test_dropout_keeps_the_expected_sum(session):
    kept = session.run(ps.nn.dropout(ps.ones([100, 100]), keep_prob=0.25, seed=1))
    assert set(np.unique(kept).tolist()) == {0.0, 4.0}
    assert abs(kept.mean() - 1) < 0.1


def test_dropout_by_rate_is_dropout_by_its_complement(session):
    by_rate = ps.nn.dropout(ps.ones([50]), rate=0.75, seed=1)
    by_keeping = ps.nn.dropout(ps.ones([50]), keep_prob=0.25, seed=1)
    by_rate, by_keeping = session.run([by_rate, by_keeping])
    assert by_rate.tolist() == by_keeping.tolist()


def test_dropout_drops_whole_rows_by_a_noise_shape(session):
    kept = session.run(ps.nn.dropout(ps.ones([50, 4]), 0.5, noise_shape=[50, 1], seed=1))
    assert set(kept.sum(1).tolist()) == {0.0, 8.0}


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: ps.random_uniform([1], dtype=ps.int32), ValueError, "Must specify maxval"),
        (lambda: ps.random_uniform([1], dtype=ps.string), TypeError, "not string"),
        (lambda: ps.nn.dropout(ps.ones([1])), ValueError, "keep_prob and rate"),
        (lambda: ps.nn.dropout(ps.ones([1]), 0.5, rate=0.5), ValueError, "keep_prob and rate"),
        (lambda: ps.nn.dropout(ps.ones([1]), 1.5), ValueError, r"range \(0, 1\]"),
        (lambda: ps.nn.dropout([1], 0.5), ValueError, "floating point"),
    ],
)
def test_bad_arguments_are_refused(session, call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_a_probability_that_is_a_tensor_may_be_fed(session):
    keep = ps.constant(1.0)
    dropped = ps.nn.dropout(ps.ones([100]), keep)
    assert session.run(dropped).tolist() == [1.0] * 100
    assert 0.0 in session.run(dropped, {keep: 0.5}).tolist()
