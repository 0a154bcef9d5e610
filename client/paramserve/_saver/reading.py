"""Looking into a checkpoint on this machine without building a graph.

For checkpoints on servers' disks, restore into variables; `paramserve checkpoint` does the same
from the command line.

Thread rule: pure functions, but for the disk.
"""

import os

from paramserve_core.checkpoint.reader import CheckpointReader as CheckpointReader
from paramserve_core.checkpoint.reader import list_variables as list_variables
from paramserve_core.checkpoint.reader import load_variable as load_variable
from paramserve_core.checkpoint.reader import open_checkpoint
from paramserve_core.errors import NotFoundError


def NewCheckpointReader(filepattern: str | os.PathLike[str]) -> CheckpointReader:
    """A reader of a checkpoint on this machine, of any format.

    Args:
        filepattern: the checkpoint's path, without the suffix of any file. It is no pattern; the
            name is TensorFlow's.

    Raises:
        NotFoundError: there is no checkpoint at the path.
        DataLossError: its index is damaged.
    """
    try:
        return CheckpointReader(filepattern)
    except NotFoundError as error:
        # Programs know by these words that there is none yet.
        text = f"Unsuccessful TensorSliceReader constructor: {error.message}"
        raise NotFoundError(None, None, text) from None


def load_checkpoint(ckpt_dir_or_file: str | os.PathLike[str]) -> CheckpointReader:
    """A reader of a checkpoint on this machine, or of the newest one in a directory.

    Args:
        ckpt_dir_or_file: the checkpoint's path, without the suffix of any file, or the directory.

    Raises:
        NotFoundError: there is no checkpoint.
        DataLossError: its index is damaged.
    """
    return open_checkpoint(ckpt_dir_or_file)
