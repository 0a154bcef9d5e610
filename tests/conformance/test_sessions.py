"""One program on two libraries: sessions answer, and refuse, what TensorFlow's do."""

from collections import OrderedDict, namedtuple
from contextlib import nullcontext

import numpy as np
import pytest

import kernel_driver
import paramserve as ps
from places import everywhere

pytestmark = [pytest.mark.oracle, pytest.mark.slow]

Pair = namedtuple("Pair", "a b")


@pytest.fixture(scope="module")
def v1():
    return kernel_driver.tensorflow().compat.v1


class Program:
    """A small graph and a session, of one of the two libraries."""

    def __init__(self, lib, session, devices):
        self.lib = lib
        with devices:
            self.build(lib)
        self.new_session = session
        self.sess = session()
        self.run = self.sess.run

    def build(self, lib):
        self.x = lib.placeholder(lib.int32, [2], name="x")
        self.f = lib.placeholder(lib.float32, [], name="f")
        self.text = lib.placeholder(lib.string, None, name="text")
        self.small = lib.placeholder(lib.uint8, None, name="small")
        self.flag = lib.placeholder(lib.bool, None, name="flag")
        self.y = lib.identity(self.x, name="y")
        self.twice = lib.add(self.f, self.f, name="twice")
        self.one = lib.constant(1.0, name="one")
        self.word = lib.constant(b"word", name="word")
        self.words = lib.constant([b"a", b"b"], name="words")
        self.op = lib.group(self.one, name="op")
        with lib.Graph().as_default():
            self.foreign = lib.constant(1.0, name="foreign")


PROGRAMS = {
    "scalar": lambda p: p.run(p.one),
    "text scalar": lambda p: p.run(p.word),
    "text vector": lambda p: p.run(p.words),
    "operation": lambda p: p.run(p.op),
    "list": lambda p: p.run([p.one, p.op, p.word]),
    "nested": lambda p: p.run({"a": (p.one, [p.word]), "b": Pair(p.one, "one:0")}),
    "ordered": lambda p: p.run(OrderedDict([("z", p.one), ("a", p.op)])),
    "empty list": lambda p: p.run([]),
    "empty dict": lambda p: p.run({}),
    "name": lambda p: p.run("one:0"),
    "name of an operation": lambda p: p.run("op"),
    "slices": lambda p: tuple(p.run(p.lib.IndexedSlices(p.words, p.y), {p.x: [1, 2]})),
    "fed": lambda p: p.run(p.y, {p.x: [1, 2]}),
    "fed by name": lambda p: p.run(p.y, {"x:0": np.array([1, 2])}),
    "fed int64": lambda p: p.run(p.y, {p.x: np.array([1, 2], np.int64)}),
    "fed int as float": lambda p: p.run(p.twice, {p.f: 3}),
    "fed float64": lambda p: p.run(p.twice, {p.f: np.float64(1.5)}),
    "fed int as bool": lambda p: p.run(p.lib.logical_not(p.flag), {p.flag: 1}),
    "fed in the middle": lambda p: p.run(p.lib.identity(p.y), {p.y: [5, 6]}),
    "fed by a tuple": lambda p: p.run([p.twice, p.lib.identity(p.one)], {(p.f, p.one): (3.0, 4.0)}),
    "fed list of text": lambda p: p.run(p.lib.identity(p.text), {p.text: [b"a", b"bc"]}),
    "callable": lambda p: p.sess.make_callable([p.twice, p.op], [p.f])(2.0),
    "None": lambda p: p.run(None),
    "None in a list": lambda p: p.run([p.one, None]),
    "a number": lambda p: p.run(3),
    "no such tensor": lambda p: p.run("nothing:0"),
    "no such operation": lambda p: p.run("nothing"),
    "no such output": lambda p: p.run("one:5"),
    "another graph": lambda p: p.run(p.foreign),
    "not fed": lambda p: p.run(p.y),
    "shape": lambda p: p.run(p.y, {p.x: [1, 2, 3]}),
    "rank": lambda p: p.run(p.twice, {p.f: [1.0]}),
    "a tensor as value": lambda p: p.run(p.y, {p.x: p.x}),
    "a key that is no tensor": lambda p: p.run(p.y, {3: [1, 2]}),
    "a key that is not there": lambda p: p.run(p.y, {"nothing:0": [1, 2]}),
    "a key of another graph": lambda p: p.run(p.y, {p.foreign: 1.0}),
    "an operation as key": lambda p: p.run(p.y, {p.op: 1.0}),
    "feeds that are no dict": lambda p: p.run(p.y, [1]),
    "closed": lambda p: (p.sess.close(), p.run(p.one)),
    "closed twice": lambda p: (p.sess.close(), p.sess.close()),
    "empty graph": lambda p: p.new_session(graph=p.lib.Graph()).run("a:0"),
    "feed_list": lambda p: p.sess.make_callable(p.twice, p.f),
    "partial run": lambda p: p.sess.partial_run(
        p.sess.partial_run_setup([p.twice, p.y], [p.f, p.x]), p.twice, {p.f: 2.0}
    ),
    "partial run without setup": lambda p: p.sess.partial_run("nothing", p.twice),
    "options": lambda p: p.run(p.one, options=p.lib.RunOptions(timeout_in_ms=60_000)),
    "eval without a session": lambda p: p.one.eval(),
    "run without a session": lambda p: p.op.run(),
    "eval": lambda p: p.one.eval(session=p.sess),
}


def outcome(lib, program, session=None, devices=None):
    with lib.Graph().as_default():
        built = Program(lib, session or lib.Session, devices or nullcontext())
        try:
            return program(built)
        except Exception as error:
            return type(error).__name__
        finally:
            built.sess.close()


def assert_alike(ours, theirs):
    assert type(ours) is type(theirs)
    if isinstance(ours, dict):
        assert list(ours) == list(theirs)
        ours, theirs = list(ours.values()), list(theirs.values())
    if isinstance(ours, (list, tuple)):
        assert len(ours) == len(theirs)
        for mine, other in zip(ours, theirs, strict=True):
            assert_alike(mine, other)
    elif isinstance(ours, np.ndarray):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    else:
        assert ours == theirs


@pytest.mark.parametrize(("name", "place"), everywhere(PROGRAMS), indirect=["place"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_session_does_what_tensorflows_does(v1, name, place):
    ours = outcome(ps, PROGRAMS[name], place.session, place.devices())
    assert_alike(ours, outcome(v1, PROGRAMS[name]))


@pytest.mark.parametrize(
    ("value", "dtype"), [(300, "small"), (1.5, "x"), (2**40, "x")], ids=["range", "float", "long"]
)
def test_a_number_that_the_type_cannot_hold_is_refused(value, dtype):
    # TensorFlow refuses the first with a TypeError, cuts the others off, or wraps them around.
    def program(p):
        fed = getattr(p, dtype)
        return p.run(p.lib.identity(fed), {fed: value if dtype == "small" else [value, 1]})

    assert outcome(ps, program) in ("TypeError", "ValueError")
