"""`paramserve checkpoint`: looks at, checks, compares and converts checkpoints on this machine.

Results go to stdout, messages and progress to stderr. `--json` prints one JSON document instead of
a table. The exit code is 0 when all is well, 1 when something is damaged, missing or different.

Thread rule: runs on the main thread.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from paramserve_core.checkpoint.reader import CheckpointReader

checkpoint_app = typer.Typer(
    name="checkpoint",
    help="Look at, check, compare and convert checkpoints on this machine.",
    no_args_is_help=True,
)

PathArgument = Annotated[
    str, typer.Argument(help="A checkpoint, or a directory, whose newest one is meant.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


class Format(StrEnum):
    """What `convert` can write."""

    paramserve = "paramserve"
    tensorflow = "tensorflow"


@checkpoint_app.command("ls")
def list_(
    directory: Annotated[str, typer.Argument(help="A directory with checkpoints.")] = ".",
    as_json: JsonOption = False,
) -> None:
    """List the checkpoints in a directory."""
    from paramserve_core.checkpoint.listing import list_checkpoints

    with _errors():
        listed = list_checkpoints(directory)
    if as_json:
        _print_json(
            [
                {
                    "path": item.path,
                    "format": None if item.layout is None else item.layout.name.lower(),
                    "step": item.step,
                    "tensors": item.tensors,
                    "bytes": item.nbytes,
                    "newest": item.is_newest,
                    "kept": item.is_kept,
                    "problem": item.problem or None,
                }
                for item in listed
            ]
        )
    else:
        rows = [
            (
                item.path,
                "?" if item.layout is None else item.layout.name.lower().replace("_", " "),
                "" if item.step is None else str(item.step),
                str(item.tensors),
                size_text(item.nbytes),
                item.problem or ("newest" if item.is_newest else "kept" if item.is_kept else ""),
            )
            for item in listed
        ]
        _print_table(("path", "format", "step", "tensors", "size", ""), rows)
        if not rows:
            _say(f"{directory}: no checkpoint in this directory; those below it are not looked at")
    if any(item.problem for item in listed):
        raise typer.Exit(1)


@checkpoint_app.command()
def inspect(path: PathArgument, as_json: JsonOption = False) -> None:
    """List the tensors in a checkpoint."""
    reader = _open(path)
    index = reader.index
    tensors = index.tensors.items()
    if as_json:
        _print_json(
            {
                "path": reader.path,
                "format": index.layout.name.lower(),
                "step": index.step,
                "generation": index.generation or None,
                "writer": index.writer or None,
                "graph_hash": index.graph_hash or None,
                "bytes": index.total_bytes,
                "files": {
                    name: {"bytes": file.nbytes, "here": name not in reader.missing_files}
                    for name, file in index.files.items()
                },
                "tensors": {
                    name: {
                        "dtype": tensor.dtype.name,
                        "shape": list(tensor.shape),
                        "bytes": tensor.nbytes,
                        "parts": len(tensor.parts),
                    }
                    for name, tensor in tensors
                },
            }
        )
    else:
        _print_table(
            ("name", "type", "shape", "size", "parts"),
            [
                (
                    name,
                    tensor.dtype.name,
                    str(list(tensor.shape)),
                    size_text(tensor.nbytes),
                    str(len(tensor.parts)),
                )
                for name, tensor in tensors
            ],
        )
        files = "1 file" if len(index.files) == 1 else f"{len(index.files)} files"
        _say(f"{len(tensors)} tensors, {size_text(index.total_bytes)}, in {files}")
    for name in reader.missing_files:
        _say(f"{name} is not on this machine")
    if reader.missing_files:
        raise typer.Exit(1)


@checkpoint_app.command()
def verify(path: PathArgument, as_json: JsonOption = False) -> None:
    """Read all of a checkpoint and check it."""
    reader = _open(path)
    count = len(reader.index.tensors) + len(reader.index.files)
    damaged = {}
    with _progress("checking") as progressed:
        for number, (name, error) in enumerate(reader.verify(), 1):
            progressed(number / count)
            if error is not None:
                damaged[name] = error.message
    if as_json:
        _print_json({"path": reader.path, "checked": count, "damaged": damaged})
    elif damaged:
        _print_table(("cannot be read", ""), list(damaged.items()))
    else:
        print(f"{reader.path}: {count} tensors and files, all as they were written")
    if damaged:
        raise typer.Exit(1)


@checkpoint_app.command()
def diff(
    first: PathArgument,
    second: PathArgument,
    as_json: JsonOption = False,
) -> None:
    """Show in what two checkpoints differ."""
    from paramserve_core.checkpoint.comparison import differences

    with _errors(), _progress("comparing") as progressed:
        found = list(differences(_open(first), _open(second), progressed))
    if as_json:
        _print_json([{"name": d.name, "what": d.what, "largest": d.largest} for d in found])
    elif found:
        _print_table(
            ("name", "differs in", "at most"),
            [(d.name, d.what, "" if d.largest is None else f"{d.largest:.6g}") for d in found],
        )
    else:
        _say("no difference")
    if found:
        raise typer.Exit(1)


@checkpoint_app.command()
def convert(
    source: PathArgument,
    destination: Annotated[str, typer.Argument(help="The path of the new checkpoint.")],
    to: Annotated[
        Format,
        typer.Option(help="Safetensors with an index, or TensorFlow's V2 files."),
    ] = Format.paramserve,
    overwrite: Annotated[bool, typer.Option(help="Replace what is there.")] = False,
) -> None:
    """Write a checkpoint again, in another format."""
    from paramserve_core.checkpoint.conversion import convert as convert_checkpoint
    from paramserve_core.checkpoint.index import Layout

    layout = Layout.TENSORFLOW_V2 if to is Format.tensorflow else Layout.SAFETENSORS
    reader = _open(source)
    with _errors(), _progress("converting") as progressed:
        written = convert_checkpoint(
            reader.path, destination, layout, overwrite=overwrite, progressed=progressed
        )
    print(destination)
    _say(f"{len(reader.index.tensors)} tensors, {size_text(written)}")


def size_text(nbytes: int) -> str:
    """A size as people write it."""
    size = float(nbytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("the last unit has no limit")


def _open(path: str) -> CheckpointReader:
    from paramserve_core.checkpoint.reader import open_checkpoint

    with _errors():
        return open_checkpoint(path)


@contextmanager
def _errors() -> Iterator[None]:
    """Says what failed in one line, instead of where."""
    from paramserve_core.errors import OpError

    try:
        yield
    except OpError as error:
        _say(error.message)
        raise typer.Exit(1) from None


@contextmanager
def _progress(what: str) -> Iterator[Callable[[float], None]]:
    """A bar where stderr is a terminal; gives what moves it, from 0 to 1."""
    if not sys.stderr.isatty():
        yield lambda fraction: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda fraction: bar.update(task, completed=fraction)


def _print_json(document: Any) -> None:
    print(json.dumps(document, indent=2))


def _print_table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Columns as wide as they need to be, so that no name is cut where it is piped on."""
    shown = [columns, *(tuple(map(_shown, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        print("  ".join(f"{cell:{w}}" for cell, w in zip(row, widths, strict=True)).rstrip())


def _shown(cell: str) -> str:
    """A cell as a terminal may have it: a name from a file must not move its cursor."""
    return cell if cell.isprintable() else repr(cell)[1:-1]


def _say(text: str) -> None:
    print(text, file=sys.stderr)
