"""The reference has every public name, once, and nothing that is not there."""

import importlib
import re
from collections import Counter
from pathlib import Path

import paramserve as ps
from public_names import public_names

PAGES = sorted((Path(__file__).parents[2] / "docs" / "reference").glob("*.md"))
DIRECTIVE = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)
# A cell of a table with a name and nothing else: an alias, a type, a message.
CELL = re.compile(r"(?<=\| )`ps\.([\w.]+)`(?= \|)")
LINK = re.compile(r"\[`ps\.([\w.]+)`\]\[paramserve\.([\w.]+)\]")


WITH_INHERITED = re.compile(
    r"^::: paramserve\.([\w.]+)\n    options:\n      inherited_members: true$", re.MULTILINE
)


def directives() -> list[str]:
    return [name for page in PAGES for name in DIRECTIVE.findall(page.read_text())]


def listed() -> Counter[str]:
    public = [name.removeprefix("paramserve.") for name in directives()]
    cells = [name for page in PAGES for name in CELL.findall(page.read_text())]
    return Counter(public + cells)


def test_every_public_name_is_in_the_reference():
    missing = set(public_names()) - set(listed())
    assert not missing, f"put these on a page of docs/reference: {sorted(missing)}"


def test_no_name_is_in_the_reference_twice():
    assert [name for name, count in listed().items() if count > 1] == []


def test_the_reference_has_nothing_that_is_not_there():
    returned = {name for name in directives() if not name.startswith("paramserve.")}
    private = {name for name in listed() if name.startswith("_")}
    assert set(listed()) - returned - private <= set(public_names())
    for name in returned | {f"paramserve.{name}" for name in private}:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


def test_a_link_of_another_name_leads_to_the_same_thing():
    names = public_names()
    rows = [row for page in PAGES for row in page.read_text().splitlines() if LINK.search(row)]
    for row in rows:
        shown, target = LINK.search(row).groups()
        assert shown == target
        assert f"paramserve.{target}" in directives()
        (name,) = CELL.findall(row)
        found = names[name]
        if isinstance(found, int):  # a status code
            found = ps.errors.exception_type_from_error_code(found)
        assert found is names[target], f"{name} is not {target}"


def hidden_members(cls: type, shown: set[type]) -> set[str]:
    """Public members that a class has from bases which are not in the reference."""
    bases = [base for base in cls.__mro__[1:] if base.__module__.startswith("paramserve")]
    return {
        member
        for base in bases
        if base not in shown
        for member in vars(base)
        if not member.startswith("_") and member not in vars(cls)
    }


def test_what_a_class_has_from_a_private_base_is_shown_with_the_class():
    names = {name: value for name, value in public_names().items() if isinstance(value, type)}
    whole = {name for page in PAGES for name in WITH_INHERITED.findall(page.read_text())}
    hidden = {name: hidden_members(cls, set(names.values())) for name, cls in names.items()}
    assert {name for name, members in hidden.items() if members} == whole
