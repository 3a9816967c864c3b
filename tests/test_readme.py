"""The README is short and true."""

import re
from pathlib import Path

from tests.builders import verbs

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_it_is_short():
    """At most 170 lines and 9 kB."""
    assert len(README.splitlines()) <= 170
    assert len(README.encode()) <= 9_000


def test_it_has_the_two_commands():
    """One shows the main job on a fresh machine, the other installs what the tests need and passes them."""
    assert "\npip install -c deploy/constraints.txt -e '.[demo]' && stsb-batch demo\n" in README
    assert "\npip install -c deploy/constraints.txt -e '.[test]' && pytest\n" in README


def test_every_verb_is_in_the_table():
    """Each verb of the command line has a place in the table of verbs."""
    rows = re.findall(r"^\| (`[^|]+) \| .+ \|$", README.split("## Verbs")[1].split("\n## ")[0], re.MULTILINE)
    named = {word for row in rows for word in re.findall(r"[a-z]+", row)}
    assert named == {word for verb in verbs() for word in verb}


def test_its_tree_has_the_top_level_folders():
    """Folders only; all files are in architecture.md."""
    block = README.split("## The tree")[1].split("```")[1]
    assert [line.split()[0] for line in block.strip().splitlines()] == ["stsb_batch/", "flows/", "tests/", "deploy/"]


def test_top_level_is_fixed():
    """Nothing but the agreed names stands at the top level of what is committed."""
    allowed = {"flows", "stsb_batch", "tests", "deploy", "pyproject.toml", "README.md", "LICENSE"}
    ignored = {"stsb_batch.egg-info", "stsb-demo", "build"}
    assert {path.name for path in ROOT.iterdir() if path.name[0] != "."} - ignored == allowed
