"""Blocks that set a default."""

import threading

import pytest

from paramserve._framework.default_stack import DefaultStack


def test_the_innermost_block_decides():
    stack = DefaultStack()
    assert stack.get() is None
    with stack.entered("outer") as outer:
        assert outer == "outer"
        with stack.entered("inner"):
            assert stack.get() == "inner"
        assert stack.get() == "outer"
    assert stack.is_empty


def test_each_thread_has_its_own_blocks():
    stack, seen = DefaultStack(), []
    with stack.entered("here"):
        thread = threading.Thread(target=lambda: seen.append(stack.get()))
        thread.start()
        thread.join()
    assert seen == [None]


def test_blocks_left_in_the_wrong_order_are_an_error_where_nesting_counts():
    strict, lenient = DefaultStack(), DefaultStack(enforce_nesting=False)
    for stack in (strict, lenient):
        outer, inner = stack.entered("outer"), stack.entered("inner")
        outer.__enter__()
        inner.__enter__()
        if stack is strict:
            with pytest.raises(RuntimeError, match="nesting violated by default str"):
                outer.__exit__(None, None, None)
        else:
            outer.__exit__(None, None, None)
            assert stack.get() == "inner"
            inner.__exit__(None, None, None)
            assert stack.is_empty


def test_a_reset_inside_a_block_empties_the_stack():
    stack = DefaultStack()
    with stack.entered("outer"):
        stack.reset()
        assert stack.is_empty
    assert stack.is_empty
