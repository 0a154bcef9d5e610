"""What a step reports about itself, as a program asks for it and gets it.

Thread rule: pure functions.
"""

from __future__ import annotations

from paramserve_core.master.tracing import StepReport, fill_micros, place
from paramserve_protos.v1.config_pb2 import RunMetadata, RunOptions
from paramserve_protos.v1.versions_pb2 import VersionDef


def wanted_report(options: RunOptions) -> StepReport | None:
    """What the options of a run ask the step to report; None if nothing."""
    stats = options.trace_level != RunOptions.NO_TRACE
    if not stats and not options.output_partition_graphs:
        return None
    return StepReport(stats=stats, partition_graphs=options.output_partition_graphs)


def write_report(
    metadata: RunMetadata, report: StepReport, began_ns: int, versions: VersionDef
) -> None:
    """Overwrites `metadata` with a report, in the time of day.

    Args:
        metadata: changed in place.
        report: of a step that ended well.
        began_ns: when the step began, nanoseconds since 1970.
        versions: of the program's graph.
    """
    metadata.CopyFrom(report.metadata)
    place(metadata, began_ns)
    fill_micros(metadata)
    for graph in metadata.partition_graphs:
        graph.versions.CopyFrom(versions)
