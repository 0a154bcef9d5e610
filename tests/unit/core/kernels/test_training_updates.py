"""Updates hold to their promises, whatever the formula: atomic, in place, alike in all forms."""

import threading
import tracemalloc

import numpy as np
import pytest

import kernel_driver
from paramserve_core import dtypes, errors
from paramserve_core.executor.program import Program
from paramserve_core.executor.variable import Variable
from paramserve_core.kernels import blocks, fused, training
from paramserve_core.opdefs import find_op
from update_cases import UpdateCase, variants

FLOAT32 = dtypes.float32
DENSE, SPARSE = variants("Apply"), variants("SparseApply")
ROWS = np.int64([3, 1, 0])


def case_of(op, changes, dtype=FLOAT32, shape=(5, 3), indices=ROWS, seed=0):
    return UpdateCase(op, dtype, shape, changes, indices if "Sparse" in op else None, seed)


@pytest.fixture
def tiny_blocks(monkeypatch):
    """Blocks of four float32 each."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 16)
    monkeypatch.setattr(training, "BLOCK_BYTES", 16)


@pytest.mark.parametrize(("op", "changes"), [*DENSE, *SPARSE])
def test_an_update_changes_the_variable_and_slots_and_answers_the_variable(op, changes):
    case = case_of(op, changes)
    step = case.start()
    answered = case.update(step)
    values = case.values(step)
    np.testing.assert_array_equal(answered, values[0])
    for name, value in zip(case.refs, values, strict=True):
        keeps = name == "accum" and changes.get("update_slots") is False
        assert np.array_equal(value, case.state[name]) == keeps, name
        assert np.isfinite(value).all()


@pytest.mark.parametrize(("op", "changes"), [*DENSE, *SPARSE])
def test_an_update_in_blocks_on_several_threads_is_the_same_to_the_bit(op, changes, monkeypatch):
    shape, indices = (40, 3), np.arange(0, 40, 3)
    whole = case_of(op, changes, shape=shape, indices=indices).run()
    for size_bytes in (4, 16, 100):
        monkeypatch.setattr(blocks, "BLOCK_BYTES", size_bytes)
        monkeypatch.setattr(training, "BLOCK_BYTES", size_bytes)
        in_blocks = case_of(op, changes, shape=shape, indices=indices).run()
        for ours, other in zip(in_blocks, whole, strict=True):
            np.testing.assert_array_equal(ours, other)


@pytest.mark.parametrize(("op", "changes"), SPARSE)
def test_a_sparse_update_of_every_row_is_the_dense_update(op, changes):
    dense_op = op.removeprefix("Sparse")
    indices = np.int32([2, 0, 3, 1])
    sparse = case_of(op, changes, shape=(4, 3), indices=indices)
    dense = case_of(dense_op, changes, shape=(4, 3))
    rows = sparse.feeds["grad"]
    gradient = np.empty_like(rows)
    gradient[indices] = rows
    dense.feeds["delta" if "delta" in dense.feeds else "grad"] = gradient
    for ours, other in zip(sparse.run(), dense.run(), strict=True):
        np.testing.assert_array_equal(ours, other)


@pytest.mark.parametrize(("op", "changes"), SPARSE)
def test_a_sparse_update_leaves_other_rows_alone(op, changes):
    case = case_of(op, changes)
    others = [i for i in range(5) if i not in ROWS]
    for name, value in zip(case.refs, case.run(), strict=True):
        np.testing.assert_array_equal(value[others], case.state[name][others])


@pytest.mark.parametrize(("op", "changes"), SPARSE)
def test_a_row_named_twice_is_updated_twice_in_order(op, changes, tiny_blocks):
    indices = np.int64([1, 3, 1, 1, 0, 3])
    at_once = case_of(op, changes, indices=indices)
    one_by_one = case_of(op, changes, indices=indices)
    step = one_by_one.start()
    rows = one_by_one.feeds["grad"]
    for i in range(len(indices)):
        one_by_one.feeds.update(grad=rows[i : i + 1], indices=indices[i : i + 1])
        one_by_one.update(step)
    for ours, other in zip(at_once.run(steps=1), one_by_one.values(step), strict=True):
        np.testing.assert_array_equal(ours, other)


@pytest.mark.parametrize("dtype", [dtypes.float16, dtypes.bfloat16], ids=lambda t: t.name)
@pytest.mark.parametrize(("op", "changes"), [*DENSE, *SPARSE])
def test_a_half_precision_update_is_that_of_float32_rounded_once(op, changes, dtype, tiny_blocks):
    if dtype not in find_op(op).attrs["T"].allowed:
        return
    half, single = case_of(op, changes, dtype), case_of(op, changes)
    single.state = {name: value.astype(np.float32) for name, value in half.state.items()}
    single.feeds = {
        name: value.astype(np.float32) if value.dtype == dtype.as_numpy_dtype else value
        for name, value in half.feeds.items()
    }
    for ours, other in zip(half.run(steps=1), single.run(steps=1), strict=True):
        np.testing.assert_array_equal(ours, other.astype(dtype.as_numpy_dtype))


@pytest.mark.parametrize(("op", "changes"), SPARSE)
def test_rows_larger_than_a_block_are_updated_alike(op, changes, monkeypatch):
    indices = np.int64([1, 3, 1])
    small = case_of(op, changes, shape=(4, 50), indices=indices).run()
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 64)
    monkeypatch.setattr(training, "BLOCK_BYTES", 64)
    large = case_of(op, changes, shape=(4, 50), indices=indices).run()
    for ours, other in zip(large, small, strict=True):
        np.testing.assert_array_equal(ours, other)


def wrong_inputs(case):
    """Feeds that no update takes, by what is wrong."""
    gradient = "delta" if "delta" in case.feeds else "grad"
    wrong = {
        "another shape": {gradient: case.feeds[gradient][..., :2]},
        "a scalar": {gradient: case.feeds[gradient][0, 0]},
    }
    if "indices" in case.feeds:
        wrong["too large"] = {"indices": np.int64([0, 5, 1])}
        wrong["negative"] = {"indices": np.int64([0, 1, -1])}
        wrong["too few"] = {"indices": np.int64([0, 1])}
        wrong["a matrix"] = {"indices": np.int64([[0, 1, 2]])}
    for name, value in case.feeds.items():
        if value.ndim == 0:
            wrong[f"{name} is a vector"] = {name: value[None]}
    return wrong


@pytest.mark.parametrize(("op", "changes"), [*DENSE, *SPARSE])
def test_an_update_that_fails_changes_neither_variable_nor_slots(op, changes):
    case = case_of(op, changes)
    step = case.start()
    right = dict(case.feeds)
    for what, feeds in wrong_inputs(case).items():
        case.feeds = {**right, **feeds}
        with pytest.raises(errors.InvalidArgumentError):
            case.update(step)
        for name, value in zip(case.refs, case.values(step), strict=True):
            np.testing.assert_array_equal(value, case.state[name], err_msg=what)


@pytest.mark.parametrize(("op", "changes"), [*DENSE, *SPARSE])
def test_a_slot_of_another_shape_or_without_a_value_is_refused(op, changes):
    case = case_of(op, changes)
    for slot in case.refs[1:]:
        step = case.start()
        step.store.find(slot).assign(np.zeros((3, 5), np.float32), validate_shape=False)
        with pytest.raises(errors.InvalidArgumentError, match=rf"{slot}: .*\[3,5\].*\[5,3\]"):
            case.update(step)
        step.store.find(slot).discard()
        with pytest.raises(errors.FailedPreconditionError, match=slot):
            case.update(step)
        np.testing.assert_array_equal(step.store.find("var").read(), case.state["var"])


def test_an_update_by_another_type_than_the_graph_says_is_refused():
    case = case_of("ApplyMomentum", {})
    step = case.start()
    case.feeds["grad"] = case.feeds["grad"].astype(np.float64)
    with pytest.raises(errors.InvalidArgumentError, match=r"float32 by .* float64"):
        # As from a peer that does not keep to the plan: a graph would have been refused.
        case.update(step)


def test_an_update_of_a_scalar_by_rows_is_refused():
    case = case_of("SparseApplyMomentum", {})
    case.state = {name: np.float32(1) for name in case.refs}
    with pytest.raises(errors.InvalidArgumentError, match="rank 1"):
        case.run()


@pytest.mark.parametrize(("op", "changes"), [*DENSE, *SPARSE])
def test_what_was_read_before_an_update_stays_as_it_was(op, changes):
    case = case_of(op, changes)
    step = case.start()
    read = case.values(step)
    copies = [value.copy() for value in read]
    case.update(step, 2)
    for value, copy in zip(read, copies, strict=True):
        np.testing.assert_array_equal(value, copy)


@pytest.mark.parametrize("dtype", [FLOAT32, dtypes.float16], ids=lambda dtype: dtype.name)
@pytest.mark.parametrize(("op", "changes"), DENSE)
def test_an_update_of_what_somebody_reads_is_the_same_to_the_bit(op, changes, dtype, tiny_blocks):
    if dtype not in find_op(op).attrs["T"].allowed:
        return
    case = case_of(op, changes, dtype)
    alone, read_meanwhile = case.start(), case.start()
    case.update(alone, 2)
    before = case.values(read_meanwhile)
    copies = [value.copy() for value in before]
    case.update(read_meanwhile)
    kept = case.values(read_meanwhile)
    case.update(read_meanwhile)
    for ours, other in zip(case.values(read_meanwhile), case.values(alone), strict=True):
        np.testing.assert_array_equal(ours, other)
    for value, copy in zip(before, copies, strict=True):
        np.testing.assert_array_equal(value, copy)
    del kept


@pytest.mark.parametrize(("op", "changes"), DENSE)
def test_a_large_update_of_what_somebody_reads_copies_no_variable_beforehand(
    op, changes, tiny_blocks, monkeypatch
):
    case = case_of(op, changes)
    step = case.start()
    held = case.values(step)
    copied = []
    monkeypatch.setattr(Variable, "_copy", lambda _, value: copied.append(value) or value.copy())
    case.update(step)
    assert not copied
    assert not any(map(np.shares_memory, held, case.values(step)))


def test_a_variable_as_its_own_slot_is_updated_alike_whether_somebody_reads_it(tiny_blocks):
    # No client makes such a graph, but a stranger may.
    case = case_of("ApplyMomentum", {})
    nodes = case._nodes()
    assert nodes["update"].input[1] == "accum"
    nodes["update"].input[1] = "var"
    feeds = [f"{name}:0" for name in case.feeds]
    program = Program([nodes["var"], nodes["update"]], received=feeds)
    alone, read_meanwhile = case.start(), case.start()
    held = read_meanwhile.store.find("var").read()
    for step in (alone, read_meanwhile):
        program.run(step, list(case.feeds.values()), {})
    found, wanted = (step.store.find("var").read() for step in (read_meanwhile, alone))
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(held, case.state["var"])
    assert not np.array_equal(found, held)


def test_updates_from_several_threads_are_all_applied():
    case = case_of("ApplyGradientDescent", {}, shape=(100, 100))
    case.state["var"] = np.zeros((100, 100), np.float32)
    case.feeds.update(alpha=np.asarray(np.float32(1)), delta=np.full((100, 100), -1, np.float32))
    step = case.start()
    threads = [threading.Thread(target=case.update, args=(step, 25)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (step.store.find("var").read() == 100).all()


@pytest.mark.parametrize("op", ["ApplyAdam", "SparseApplyAdam"])
def test_an_update_makes_no_temporary_of_the_variables_size(op, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 4096)
    monkeypatch.setattr(training, "BLOCK_BYTES", 4096)
    case = case_of(op, {}, shape=(1024, 256), indices=np.arange(1024))
    step = case.start()
    gradient = case.feeds["grad"]
    case.update(step)
    fused.compiler().wait()  # what the update asked for is not what is measured,
    case.update(step)  # nor what the first call of machine code loads
    tracemalloc.start()
    try:
        case.update(step)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < gradient.nbytes / 4


# Formulas that TensorFlow does not have.


def test_adamw_is_the_papers():
    case = case_of("ApplyAdamW", {}, dtypes.float64)
    var, m, v = (case.state[name] for name in case.refs)
    g = case.feeds["grad"]
    var = var - 0.1 * 0.3 * var
    m = 0.9 * m + 0.1 * g
    v = 0.99 * v + 0.01 * g * g
    var = var - 0.1 * (m / (1 - 0.81)) / (np.sqrt(v / (1 - 0.9801)) + 1e-3)
    for ours, wanted in zip(case.run(steps=1), (var, m, v), strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=1e-12)


def test_lion_is_the_papers():
    case = case_of("ApplyLion", {}, dtypes.float64)
    var, m = (case.state[name] for name in case.refs)
    g = case.feeds["grad"]
    var = var - 0.1 * (np.sign(0.9 * m + 0.1 * g) + 0.3 * var)
    m = 0.99 * m + 0.01 * g
    for ours, wanted in zip(case.run(steps=1), (var, m), strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=1e-12)


def test_ftrl_of_an_element_without_any_gradient_is_zero():
    case = case_of("ApplyFtrl", {"l1": 0.0, "l2": 0.0})
    case.state = {name: np.zeros((5, 3), np.float32) for name in case.refs}
    case.feeds["grad"] = np.zeros((5, 3), np.float32)
    for value in case.run():
        np.testing.assert_array_equal(value, 0)


@pytest.mark.parametrize("name", ["lr", "l1", "l2", "l2_shrinkage", "lr_power"])
def test_ftrl_refuses_a_setting_of_the_wrong_sign(name):
    case = case_of("ApplyFtrlV2", {name: 1.0 if name == "lr_power" else -1.0})
    with pytest.raises(errors.InvalidArgumentError, match=f"{name} = "):
        case.run()


def test_a_division_by_zero_gives_infinity_and_no_error():
    case = case_of("ApplyAdam", {"beta1_power": 1.0})
    assert np.isinf(case.run(steps=1)[0]).all()


def test_nothing_to_update_is_an_update():
    for op in ("ApplyAdam", "SparseApplyAdam"):
        for shape, indices in (((0, 3), np.int64([])), ((5, 0), ROWS)):
            values = case_of(op, {}, shape=shape, indices=indices).run()
            assert [value.shape for value in values] == [shape] * 3


@pytest.mark.parametrize(("op", "changes"), [*DENSE[:1], *SPARSE[:1]])
def test_shapes_are_checked_while_the_graph_is_built(op, changes):
    case = case_of(op, changes)
    feeds = {**case.feeds}
    gradient = "delta" if "delta" in feeds else "grad"
    inputs = [case.state[name] for name in case.refs]
    assert kernel_driver.infer_shapes(op, *inputs, *feeds.values())[0].as_list() == [5, 3]
    feeds[gradient] = feeds[gradient][:, :2]
    with pytest.raises(ValueError, match="Dimensions must be equal"):
        kernel_driver.infer_shapes(op, *inputs, *feeds.values())
