"""The committed reference pages are what the code writes."""

import pytest

from stsb_batch.cli.reference import FOLDER, pages


@pytest.mark.parametrize("name", pages())
def test_pages_are_those_of_the_code(name: str):
    """After a change of an option or a setting: `python -m stsb_batch.cli.reference`."""
    assert (FOLDER / name).read_text() == pages()[name]
