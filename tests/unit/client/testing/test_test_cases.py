"""The test case for programs: what it gives a test, and what it fails."""

import sys
import unittest

import numpy as np
import pytest

import paramserve as ps


def outcome(test):
    """The result of a test case of one method, or of a `TestCase` class."""
    kind = test if isinstance(test, type) else type("Case", (ps.test.TestCase,), {"test_it": test})
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(kind).run(result)
    return result


def errors_of(test):
    result = outcome(test)
    return [text for _, text in result.failures + result.errors]


class Counts(ps.test.TestCase):
    __test__ = False  # run by a test, not by pytest

    def test_it(self):
        with self.test_session() as first:
            v = ps.Variable(1.0, name="v")
            v.initializer.run()
        with self.cached_session() as second:
            assert first is second
            self.assertAllClose(v, 1.0)
            assert self.evaluate([v, v + 1.0]) == [1.0, 2.0]
        with self.session() as other, self.assertRaisesOpError("uninitialized value v"):
            other.run(v)

    def test_each_begins_with_an_empty_graph_and_the_same_seeds(self):
        assert ps.get_default_graph().get_operations() == []
        assert ps.Variable(1.0, name="v").name == "v:0"
        assert np.random.randint(1 << 30) == np.random.RandomState(87654321).randint(1 << 30)
        with self.test_session(graph=ps.Graph()) as session:
            assert session.graph is ps.get_default_graph()


def test_a_test_has_one_session_and_a_graph_of_its_own():
    result = outcome(Counts)
    assert result.failures == result.errors == []
    # `test_session` is a method, and its name begins like that of a test.
    assert [case.id().rpartition(".")[2] for case, _ in result.skipped] == ["test_session"]


EQUAL = [
    lambda t: t.assertAllClose([1.0, 2.0], np.float32([1, 2 + 1e-7])),
    lambda t: t.assertAllClose({"a": 1.0}, {"a": 1.0}),
    lambda t: t.assertAllClose([1.0, [2.0, 3.0]], (1.0, np.array([2.0, 3.0]))),
    lambda t: t.assertNotAllClose(1.0, 1.1),
    lambda t: t.assertAllCloseAccordingToType(np.float16(1), np.float16(1.0005)),
    lambda t: t.assertAllEqual([[1, 2]], np.array([[1, 2]])),
    lambda t: t.assertAllEqual(np.nan, np.nan),
    lambda t: t.assertAllEqual([b"a"], np.array([b"a"], object)),
    lambda t: t.assertShapeEqual(np.ones((2, 3)), ps.zeros([2, 3])),
    lambda t: t.assertNear(1.0, 1.2, 0.3),
    lambda t: t.assertArrayNear([1.0, 2.0], [1.1, 2.1], 0.2),
    lambda t: t.assertStartsWith("abc", "ab"),
    lambda t: t.assertProtoEquals("name: 'a' op: 'NoOp'", ps.no_op(name="a").node_def),
    lambda t: t.assertItemsEqual([1, 2], [2, 1]),
]
UNEQUAL = [
    lambda t: t.assertAllClose([1.0, 2.0], [1.0, 2.1]),
    lambda t: t.assertAllClose([1.0], [[1.0]]),
    lambda t: t.assertAllClose({"a": 1.0}, {"b": 1.0}),
    lambda t: t.assertAllClose([1.0, [2.0, 3.0]], [1.0, [2.0, 3.1]]),
    lambda t: t.assertNotAllClose(1.0, 1.0),
    lambda t: t.assertAllCloseAccordingToType(np.float32(1), np.float32(1.0005)),
    lambda t: t.assertAllEqual([1], [1, 1]),
    lambda t: t.assertAllEqual([1, 2], [1, 3]),
    lambda t: t.assertShapeEqual(np.ones((2, 3)), ps.zeros([3, 2])),
    lambda t: t.assertNear(1.0, 1.2, 0.1),
    lambda t: t.assertArrayNear([1.0, 2.0], [1.1], 0.2),
    lambda t: t.assertStartsWith("abc", "b"),
    lambda t: t.assertProtoEquals("name: 'b'", ps.no_op(name="a").node_def),
]


@pytest.mark.parametrize("check", EQUAL)
def test_a_comparison_passes_what_is_equal(check):
    assert errors_of(check) == []


@pytest.mark.parametrize("check", UNEQUAL)
def test_a_comparison_fails_what_differs(check):
    (text,) = errors_of(check)
    assert "AssertionError" in text


def fail():
    raise ps.errors.NotFoundError(None, None, "no such thing")


def test_an_error_must_be_raised_and_fit():
    def fitting(test):
        with test.assertRaisesOpError("such"):
            fail()
        with test.assertRaisesWithPredicateMatch(ps.errors.NotFoundError, lambda e: e.op is None):
            fail()

    def of_another_text(test):
        with test.assertRaisesOpError("other"):
            fail()

    def of_another_class(test):
        with test.assertRaisesWithPredicateMatch(ValueError, "such"):
            fail()

    def missing(test):
        with test.assertRaisesOpError("such"):
            pass

    assert errors_of(fitting) == []
    assert "is not what was expected: 'other'" in errors_of(of_another_text)[0]
    assert "NotFoundError" in errors_of(of_another_class)[0]
    assert "was not raised" in errors_of(missing)[0]


def test_the_tests_of_a_program_are_run_by_main(monkeypatch):
    program = type(sys)("__main__")
    program.Good = type("Good", (ps.test.TestCase,), {"test_it": lambda self: None})
    monkeypatch.setitem(sys.modules, "__main__", program)
    with pytest.raises(SystemExit) as ended:
        ps.test.main(["program", "Good.test_it"])
    assert ended.value.code in (0, False)
    program.Good.test_it = fail
    with pytest.raises(SystemExit) as ended:
        ps.test.main(["program", "Good.test_it"])
    assert ended.value.code


def test_a_value_is_computed_in_a_session():
    assert "no session to evaluate in" in errors_of(lambda t: t.evaluate(1))[0]


def test_a_test_has_a_directory(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = []
    assert errors_of(lambda t: found.extend([t.get_temp_dir(), t.get_temp_dir()])) == []
    assert found[0] == found[1] != ps.test.get_temp_dir()


# Gradients.


@pytest.fixture
def session():
    with ps.Graph().as_default(), ps.Session() as session:
        yield session


def test_a_right_gradient_differs_little_from_small_differences(session):
    x = ps.placeholder(ps.float64, [2, 3])
    y = ps.square(ps.reduce_sum(x, 0))
    value = np.arange(6.0).reshape(2, 3)
    by_function, by_difference = ps.test.compute_gradient(x, [2, 3], y, [3], value)
    assert by_function.shape == by_difference.shape == (6, 3)
    assert by_function[0].tolist() == [6.0, 0.0, 0.0]
    assert ps.test.compute_gradient_error(x, [2, 3], y, [3], value) < 1e-6


def test_a_wrong_gradient_is_found(session):
    @ps.custom_gradient
    def wrong(x):
        return ps.square(x), lambda dy: 3.0 * x * dy

    x = ps.constant([1.0, 2.0], ps.float64)
    error = ps.test.compute_gradient_error(x, [2], wrong(x), [2], np.array([1.0, 2.0]))
    assert error == pytest.approx(2.0)


def test_gradients_by_several_tensors_may_need_variables_and_feeds(session):
    v = ps.Variable(ps.ones([2], ps.float64) * 2.0)
    scale = ps.placeholder(ps.float64, [])
    x, unused = ps.zeros([2], ps.float64), ps.zeros([1], ps.float64)
    options = {"init_targets": [v.initializer], "extra_feed_dict": {scale: 3.0}}
    pairs = ps.test.compute_gradient([x, unused], [[2], [1]], x * v * scale, [2], **options)
    assert [pair[0].tolist() for pair in pairs] == [[[6.0, 0.0], [0.0, 6.0]], [[0.0, 0.0]]]
    for by_function, by_difference in pairs:
        np.testing.assert_allclose(by_function, by_difference, atol=1e-9)


def test_derivatives_are_of_floats_in_a_session():
    with ps.Graph().as_default():
        x = ps.constant([1])
        with pytest.raises(ValueError, match="default session"):
            ps.test.compute_gradient(x, [1], x, [1])
        with ps.Session(), pytest.raises(TypeError, match="derivatives of floats only, not int32"):
            ps.test.compute_gradient(x, [1], x, [1])
