"""A test case for programs of graphs and sessions.

Each test begins with an empty default graph, the same seeds, and no session; `test_session` gives
it one, the same one however often it asks.

Thread rule: as of `unittest`, one thread runs a test; threads of its own it starts itself.
"""

from __future__ import annotations

import random
import re
import tempfile
import unittest
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import numpy as np

from paramserve._framework.default_session import default_sessions
from paramserve._framework.graph import get_default_graph, reset_default_graph
from paramserve._framework.seeds import set_random_seed
from paramserve._framework.tensor import Tensor
from paramserve._session.session import Session
from paramserve._variables.variable import Variable
from paramserve_core.errors import OpError

_SEED: Final = 87654321


def get_temp_dir() -> str:
    """A new directory for the files of a test."""
    return tempfile.mkdtemp(prefix="paramserve-test-")


def main(argv: list[str] | None = None) -> None:
    """Runs the tests of the program that is being run, and ends the process.

    Args:
        argv: the command line; that of the process by default.

    Raises:
        SystemExit: always; its code says whether a test failed.
    """
    unittest.main(module="__main__", argv=argv)


class TestCase(unittest.TestCase):
    """`unittest.TestCase` with sessions, and with comparisons of arrays.

    Where a comparison takes an array it takes a list, a number, a tensor or a variable as well; a
    tensor is computed in the default session.

        class AddTest(ps.test.TestCase):
            def test_sums(self):
                with self.test_session():
                    self.assertAllClose(ps.add([0.1], [0.2]), [0.3])
    """

    def setUp(self) -> None:
        """Empties the default graph and sets all seeds."""
        super().setUp()
        self._session: Session | None = None
        self._temp_dir: str | None = None
        random.seed(_SEED)
        np.random.seed(_SEED)
        reset_default_graph()
        set_random_seed(_SEED)

    def tearDown(self) -> None:
        """Closes the session of the test."""
        if self._session is not None:
            self._session.close()
            self._session = None
        super().tearDown()

    # Sessions.

    def test_session(
        self,
        graph: Any = None,
        config: Any = None,
        use_gpu: bool = False,
        force_gpu: bool = False,
    ) -> AbstractContextManager[Session]:
        """`cached_session` by its older name."""
        if self._testMethodName == "test_session":
            self.skipTest("is no test, though its name begins like one")
        return self.cached_session(graph, config)

    @contextmanager
    def cached_session(
        self,
        graph: Any = None,
        config: Any = None,
        use_gpu: bool = False,
        force_gpu: bool = False,
    ) -> Iterator[Session]:
        """A block in which the session of the test is the default one; it keeps its variables.

        Args:
            graph: a graph of its own, which gets a new session; the default graph by default.
            config: the options of a new session.
            use_gpu: of no effect.
            force_gpu: of no effect.
        """
        if graph is not None:
            with self.session(graph, config) as session:
                yield session
            return
        if self._session is None or self._session.graph is not get_default_graph():
            if self._session is not None:
                self._session.close()
            self._session = Session(config=config)
        with self._session.graph.as_default(), self._session.as_default():
            yield self._session

    @contextmanager
    def session(
        self,
        graph: Any = None,
        config: Any = None,
        use_gpu: bool = False,
        force_gpu: bool = False,
    ) -> Iterator[Session]:
        """A block with a new session as the default one; see `cached_session`."""
        with Session(graph=graph, config=config) as session:
            yield session

    def evaluate(self, tensors: Any) -> Any:
        """The values of tensors, in the default session or that of the test."""
        session = default_sessions.get() or self._session
        if session is None:
            raise ValueError("no session to evaluate in; do it in `with self.test_session():`")
        return session.run(tensors)

    def get_temp_dir(self) -> str:
        """A directory for the files of the test, the same one throughout."""
        if self._temp_dir is None:
            self._temp_dir = get_temp_dir()
        return self._temp_dir

    # Arrays.

    def _array(self, value: Any) -> Any:
        if isinstance(value, (Tensor, Variable)):
            value = self.evaluate(value)
        return np.asarray(value)

    def assertAllClose(
        self, a: Any, b: Any, rtol: float = 1e-6, atol: float = 1e-6, msg: str | None = None
    ) -> None:
        """Fails unless all elements are close: within `atol + rtol * abs(b)`.

        Args:
            a: an array; or a dict of arrays, or a list of arrays that have various shapes.
            b: the same.
            rtol: the relative tolerance.
            atol: the absolute one.
            msg: what to say.
        """
        if isinstance(a, Mapping) or isinstance(b, Mapping):
            self.assertEqual(sorted(a), sorted(b), msg)
            for key in a:
                self.assertAllClose(a[key], b[key], rtol, atol, f"{msg or ''} at {key!r}")
            return
        if any(isinstance(v, (list, tuple)) and _is_ragged(v) for v in (a, b)):
            self.assertEqual(len(a), len(b), msg)
            for i, (x, y) in enumerate(zip(a, b, strict=True)):
                self.assertAllClose(x, y, rtol, atol, f"{msg or ''} at {i}")
            return
        found, wanted = self._array(a), self._array(b)
        self.assertEqual(found.shape, wanted.shape, msg or "the shapes differ")
        np.testing.assert_allclose(found, wanted, rtol, atol, err_msg=msg or "")

    def assertNotAllClose(self, a: Any, b: Any, **kwargs: Any) -> None:
        """Fails if all elements are close; see `assertAllClose`."""
        try:
            self.assertAllClose(a, b, **kwargs)
        except AssertionError:
            return
        raise AssertionError("The two values are close at all elements")

    def assertAllCloseAccordingToType(
        self,
        a: Any,
        b: Any,
        rtol: float = 1e-6,
        atol: float = 1e-6,
        float_rtol: float = 1e-6,
        float_atol: float = 1e-6,
        half_rtol: float = 1e-3,
        half_atol: float = 1e-3,
    ) -> None:
        """`assertAllClose` with the tolerance of the less precise type."""
        found, wanted = self._array(a), self._array(b)
        for size, relative, absolute in ((4, float_rtol, float_atol), (2, half_rtol, half_atol)):
            if any(v.dtype.kind not in "iub" and v.itemsize <= size for v in (found, wanted)):
                rtol, atol = max(rtol, relative), max(atol, absolute)
        self.assertAllClose(found, wanted, rtol, atol)

    def assertAllEqual(self, a: Any, b: Any, msg: str | None = None) -> None:
        """Fails unless shapes and all elements are equal; NaN equals NaN."""
        found, wanted = self._array(a), self._array(b)
        self.assertEqual(found.shape, wanted.shape, msg or "the shapes differ")
        np.testing.assert_array_equal(found, wanted, err_msg=msg or "")

    def assertShapeEqual(self, np_array: Any, tf_tensor: Tensor) -> None:
        """Fails unless the shape of an array is what is known of the shape of a tensor."""
        self.assertEqual(list(np_array.shape), tf_tensor.get_shape().as_list())

    def assertNear(self, f1: float, f2: float, err: float, msg: str | None = None) -> None:
        """Fails unless two numbers differ by no more than `err`."""
        self.assertTrue(
            f1 == f2 or abs(f1 - f2) <= err, f"{f1!r} != {f2!r} +/- {err!r} {msg or ''}"
        )

    def assertArrayNear(
        self, farray1: Any, farray2: Any, err: float, msg: str | None = None
    ) -> None:
        """Fails unless two sequences are of one length and no pair differs by more than `err`."""
        self.assertEqual(len(farray1), len(farray2))
        for f1, f2 in zip(farray1, farray2, strict=True):
            self.assertNear(float(f1), float(f2), err, msg)

    # Errors, messages and names.

    def assertRaisesWithPredicateMatch(
        self, exception_type: Any, expected_err_re_or_predicate: str | Callable[[Any], bool]
    ) -> AbstractContextManager[None]:
        """A block that must raise an error that fits.

        Args:
            exception_type: its class, or a tuple of classes.
            expected_err_re_or_predicate: a regular expression that is in its text, for an OpError
                in that of an operation beneath as well; or a function of the error.
        """
        return _raising(exception_type, expected_err_re_or_predicate)

    def assertRaisesOpError(
        self, expected_err_re_or_predicate: str | Callable[[Any], bool]
    ) -> AbstractContextManager[None]:
        """A block that must raise an `OpError`; see `assertRaisesWithPredicateMatch`."""
        return _raising(OpError, expected_err_re_or_predicate)

    def assertStartsWith(self, actual: str, expected_start: str, msg: str | None = None) -> None:
        """Fails unless a text begins so."""
        self.assertTrue(actual.startswith(expected_start), msg or f"{actual!r}: {expected_start!r}")

    def assertProtoEquals(self, expected_message_maybe_ascii: Any, message: Any) -> None:
        """Fails unless two messages are equal; the first may be given as text."""
        from google.protobuf import text_format

        expected = expected_message_maybe_ascii
        if isinstance(expected, str):
            expected = text_format.Parse(expected, type(message)())
        self.assertEqual(expected, message)

    # Names of unittest that later Pythons do without.

    assertEquals = unittest.TestCase.assertEqual  # noqa: N815
    assertItemsEqual = unittest.TestCase.assertCountEqual  # noqa: N815
    assertRaisesRegexp = unittest.TestCase.assertRaisesRegex  # noqa: N815
    assertRegexpMatches = unittest.TestCase.assertRegex  # noqa: N815


def _is_ragged(values: Any) -> bool:
    """Whether a list has parts that make no one array."""
    if any(isinstance(value, (Tensor, Variable, Mapping)) for value in values):
        return True
    return len({np.shape(value) for value in values}) > 1


@contextmanager
def _raising(kind: Any, expected: str | Callable[[Any], bool]) -> Iterator[None]:
    try:
        yield
    except kind as error:
        fits = (
            re.search(expected, str(error)) is not None
            if isinstance(expected, str)
            else expected(error)
        )
        if not fits:
            raise AssertionError(f"{error!r} is not what was expected: {expected!r}") from error
    else:
        raise AssertionError(f"{kind!r} was not raised")
