"""Compiled loops give what NumPy gives, to the bit, and nobody has to wait for them.

Most of these tests "compile" a loop to itself, which needs no compiler: it is then run as plain
Python, on NumPy's scalars. What numba makes of it is tested where numba is installed.
"""

import numpy as np
import pytest

from paramserve_core import dtypes
from paramserve_core.kernels import (
    blocks,
    fused,
    fused_loops,
    rows,
    state,
    training,
    update_rules,
)
from update_cases import UpdateCase, variants

FLOATS = [dtypes.float32, dtypes.float64]
INDICES = np.int32([3, 1, 3, 0, 3])

FUSED = {
    "GradientDescent": [{}],
    "Momentum": [{}, {"use_nesterov": True}],
    "Adagrad": [{}],
    "AdagradV2": [{}],
    "Adam": [{}],
    "AdamW": [{}],
    "RMSProp": [{}, {"momentum": 0.0}],
    "Ftrl": [{}, {"l1": 0.0, "l2": 0.0}],
}
"""Ops whose update has a loop, and the ways through their formula that the loop has."""

RULES = [
    (update_rules.fused_gradient_descent, {}),
    (update_rules.momentum, {"use_nesterov": False}),
    (update_rules.momentum, {"use_nesterov": True}),
    (update_rules.adagrad, {"update_slots": True, "epsilon": None}),
    (update_rules.adagrad, {"update_slots": True}),
    (update_rules.adam, {}),
    (update_rules.adamw, {}),
    (update_rules.rmsprop, {}),
    (update_rules.ftrl, {"multiply_linear_by_lr": False}),
]
SCALARS = {
    "alpha": 0.3,
    "lr": 0.1,
    "momentum": 0.8,
    "epsilon": 1e-3,
    "beta1": 0.9,
    "beta2": 0.99,
    "beta1_power": 0.81,
    "beta2_power": 0.98,
    "rho": 0.9,
    "weight_decay": 0.3,
    "l1": 0.05,
    "l2": 0.02,
    "lr_power": -0.5,
}
STRANGE = [0.0, -0.0, 1.0, -1.5, np.nan, np.inf, -np.inf, 1e-310, 1e-42, 3e38, -3e38, 1e-20, 2.0]


CASES = [
    case
    for case in [*variants("Apply"), *variants("SparseApply")]
    if case.values[1] in FUSED.get(case.values[0].split("Apply")[1], [])
]
OTHERS = [case for case in [*variants("Apply"), *variants("SparseApply")] if case not in CASES]


def settings_of(changes, dtype):
    scalars = {name: dtype.type(value) for name, value in SCALARS.items()}
    settings = {**scalars, **changes}
    return {name: value for name, value in settings.items() if value is not None}


def assert_same_bits(ours, other):
    """Equal, with equal signs of zeros; a NaN has no sign to compare."""
    np.testing.assert_array_equal(ours, other)
    numbers = ~np.isnan(ours)
    np.testing.assert_array_equal(np.signbit(ours)[numbers], np.signbit(other)[numbers])


class PlainCompiler(fused.Compiler):
    """Compiles a loop to itself, and knows which of them ran."""

    def __init__(self):
        super().__init__(self._itself)
        self.ran = set()

    def _itself(self, loop, dtype):
        def run(*arguments):
            self.ran.add(loop)
            loop(*arguments)

        return run


@pytest.fixture
def plain(monkeypatch):
    """Every update, however small, asks this compiler."""
    compiler = PlainCompiler()
    monkeypatch.setattr(fused, "_compiler", compiler)
    monkeypatch.setattr(fused, "MIN_BYTES", 0)
    return compiler


def run_case(op, changes, dtype):
    return UpdateCase(op, dtype, (5, 3), changes, INDICES if "Sparse" in op else None).run()


@pytest.mark.parametrize("dtype", [*FLOATS, dtypes.float16, dtypes.bfloat16], ids=lambda t: t.name)
@pytest.mark.parametrize(("op", "changes"), CASES)
def test_an_update_is_the_same_to_the_bit_with_and_without_its_loop(
    op, changes, dtype, monkeypatch, plain
):
    run_case(op, changes, dtype)  # asks
    plain.wait()
    plain.ran.clear()
    fused_values = run_case(op, changes, dtype)
    # Rows of half precision are widened first, and then are a dense update of a block.
    in_place = "Sparse" in op and dtype in FLOATS
    assert [loop in fused_loops.ROWS.values() for loop in plain.ran] == [in_place]
    plain._ready.clear()
    plain.close()
    for ours, other in zip(fused_values, run_case(op, changes, dtype), strict=True):
        assert_same_bits(ours, other)


@pytest.mark.parametrize(("op", "changes"), OTHERS)
def test_an_update_without_a_loop_asks_for_none(op, changes, plain):
    UpdateCase(op, dtypes.float32, (5, 3), changes, INDICES if "Sparse" in op else None).run()
    plain.wait()
    assert {loop for loop, _ in plain._asked} <= {fused_loops.copy_rows}


@pytest.mark.parametrize("dtype", [np.dtype("f4"), np.dtype("f8")], ids=str)
@pytest.mark.parametrize(("rule", "changes"), RULES)
def test_strange_numbers_go_the_same_way_in_a_loop_as_in_numpy(rule, changes, dtype):
    update = rule(settings_of(changes, dtype))
    names = update._loop.__code__.co_varnames[: update._loop.__code__.co_argcount]
    random = np.random.default_rng(2)
    by_loop = [
        np.where(random.random(500) < 0.7, random.choice(STRANGE, 500), random.normal(size=500))
        for _ in names[names.index("grad") :]
    ]
    with np.errstate(all="ignore"):
        by_loop = [array.astype(dtype) for array in by_loop]
        by_numpy = [array.copy() for array in by_loop]
        update._loop(*update._scalars, *by_loop)
        update._numpy(np.empty((update_rules.SCRATCH_ROWS, 500), dtype), *by_numpy)
    for ours, other in zip(by_loop, by_numpy, strict=True):
        assert_same_bits(ours, other)


@pytest.mark.parametrize("change", [np.add, np.subtract])
@pytest.mark.parametrize("index_dtype", [np.int32, np.int64])
def test_scattered_rows_are_the_same_to_the_bit_with_and_without_a_loop(change, index_dtype, plain):
    random = np.random.default_rng(1)
    start = random.normal(size=(7, 3)).astype(np.float32)
    indices = random.integers(0, 7, 20).astype(index_dtype)
    assert np.bincount(indices).max() <= state._MAX_ROUNDS
    updates = random.normal(size=(20, 3)).astype(np.float32)
    updates.flags.writeable = False
    by_numpy, by_loop = start.copy(), start.copy()
    state.change_rows(by_numpy, indices, updates, change, np.add)
    plain.wait()
    plain.ran.clear()  # a gather may have been the first to be ready
    state.change_rows(by_loop, indices, updates, change, np.add)
    assert plain.ran == {fused_loops.subtract_rows}
    assert_same_bits(by_loop, by_numpy)


@pytest.mark.parametrize("change", [np.multiply, np.maximum])
def test_another_change_of_rows_is_left_to_numpy(change, plain):
    table, updates = np.ones((4, 2), np.float32), np.ones((3, 2), np.float32)
    assert not fused.add_rows(change, table, np.arange(3), updates)
    assert plain._asked == set()


@pytest.mark.parametrize("width", [1, 3, 40])
@pytest.mark.parametrize("index_dtype", [np.int32, np.int64])
def test_gathered_rows_are_the_same_to_the_bit_with_and_without_a_loop(width, index_dtype, plain):
    random = np.random.default_rng(1)
    table = random.choice(STRANGE, (50, width)).astype(np.float32)
    table.flags.writeable = False
    indices = random.integers(0, 50, 60).astype(index_dtype)
    by_numpy, by_loop = np.empty((2, 60, width), np.float32)
    rows.gather(table, indices, by_numpy)
    plain.wait()
    assert plain.ran == set()
    rows.gather(table, indices, by_loop)
    assert plain.ran == {fused_loops.copy_rows}
    assert_same_bits(by_loop, by_numpy)


@pytest.mark.parametrize("dtype", [np.int32, np.float16, np.complex64, object])
def test_rows_of_other_types_are_gathered_by_numpy(dtype, plain):
    table = np.arange(12).astype(dtype).reshape(4, 3)
    found = np.empty((2, 3), dtype)
    rows.gather(table, np.int64([3, 1]), found)
    np.testing.assert_array_equal(found, table[[3, 1]])
    assert plain._asked == set()


def plain_rows(table, updates, indices):
    """Whether a compiled loop took them."""
    return fused.add_rows(np.add, table, indices, updates)


@pytest.mark.parametrize("of", ["table", "updates"])
@pytest.mark.parametrize("how", ["strided", "unaligned", "swapped", "integer"])
def test_arrays_that_machine_code_does_not_take_are_left_to_numpy(of, how, plain):
    def make():
        return {"table": np.zeros((4, 2), np.float32), "updates": np.ones((3, 2), np.float32)}

    indices = np.arange(3)
    plain_rows(**make(), indices=indices)
    plain.wait()
    assert plain_rows(**make(), indices=indices)
    arrays = make()
    array = arrays[of]
    if how == "strided":
        array = np.repeat(array, 2, axis=1)[:, ::2]
    elif how == "unaligned":
        array = np.frombuffer(bytearray(array.nbytes + 1), np.float32, array.size, 1).reshape(
            array.shape
        )
    elif how == "swapped":
        array = array.astype(">f4")
    else:
        array = array.astype(np.int32)
    arrays[of] = array
    assert not plain_rows(**arrays, indices=indices)


def test_a_row_number_that_changed_after_the_check_touches_nothing():
    table = np.zeros((3, 2), np.float32)
    grad = np.ones((4, 2), np.float32)
    fused_loops.subtract_rows(np.float32(1), grad, np.array([0, -1, 3, 2**62]), table)
    np.testing.assert_array_equal(table, [[-1, -1], [0, 0], [0, 0]])


def test_a_row_number_that_changed_after_the_check_shows_nothing():
    table, found = np.ones((3, 2), np.float32), np.full((4, 2), 7, np.float32)
    fused_loops.copy_rows(table, np.array([0, -1, 3, 2**62]), found)
    np.testing.assert_array_equal(found, [[1, 1], [0, 0], [0, 0], [0, 0]])


def test_small_updates_ask_for_no_loop(monkeypatch, plain):
    monkeypatch.setattr(fused, "MIN_BYTES", 1 << 16)
    run_case("ApplyAdam", {}, dtypes.float32)
    run_case("SparseApplyAdam", {}, dtypes.float32)
    assert plain._asked == set()


def test_a_large_update_in_blocks_takes_the_loop_in_every_block(monkeypatch, plain):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 16)
    monkeypatch.setattr(training, "BLOCK_BYTES", 16)
    case = UpdateCase("ApplyAdam", dtypes.float32, (40, 3), {})
    expected = case.run()
    plain.wait()
    for ours, other in zip(case.run(), expected, strict=True):
        assert_same_bits(ours, other)
    assert plain.ran == {fused_loops.adam}


def test_descent_without_a_reader_takes_the_loop_that_overwrites_the_variable(monkeypatch, plain):
    monkeypatch.setattr(training, "BLOCK_BYTES", 16)
    case = UpdateCase("ApplyGradientDescent", dtypes.float32, (40, 3), {})
    step = case.start()
    case.update(step)
    plain.wait()
    case.update(step)
    assert plain.ran == {fused_loops.subtract}


def test_descent_beside_a_reader_takes_the_loop_that_leaves_the_old_variable(monkeypatch, plain):
    monkeypatch.setattr(training, "BLOCK_BYTES", 16)
    case = UpdateCase("ApplyGradientDescent", dtypes.float32, (40, 3), {})
    step = case.start()

    def update():
        before = step.store.find("var").read()
        kept = before.copy()
        case.update(step)
        np.testing.assert_array_equal(before, kept)
        return before, step.store.find("var").read()

    first = update()
    plain.wait()
    assert plain.ran == set()
    second = update()
    assert plain.ran == {fused_loops.subtract_from}
    for before, after in (first, second):
        change = case.feeds["delta"] * case.feeds["alpha"]
        assert_same_bits(after, before - change)


# Machine code.

F4, F8 = np.dtype("f4"), np.dtype("f8")
LOOPS = [
    *fused_loops.ROWS,
    *fused_loops.ROWS.values(),
    fused_loops.subtract_from,
    fused_loops.copy_rows,
]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [F4, F8], ids=str)
@pytest.mark.parametrize("loop", LOOPS)
def test_machine_code_does_what_the_loop_says_to_the_bit(loop, dtype):
    pytest.importorskip("numba", reason="the extra [fast] is not installed")
    from paramserve_core.kernels import fused_numba

    compiled = fused_numba.compile_loop(loop, dtype)
    names = loop.__code__.co_varnames[: loop.__code__.co_argcount]
    random = np.random.default_rng(3)
    shape = (61, 5) if "indices" in names else (305,)

    read_only = [name for name in names if name in ("grad", "before", "source", "indices")]

    def argument(name, i):
        if name == "indices":
            return np.intp([*random.integers(0, 61, 59), 61, -1])
        if i < names.index(read_only[0]):
            return dtype.type(random.uniform(0.1, 1))
        values = random.normal(size=shape).astype(dtype)
        values.reshape(-1)[random.integers(0, 305, 60)] = random.choice(STRANGE, 60)
        values.flags.writeable = name not in read_only
        return values

    with np.errstate(all="ignore"):
        by_code = [argument(name, i) for i, name in enumerate(names)]
        by_python = [np.copy(value)[()] for value in by_code]
        compiled(*by_code)
        loop(*by_python)
    for ours, other in zip(by_code, by_python, strict=True):
        assert_same_bits(ours, other)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [F4, F8], ids=str)
def test_machine_code_that_writes_past_the_cache_keeps_to_its_elements_wherever_they_lie(dtype):
    pytest.importorskip("numba", reason="the extra [fast] is not installed")
    from paramserve_core.kernels import fused_numba

    descend = fused_numba.compile_loop(fused_loops.subtract_from, dtype)
    part = fused_loops.PART_BYTES // dtype.itemsize
    random = np.random.default_rng(4)
    grad, before = random.normal(size=(2, 4 * part)).astype(dtype)
    for first in range(18):
        for size in (0, 1, 15, part - 1, part, part + 1, 2 * part + 17):
            wanted = np.full(4 * part, 7, dtype)
            found = wanted.copy()
            block = slice(first, first + size)
            wanted[block] = before[block] - grad[block] * dtype.type(0.3)
            descend(dtype.type(0.3), grad[block], before[block], found[block])
            assert_same_bits(found, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("op", ["ApplyGradientDescent", "ApplyAdam", "SparseApplyAdam"])
def test_programs_get_the_same_bits_from_machine_code(op, monkeypatch):
    pytest.importorskip("numba", reason="the extra [fast] is not installed")
    indices = np.arange(1024)[::-1].copy() if "Sparse" in op else None
    case = UpdateCase(op, dtypes.float32, (1024, 4 * blocks.BLOCK_BYTES >> 12), {}, indices)
    off = fused.Compiler(lambda loop, dtype: loop)
    off.close()
    monkeypatch.setattr(fused, "_compiler", off)
    by_numpy = case.run()
    compiler = fused.Compiler(fused._compile)
    monkeypatch.setattr(fused, "_compiler", compiler)
    case.run()
    compiler.wait()
    assert compiler._ready
    for ours, other in zip(case.run(), by_numpy, strict=True):
        assert_same_bits(ours, other)


@pytest.mark.slow
def test_machine_code_refuses_arrays_that_it_was_not_made_for():
    pytest.importorskip("numba", reason="the extra [fast] is not installed")
    from paramserve_core.kernels import fused_numba

    compiled = fused_numba.compile_loop(fused_loops.subtract, F4)
    with pytest.raises(TypeError, match="No matching definition"):
        compiled(np.float32(1), np.ones(4)[::2], np.ones(2))
