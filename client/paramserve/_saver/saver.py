"""The saver: writes variables to checkpoints and reads them back.

A save is one request to the session's master: which variables under which names, the path, the
graph, and what the state file is to say afterwards. The tasks that hold the variables write and
read the files; no value passes through the client.

Thread rule: a saver may be used from several threads; its list of checkpoints is guarded by a lock
that is held for the length of a save.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, overload

from paramserve._framework.collections import GraphKeys
from paramserve._framework.graph import Graph
from paramserve._framework.meta_graph import register_proto_function
from paramserve._saver.graph_hash import GraphHash
from paramserve._saver.graph_ops import add_ops, saveables_in
from paramserve._saver.meta_graph import export_meta_graph, with_scope, without_scope
from paramserve._saver.pending import PendingSave
from paramserve._saver.progress import shown
from paramserve._saver.retention import Retention
from paramserve._saver.saveables import Saveable, saveables_of
from paramserve._saver.session_access import master_of, session_of, step_number_of, timeout_of
from paramserve._saver.state import saved_time
from paramserve._saver.texts import path_text
from paramserve_core.checkpoint.entries import pack_entries
from paramserve_core.checkpoint.finding import NO_CHECKPOINT
from paramserve_core.errors import NotFoundError
from paramserve_protos.v1.checkpoint_service_pb2 import (
    CHECKPOINT_FORMAT_SAFETENSORS,
    CHECKPOINT_FORMAT_TENSORFLOW_V2,
    CheckpointFormat,
    RestoreRequest,
    SaveRequest,
)
from paramserve_protos.v1.meta_graph_pb2 import MetaGraphDef
from paramserve_protos.v1.saver_pb2 import SaverDef

_STATE_FILE: Final = "checkpoint"


class NoCheckpointError(NotFoundError, ValueError):
    """There is no checkpoint at the path that was to be restored.

    TensorFlow raised a `NotFoundError` first and a `ValueError` later; this is both.
    """


class Saver:
    """Saves and restores variables.

    The variables are chosen when the saver is made. Several savers may manage the same variables
    under different names. A partitioned variable is one tensor in a checkpoint, and restores into
    any partitioning of the same shape.
    """

    def __init__(
        self,
        var_list: Any = None,
        reshape: bool = False,
        sharded: bool = False,
        max_to_keep: int | None = 5,
        keep_checkpoint_every_n_hours: float = 10000.0,
        name: str | None = None,
        restore_sequentially: bool = False,
        saver_def: SaverDef | None = None,
        builder: Any = None,
        write_version: int | None = None,
        pad_step_number: bool = False,
        *,
        defer_build: bool = False,
        allow_empty: bool = False,
        save_relative_paths: bool = False,
        filename: str | bytes | None = None,
        cast: bool = False,
    ) -> None:
        """Makes a saver and adds its ops to the graph.

        Args:
            var_list: None for all variables of the default graph; a list of variables, which are
                saved under their own names; or a dict of names in the checkpoint to variables.
            reshape: restore tensors of other shapes with as many elements.
            sharded: for programs that run the saver's ops: each device saves by itself. The files
                are sharded by task in any case.
            max_to_keep: how many of the newest checkpoints are kept; None or 0: all.
            keep_checkpoint_every_n_hours: how often one is kept for good besides.
            name: scope of the ops.
            restore_sequentially: for programs that run the saver's ops: one variable at a time.
            saver_def: the definition of a saver whose ops are in the session's graph already;
                then nothing is added to it.
            builder: makes the ops instead: an object with `build(...)` that answers a SaverDef.
            write_version: `SaverDef.V2` writes checkpoints that TensorFlow reads; None writes this
                package's own format. Every format is restored.
            pad_step_number: write the step in the path with eight digits, so that names sort.
            defer_build: choose the variables, and add the ops, when `build` is called.
            allow_empty: without variables, save the graph alone and restore nothing.
            save_relative_paths: has no effect: state files name what is below them by relative
                paths, and what is not by absolute ones.
            filename: for programs that run the saver's ops: the path where none is fed.
            cast: `restore` converts tensors of other types, to larger or smaller ones of the same
                kind, or of a kind that has all of its values: bool, integer, floating point,
                complex. Precision may be lost; a number that is out of range is an error.

        Raises:
            TypeError: an item of `var_list` is no variable.
            ValueError: there are no variables, two have one name, or the format is V1, which is
                only read; or variables are given to a saver that is to choose them later.
        """
        del save_relative_paths
        if defer_build and var_list is not None:
            raise ValueError(
                "If `var_list` is provided then build cannot be deferred; give one of var_list and "
                "defer_build=True"
            )
        if write_version not in (None, SaverDef.V2):
            raise ValueError(
                f"write_version={write_version}: checkpoints of TensorFlow's V1 format are read, "
                "not written; leave it out, or give SaverDef.V2 for files that TensorFlow reads"
            )
        self._format: CheckpointFormat = (
            CHECKPOINT_FORMAT_SAFETENSORS
            if write_version is None
            else CHECKPOINT_FORMAT_TENSORFLOW_V2
        )
        self._reshape = reshape
        self._cast = cast
        self._pad_step_number = pad_step_number
        self._saveables: list[Saveable] | None = None
        self._entries_of: bytes | None = None
        self._lock = threading.Lock()
        self._pending: PendingSave | None = None
        self._graph_hash = GraphHash()
        self._allow_empty = allow_empty
        self._is_built = False
        self.saver_def = SaverDef(
            max_to_keep=max_to_keep or 0,
            keep_checkpoint_every_n_hours=keep_checkpoint_every_n_hours,
        )
        if saver_def is not None:
            if var_list is not None:
                self._saveables = saveables_of(var_list)
            self.saver_def.CopyFrom(saver_def)
            self._is_built = True
        self._retention = Retention(
            self.saver_def.max_to_keep, self.saver_def.keep_checkpoint_every_n_hours
        )

        def new_definition(saveables: Sequence[Saveable]) -> SaverDef:
            if builder is None:
                return add_ops(
                    saveables[0].ref.graph,
                    saveables,
                    name=name,
                    reshape=reshape,
                    sharded=sharded,
                    in_sequence=restore_sequentially,
                    default_filename=filename or "model",
                )
            made: SaverDef = builder.build(
                var_list,
                reshape=reshape,
                sharded=sharded,
                max_to_keep=max_to_keep or 0,
                keep_checkpoint_every_n_hours=keep_checkpoint_every_n_hours,
                name=name,
                restore_sequentially=restore_sequentially,
            )
            return made

        self._var_list = var_list
        self._new_definition = new_definition
        if not defer_build:
            self.build()

    def build(self) -> None:
        """Chooses the variables and adds the saver's ops, unless that is done.

        Raises:
            TypeError: an item of `var_list` is no variable.
            ValueError: there are no variables, or two have one name.
        """
        if self._is_built:
            return
        saveables = saveables_of(self._var_list, allow_empty=self._allow_empty)
        if saveables:
            made = self._new_definition(saveables)
            made.max_to_keep = self.saver_def.max_to_keep
            made.keep_checkpoint_every_n_hours = self.saver_def.keep_checkpoint_every_n_hours
            self.saver_def.CopyFrom(made)
        self._saveables = saveables
        self._is_built = True

    @overload
    def save(
        self,
        sess: Any,
        save_path: str | os.PathLike[str],
        global_step: Any = None,
        latest_filename: str | None = None,
        meta_graph_suffix: str = "meta",
        write_meta_graph: bool = True,
        write_state: bool = True,
        strip_default_attrs: bool = False,
        *,
        block: Literal[True] = True,
    ) -> str: ...

    @overload
    def save(
        self,
        sess: Any,
        save_path: str | os.PathLike[str],
        global_step: Any = None,
        latest_filename: str | None = None,
        meta_graph_suffix: str = "meta",
        write_meta_graph: bool = True,
        write_state: bool = True,
        strip_default_attrs: bool = False,
        *,
        block: Literal[False],
    ) -> PendingSave: ...

    def save(
        self,
        sess: Any,
        save_path: str | os.PathLike[str],
        global_step: Any = None,
        latest_filename: str | None = None,
        meta_graph_suffix: str = "meta",
        write_meta_graph: bool = True,
        write_state: bool = True,
        strip_default_attrs: bool = False,
        *,
        block: bool = True,
    ) -> str | PendingSave | None:
        """Saves the variables; blocks until the checkpoint is durable.

        All variables are saved as they are at one moment, at which no step is half done; steps are
        not held up while the values are written. A save begins when the saver's one before has
        ended.

        Args:
            sess: a session on the variables' graph.
            save_path: the checkpoint's path on the servers, without the step.
            global_step: a number, tensor or variable that is put behind the path.
            latest_filename: the state file's name; "checkpoint" by default.
            meta_graph_suffix: the suffix of the file with the graph.
            write_meta_graph: also write the graph.
            write_state: also write the state file, and remember the checkpoint. Without it, the
                program looks after the checkpoint, which is never deleted here.
            strip_default_attrs: see `export_meta_graph`.
            block: wait until the checkpoint is durable; otherwise return once the moment has
                passed, and answer a handle by which to wait.

        Returns:
            The path to restore from, or a `PendingSave`. None from a saver without variables (see
            `allow_empty`), which writes the graph on this machine; no overload says so, because
            nobody else should have to check.

        Raises:
            RuntimeError: the saver was to be built later, and is not.
            TypeError: `sess` is no session.
            ValueError: the path's directory does not exist on a server, or the names collide.
            FailedPreconditionError: a variable is not initialized.
            UnavailableError: a server cannot be reached.
            DeadlineExceededError: the session's `operation_timeout_in_ms` passed; with
                `block=False` it is a limit for the moment, not for the writing.
            OpError: the checkpoint was not written. Earlier ones are untouched.
        """
        session = session_of(sess)
        path = path_text(save_path)
        latest_filename = latest_filename or _STATE_FILE
        if os.path.split(latest_filename)[0]:
            raise ValueError("'latest_filename' must not contain path components")
        step = None if global_step is None else step_number_of(session, global_step)
        if step is not None:
            path = f"{path}-{step:08d}" if self._pad_step_number else f"{path}-{step:d}"
        elif os.path.basename(path) == latest_filename and not self.saver_def.sharded:
            raise ValueError(
                f"'latest_filename' collides with 'save_path': {latest_filename!r} and {path!r}"
            )
        saveables = self._managed(session.graph)
        meta_graph_path = f"{path}.{meta_graph_suffix}"

        def exported(filename: str | None = None) -> MetaGraphDef:
            return export_meta_graph(
                filename,
                saver_def=self._exported_definition(),
                graph=session.graph,
                strip_default_attrs=strip_default_attrs,
            )

        if not saveables:
            if write_meta_graph:
                exported(meta_graph_path)
            return None
        request = SaveRequest(
            path=path,
            entries=self._entries(saveables),
            format=self._format,
            has_step=step is not None,
            step=step or 0,
        )
        if write_meta_graph:
            request.meta_graph_path = meta_graph_path
            request.meta_graph = exported().SerializeToString()
        request.graph_hash = self._graph_hash.of(session.graph)
        with self._lock:
            if self._pending is not None:
                self._pending.settle()
            plan = self._retention.plan(path) if write_state else None
            if plan is not None:
                request.state.CopyFrom(plan.state(latest_filename))
            master = master_of(session)
            try:
                if block:
                    with shown(f"saving {path}"):
                        master.save(request, timeout_of(session))
                else:
                    running = master.begin_save(request, timeout_of(session))
            except NotFoundError as error:
                raise ValueError(error.message) from error

            def succeeded() -> None:
                if plan is not None:
                    self._retention.carried_out(plan)

            if block:
                succeeded()
                return path
            self._pending = PendingSave(path, running, succeeded)
            return self._pending

    def restore(self, sess: Any, save_path: str) -> None:
        """Gives the variables the values of a checkpoint; they need not be initialized.

        All variables on all servers get their new values between two steps, or on any error none.

        Args:
            sess: a session on the variables' graph.
            save_path: what `save` or `latest_checkpoint` returned.

        Raises:
            RuntimeError: the saver was to be built later, and is not.
            TypeError: `sess` is no session.
            ValueError: there is no checkpoint at the path, or it is None.
            NotFoundError: there is no checkpoint at the path (the same error), or a name is not
                in it.
            InvalidArgumentError: a type or shape is another in the checkpoint.
            DataLossError: the checkpoint is damaged.
            UnavailableError: a server cannot be reached.
            DeadlineExceededError: the session's `operation_timeout_in_ms` passed.
        """
        session = session_of(sess)
        if save_path is None:
            raise ValueError("Can't load save_path when it is None.")
        saveables = self._managed(session.graph)
        if not saveables:
            return
        request = RestoreRequest(path=path_text(save_path), entries=self._entries(saveables))
        try:
            with shown(f"restoring {request.path}"):
                master_of(session).restore(request, timeout_of(session))
        except NotFoundError as error:
            if not error.message.startswith(NO_CHECKPOINT):
                raise
            text = f"The passed save_path is not a valid checkpoint: {request.path}"
            raise NoCheckpointError(
                None, None, f"{text} ({error.message})", task=error.task
            ) from error

    @property
    def last_checkpoints(self) -> list[str]:
        """The checkpoints that the saver remembers, oldest first."""
        return self._retention.paths

    def set_last_checkpoints(self, last_checkpoints: Sequence[str]) -> None:
        """Remembers these checkpoints, of unknown age; `set_last_checkpoints_with_time` is better.

        Raises:
            TypeError: it is no list.
        """
        if isinstance(last_checkpoints, str) or not isinstance(last_checkpoints, Sequence):
            raise TypeError(f"a list of paths is wanted, not {last_checkpoints!r}")
        self._retention.set((path, float("inf")) for path in last_checkpoints)

    def set_last_checkpoints_with_time(
        self, last_checkpoints_with_time: Sequence[tuple[str, float]]
    ) -> None:
        """Remembers these checkpoints and the times at which they were saved, oldest first.

        Raises:
            TypeError: it is no list.
        """
        if not isinstance(last_checkpoints_with_time, Sequence):
            raise TypeError(f"a list of pairs is wanted, not {last_checkpoints_with_time!r}")
        self._retention.set((path, at) for path, at in last_checkpoints_with_time)

    def recover_last_checkpoints(
        self, checkpoint_paths: Iterable[str], session: Any = None
    ) -> None:
        """Remembers checkpoints of an earlier run, so that they are deleted in their turn.

        Args:
            checkpoint_paths: the paths, oldest first, as the state file has them.
            session: for checkpoints on the disks of servers. Without it, paths at which this
                machine has no checkpoint are left out.
        """
        found = []
        for path in checkpoint_paths:
            saved_at = saved_time(path)
            if saved_at is None and session is not None:
                saved_at = 0.0
            if saved_at is not None:
                found.append((path, saved_at))
        self._retention.set(found)

    def as_saver_def(self) -> SaverDef:
        """The definition: names of the ops, and the retention rules."""
        return self.saver_def

    def to_proto(self, export_scope: str | None = None) -> SaverDef | None:
        """The definition, for a MetaGraphDef; None if it names no ops.

        Args:
            export_scope: only if the ops are in this scope, whose name is left out.
        """
        definition = self._exported_definition()
        return None if definition is None else without_scope(definition, export_scope)

    @staticmethod
    def from_proto(saver_def: SaverDef, import_scope: str | None = None) -> Saver:
        """A saver of a definition whose ops are in the graph.

        Args:
            saver_def: the definition.
            import_scope: the scope that the graph was imported into.
        """
        return Saver(saver_def=with_scope(saver_def, import_scope))

    def export_meta_graph(
        self,
        filename: str | os.PathLike[str] | None = None,
        collection_list: Sequence[str] | None = None,
        as_text: bool = False,
        *,
        clear_devices: bool = False,
        clear_extraneous_savers: bool = False,
        strip_default_attrs: bool = False,
    ) -> MetaGraphDef:
        """The default graph with this saver, as a message; see `train.export_meta_graph`."""
        return export_meta_graph(
            filename,
            saver_def=self._exported_definition(),
            collection_list=collection_list,
            as_text=as_text,
            clear_devices=clear_devices,
            clear_extraneous_savers=clear_extraneous_savers,
            strip_default_attrs=strip_default_attrs,
        )

    def _exported_definition(self) -> SaverDef | None:
        """The definition if it names ops, which those of a saver without variables does not."""
        return self.saver_def if self.saver_def.restore_op_name else None

    def _managed(self, graph: Graph) -> Sequence[Saveable]:
        """The variables, which are of the session's graph; none if that is allowed."""
        if not self._is_built:
            raise RuntimeError(
                "`build()` should be called before save and restore if defer_build==True"
            )
        if self._saveables is None:
            self._saveables = saveables_in(graph, self.saver_def)
        if self._saveables and self._saveables[0].ref.graph is not graph:
            raise ValueError(
                "the session runs another graph than the one that the saver's variables are of; "
                "use Session(graph=...), or make the saver within graph.as_default()"
            )
        return self._saveables

    def _entries(self, saveables: Sequence[Saveable]) -> bytes:
        """What a master needs to know of the variables; they do not change."""
        if self._entries_of is None:
            self._entries_of = pack_entries(
                [saveable.entry(reshape=self._reshape, cast=self._cast) for saveable in saveables]
            )
        return self._entries_of


register_proto_function(
    GraphKeys.SAVERS, proto_type=SaverDef, to_proto=Saver.to_proto, from_proto=Saver.from_proto
)
