"""Values for TensorBoard: packed in the graph, fetched in a step, written to event files.

`scalar` and `histogram` add ops that pack a value, `merge_all` one that has all of them, and a
`FileWriter` writes what a session answers for it.
"""

from paramserve._ops.summary import histogram as histogram
from paramserve._ops.summary import merge_all_summaries as merge_all
from paramserve._ops.summary import merge_summary as merge
from paramserve._ops.summary import scalar as scalar
from paramserve._summary.writer import FileWriter as FileWriter
from paramserve_protos.v1.event_pb2 import Event as Event
from paramserve_protos.v1.event_pb2 import SessionLog as SessionLog
from paramserve_protos.v1.event_pb2 import TaggedRunMetadata as TaggedRunMetadata
from paramserve_protos.v1.summary_pb2 import Summary as Summary
from paramserve_protos.v1.summary_pb2 import SummaryDescription as SummaryDescription

__all__ = [
    "Event",
    "FileWriter",
    "SessionLog",
    "Summary",
    "SummaryDescription",
    "TaggedRunMetadata",
    "histogram",
    "merge",
    "merge_all",
    "scalar",
]
