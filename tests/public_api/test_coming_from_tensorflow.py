"""The page for those who come from TensorFlow names what is there, where, and what is not."""

import re
from pathlib import Path

from public_names import public_names

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "coming-from-tensorflow.md").read_text()
NAMES = TEXT.split("\n## Names\n")[1]
MISSING = TEXT.split("\n## What is not there\n")[1].split("\n\n")[1:3][-1]
ROW = re.compile(r"^\| \[.+\]\((reference/[\w-]+\.md)\).* \| (.+) \|$", re.MULTILINE)
NAME = re.compile(r"`([\w.]+)`")


def is_reference(name: str) -> bool:
    """Whether it is the type of a reference, of which the page names one for all."""
    return name.endswith("_ref") and name.removesuffix("_ref") in public_names()


def test_the_page_has_every_public_name():
    listed = set(NAME.findall(NAMES))
    missing = {name for name in public_names() if not is_reference(name)} - listed
    assert not missing, f"add these to the names of docs/coming-from-tensorflow.md: {missing}"


def test_the_page_has_no_name_that_is_not_there():
    for _, names in ROW.findall(NAMES):
        assert set(NAME.findall(names)) <= set(public_names())


def test_a_name_leads_to_the_page_of_the_reference_that_has_it():
    for page, names in ROW.findall(NAMES):
        text = (DOCS / page).read_text()
        for name in NAME.findall(names):
            here = rf"^::: paramserve\.{re.escape(name)}$|\| `ps\.{re.escape(name)}` \|"
            assert re.search(here, text, re.MULTILINE), f"{name} is not on {page}"


def test_what_is_said_to_be_missing_is_missing():
    names = NAME.findall(MISSING)
    assert names
    assert set(names).isdisjoint(public_names())
