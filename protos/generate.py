#!/usr/bin/env python3
"""Writes the Python modules of the messages beside their `.proto` files.

    python protos/generate.py           write what is out of date, delete what has no .proto
    python protos/generate.py --check   write nothing; name what is out of date and exit 1

The output depends on the `.proto` files and on the version of grpcio-tools, and on nothing else, so
the version is pinned: the oldest one supported, because generated code runs on the protobuf that it
was generated for and on newer ones, never on older ones. `make protos` has that version in an
environment of its own.
"""

import argparse
import importlib.metadata
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

GRPCIO_TOOLS = "1.76.0"
ROOT = Path(__file__).resolve().parent
FOLDER = "paramserve_protos/v1"
SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")


class GenerateError(Exception):
    """The modules cannot be generated; the message says what to do."""


def require_pinned_tools() -> None:
    """Raises GenerateError unless grpcio-tools is installed in the pinned version."""
    try:
        found = importlib.metadata.version("grpcio-tools")
    except importlib.metadata.PackageNotFoundError:
        found = "none"
    if found != GRPCIO_TOOLS:
        raise GenerateError(
            f"grpcio-tools: found {found}, wanted {GRPCIO_TOOLS}; run `make protos`, or install "
            f"grpcio-tools=={GRPCIO_TOOLS} in a separate environment and use its python"
        )


def generated(folder: Path) -> dict[str, bytes]:
    """The generated modules that lie in `folder`: file name to content."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name.endswith(SUFFIXES)}


def compile_protos(protos: list[str]) -> dict[str, bytes]:
    """Compiles `protos`, paths relative to the root: file name to content.

    A `_pb2_grpc.py` exists only for a file that declares a service.
    """
    # Not importable before the version is known to be right.
    import grpc_tools
    from google.protobuf import descriptor_pb2
    from grpc_tools import protoc

    well_known = Path(grpc_tools.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as scratch:
        descriptors = Path(scratch) / "descriptors.bin"
        arguments = [
            "protoc",
            f"--proto_path={ROOT}",
            f"--proto_path={well_known}",
            f"--python_out={scratch}",
            f"--pyi_out={scratch}",
            f"--grpc_python_out={scratch}",
            f"--descriptor_set_out={descriptors}",
            *protos,
        ]
        if protoc.main(arguments) != 0:
            raise GenerateError("protoc refused the .proto files; its messages are above")
        modules = generated(Path(scratch) / FOLDER)
        files = descriptor_pb2.FileDescriptorSet.FromString(descriptors.read_bytes()).file
    for file in files:
        if not file.service:
            del modules[f"{Path(file.name).stem}_pb2_grpc.py"]
    return modules


def stale(wanted: Mapping[str, bytes], found: Mapping[str, bytes]) -> list[str]:
    """Names of the modules that are missing, differ, or have no `.proto`."""
    return sorted(n for n in wanted.keys() | found.keys() if wanted.get(n) != found.get(n))


def main() -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 when stale")
    check = parser.parse_args().check
    folder = ROOT / FOLDER
    try:
        require_pinned_tools()
        wanted = compile_protos(sorted(f"{FOLDER}/{p.name}" for p in folder.glob("*.proto")))
    except GenerateError as error:
        print(f"generate.py: {error}", file=sys.stderr)
        return 1
    names = stale(wanted, generated(folder))
    for name in names:
        if check:
            print(f"stale: protos/{FOLDER}/{name}", file=sys.stderr)
        elif name in wanted:
            (folder / name).write_bytes(wanted[name])
            print(f"wrote protos/{FOLDER}/{name}")
        else:
            (folder / name).unlink()
            print(f"deleted protos/{FOLDER}/{name}")
    if check and names:
        print("generate.py: run `make protos` and commit the result", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
