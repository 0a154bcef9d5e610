"""Every public name is there, takes the arguments that programs give it, and is documented."""

import importlib
import inspect
import math
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import paramserve as ps
from public_names import MODULES, public_names

NAMES_IN_SIGNATURES = {
    "bool": ps.bool,
    "float32": ps.float32,
    "int32": ps.int32,
    "int64": ps.int64,
    "inf": math.inf,
}

NOT_YET = frozenset(
    [
        "train.Supervisor",
        "train.SessionManager",
        "train.SyncReplicasOptimizer",
        "train.MonitoredTrainingSession",
    ]
)


def rows() -> list[str]:
    lines = (Path(__file__).parent / "signatures.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def is_not_yet(name: str) -> bool:
    return any(name == missing or name.startswith(f"{missing}.") for missing in NOT_YET)


def find(name: str):
    """What the name stands for; a method or property is taken from its class, unbound."""
    found = ps
    for part in name.split("."):
        is_class = inspect.isclass(found)
        found = inspect.getattr_static(found, part) if is_class else getattr(found, part)
    return found.__func__ if isinstance(found, (staticmethod, classmethod)) else found


def parameters(function) -> list[inspect.Parameter]:
    found = inspect.signature(function).parameters.values()
    return [p for p in found if p.name not in ("self", "cls")]


def wanted_parameters(text: str) -> list[inspect.Parameter]:
    scope = dict(NAMES_IN_SIGNATURES)
    exec(f"def function({text}: pass", scope)
    return parameters(scope["function"])


@pytest.mark.parametrize("row", rows())
def test_a_name_takes_the_arguments_that_programs_give_it(row):
    name, bracket, arguments = row.partition("(")
    try:
        found = find(name)
    except AttributeError:
        if is_not_yet(name):
            pytest.skip("not built yet")
        raise
    if not bracket:
        return
    ours, wanted = parameters(found), wanted_parameters(arguments)
    for mine, other in zip(ours, wanted, strict=False):
        assert (mine.name, mine.kind, mine.default) == (other.name, other.kind, other.default)
    assert len(ours) >= len(wanted)
    for extra in ours[len(wanted) :]:
        is_star = extra.kind in (extra.VAR_POSITIONAL, extra.VAR_KEYWORD)
        assert is_star or extra.default is not extra.empty


def functions_and_classes():
    for name, value in public_names().items():
        # The fields of a message are described in its .proto file.
        if callable(value) and not hasattr(value, "DESCRIPTOR"):
            yield name, value


def test_every_function_and_class_is_in_the_table():
    known = {row.partition("(")[0] for row in rows()}
    missing = {name for name, _ in functions_and_classes()} - known
    assert not missing, f"add these to signatures.txt: {sorted(missing)}"


@pytest.mark.parametrize(
    ("name", "value"), [pytest.param(*pair, id=pair[0]) for pair in functions_and_classes()]
)
def test_everything_public_is_documented(name, value):
    assert inspect.getdoc(value), name
    if not inspect.isclass(value):
        return
    for member in vars(value):
        if not member.startswith("_"):
            found = inspect.getattr_static(value, member)
            if isinstance(found, (property, staticmethod, classmethod)) or callable(found):
                assert inspect.getdoc(getattr(value, member)), f"{name}.{member}"


def test_a_namespace_has_public_things_only():
    for prefix, module in MODULES.items():
        for name, value in vars(module).items():
            if name.startswith("_") or isinstance(value, ModuleType):
                continue
            home = getattr(value, "__module__", None) or "paramserve"
            assert home.split(".")[0].startswith("paramserve"), f"{prefix}.{name} is of {home}"


def test_every_function_of_a_family_is_public():
    public = {name for module in MODULES.values() for name in vars(module)}
    # What a saver puts into graphs, and what other op functions are made of.
    private = {"io", "control.with_dependencies"}
    for package in ("_ops", "_variables", "_optimizers"):
        home = importlib.import_module(f"paramserve.{package}")
        for module in pkgutil.iter_modules(home.__path__):
            family = importlib.import_module(f"{home.__name__}.{module.name}")
            for name in getattr(family, "__all__", ()):
                if private.isdisjoint({module.name, f"{module.name}.{name}"}):
                    assert name in public, f"{family.__name__}.{name}"


def test_types_messages_and_constants_are_there():
    types = "float16 bfloat16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64"
    for name in f"{types} bool complex64 complex128 string".split():
        dtype = getattr(ps, name)
        assert isinstance(dtype, ps.DType)
        assert dtype.name == name
        assert getattr(ps, f"{name}_ref").is_ref_dtype
    messages = "GraphDef NodeDef AttrValue TensorProto TensorShapeProto MetaGraphDef VariableDef"
    for name in f"{messages} ConfigProto RunOptions RunMetadata Event Summary SessionLog".split():
        assert getattr(ps, name).DESCRIPTOR.name == name
    for name in ["SaverDef", "ClusterDef", "JobDef", "ServerDef", "CheckpointState"]:
        assert getattr(ps.train, name).DESCRIPTOR.name == name
    assert ps.newaxis is None
    assert ps.__version__


def test_every_status_code_has_its_error():
    for code in range(1, 17):
        kind = ps.errors.exception_type_from_error_code(code)
        assert getattr(ps.errors, kind.__name__) is kind
        assert issubclass(kind, ps.OpError)
        assert ps.errors.error_code_from_exception_type(kind) == code
    assert ps.errors.OpError is ps.OpError


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'paramserve' has no attribute 'nothing'"):
        ps.nothing  # noqa: B018 # looking it up is the test


@pytest.mark.slow
def test_a_program_in_one_process_does_not_load_grpc_or_an_oracle():
    program = """
import sys
import paramserve as ps
v = ps.Variable(1.0)
with ps.Session() as sess:
    sess.run(v.initializer)
heavy = {"grpc", "tensorflow", "torch", "ray", "asyncio", "importlib.metadata"} & set(sys.modules)
print(sorted(heavy))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
