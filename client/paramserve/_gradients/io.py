"""Gradients of the ops of family `io`: there are none, files have no derivative.

Thread rule: fills a registry while it is imported.
"""

from paramserve._framework.gradient_registry import NoGradient

for _op in (
    "MergeV2Checkpoints",
    "Restore",
    "RestoreSlice",
    "RestoreV2",
    "SaveV2",
    "ShardedFilename",
    "ShardedFilespec",
    "StaticRegexFullMatch",
    "StringJoin",
):
    NoGradient(_op)
