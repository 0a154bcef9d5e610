"""Looking into a checkpoint on this machine without building a graph.

For checkpoints on servers' disks, restore into variables; `paramserve checkpoint` does the same
from the command line.

Thread rule: pure functions, but for the disk.
"""

from paramserve_core.checkpoint.reader import CheckpointReader as CheckpointReader
from paramserve_core.checkpoint.reader import list_variables as list_variables
from paramserve_core.checkpoint.reader import load_variable as load_variable

NewCheckpointReader = CheckpointReader
"""TensorFlow's name for the class, which it calls like a function."""
