"""What tests of savers do over and over."""

import os

import numpy as np

from paramserve._variables.initialization import initialize_all_variables
from paramserve._variables.variable import Variable


def variable(name, value, *, info=None):
    """A variable, or a part of a partitioned one."""
    made = Variable(np.asarray(value), name=name, collections=[] if info else None)
    if info is not None:
        made._set_save_slice_info(info)
    return made


def initialize(session, *others):
    session.run([initialize_all_variables(), *(v.initializer for v in others)])


def save(saver, session, path, *args, **options):
    return saver.save(session, str(path), *args, write_meta_graph=False, **options)


def saved_paths(saver):
    """Names of the checkpoints that a saver keeps, oldest first."""
    return [os.path.basename(path) for path in saver.last_checkpoints]
