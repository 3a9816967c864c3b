"""The README is true: its tree is the tree, its verbs, settings and exit codes are those of the code."""

import re
from pathlib import Path

from stsb_batch import errors
from stsb_batch.settings import Settings
from tests.builders import verbs

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_tree_is_the_tree():
    """Each source file stands in the README's tree with a remark, and nothing else does."""
    block = README.split("## The tree")[1].split("```")[1]
    named, folders = set(), {}
    for line in block.strip("\n").splitlines():
        entry, remark = re.fullmatch(r"( *\S+) +(\S.*)", line).groups()
        depth = (len(entry) - len(entry.lstrip())) // 2
        folders[depth] = entry.strip()
        path = "".join(folders[level] for level in range(depth + 1))
        assert remark
        assert (ROOT / path).exists(), path
        if not entry.endswith("/"):
            named.add(path)
    sources = {str(path.relative_to(ROOT)) for room in ("stsb_batch", "flows") for path in (ROOT / room).rglob("*.py")}
    assert {name for name in sources if not name.endswith("__init__.py")} - named == set()


def test_top_level_is_fixed():
    """Nothing but the agreed names stands at the top level of what is committed."""
    allowed = {"flows", "stsb_batch", "tests", "deploy", "pyproject.toml", "README.md"}
    ignored = {"stsb_batch.egg-info", "stsb-demo", "build"}
    assert {path.name for path in ROOT.iterdir() if path.name[0] != "."} - ignored == allowed


def test_every_verb_is_in_the_table():
    """Each verb of the command line has a row with its function and output."""
    rows = set(re.findall(r"^\| `((?:models )?[a-z]+)[^`]*` \| `[\w.]+` \| .+ \|$", README, re.MULTILINE))
    assert rows == {" ".join(verb) for verb in verbs()}


def test_every_setting_is_listed_with_its_default():
    """Each setting stands in the README by variable name and default."""
    listed = dict(re.findall(r"^\| `(STSB_BATCH_\w+)` \| `([^`]*)` \|", README, re.MULTILINE))
    fields = Settings.model_fields.items()
    assert listed == {f"STSB_BATCH_{name.upper()}": "unset" if f.default is None else str(f.default) for name, f in fields}


def test_every_exit_code_is_listed():
    """Each error's exit code stands in the README's table."""
    codes = {
        kind.exit_code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.StsbBatchError)
    }
    listed = {int(code) for cell in re.findall(r"^\| ([\d, ]+) \|", README, re.MULTILINE) for code in cell.split(",")}
    assert listed == codes | {0, 10, 11, 130, 141, 143}
