"""Where the rows lie that a gather answers, and who may write to them."""

import numpy as np
import pytest

from graph_builder import GraphBuilder
from paramserve_core import dtypes
from paramserve_core.executor.program import Program
from paramserve_core.executor.step import StepContext
from paramserve_core.executor.store import VariableStore
from paramserve_core.kernels.random_streams import RandomStreams
from paramserve_core.transport.interface import Message
from paramserve_core.transport.lending import Lender
from paramserve_core.transport.segments import SegmentPool, locate
from transport_fakes import call

ROWS = 4096


@pytest.fixture
def gathered():
    """Runs a gather of rows of 64 float32, in reverse order, on a store with some memory."""

    def run(memory):
        table = np.arange(ROWS * 64, dtype=np.float32).reshape(ROWS, 64)
        g = GraphBuilder()
        g.variable("table", table.shape)
        g.constant("value", table)
        g.assign("set", "table", "value")
        g.constant("rows", np.arange(ROWS)[::-1].copy())
        g.node(
            "Gather",
            "found",
            "table",
            "rows",
            "^set",
            Tparams=dtypes.float32,
            Tindices=dtypes.int64,
        )
        program = Program(g.graph.node, returned=["found:0"])
        (found,) = program.run(StepContext(VariableStore(memory=memory), RandomStreams()), [], {})
        np.testing.assert_array_equal(found, table[::-1])
        return found

    return run


def test_rows_gathered_into_shared_memory_are_lent_without_a_copy(gathered):
    pool = SegmentPool()
    found = gathered(pool)
    place = locate(found)
    assert place is not None
    before = pool.segment_count
    outgoing = Lender(1 << 30, pool).pack(Message(call(), [found]))
    assert outgoing.blocks == [place[0]]
    assert pool.segment_count == before


def test_rows_gathered_in_one_process_are_the_callers_to_write_to(gathered):
    found = gathered(None)
    assert found.flags.owndata
    assert found.flags.writeable
