"""The documents are true: links resolve, the tree is the tree, codes, statuses and reasons are those of the code."""

import re
from pathlib import Path

import pytest

from stsb_batch.errors import EXIT_CODES, FILE_REASONS
from stsb_batch.pairs.schema import STATUSES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "deploy/docs"
PAGES = sorted([ROOT / "README.md", *(ROOT / "deploy").rglob("*.md"), *(ROOT / ".github").rglob("*.md")])
CONTRACT = (DOCS / "data-contract.md").read_text()


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    """Each relative link names a file, and each anchor a heading."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_path_of_a_machine(page: Path):
    """Documents speak of the project alone."""
    assert not re.search(r"/(tmp|work|root|home)/\w", page.read_text())


def test_the_tree_is_the_tree():
    """Each source file has a line with a remark in architecture.md, and nothing else has."""
    block = (DOCS / "architecture.md").read_text().split("## The tree")[1].split("```")[1]
    named, folders = set(), {}
    for line in block.strip("\n").splitlines():
        entry, remark = re.fullmatch(r"( *\S+) +(\S.*)", line).groups()
        depth = (len(entry) - len(entry.lstrip())) // 2
        folders[depth] = entry.strip()
        path = "".join(folders[level] for level in range(depth + 1))
        assert remark
        if not entry.endswith("/"):
            named.add(path)
    sources = {str(path.relative_to(ROOT)) for room in ("stsb_batch", "flows") for path in (ROOT / room).rglob("*.py")}
    sources = {name for name in sources if not name.endswith("__init__.py")}
    named = {name for name in named if name.endswith(".py")}
    assert (sorted(sources - named), sorted(named - sources)) == ([], []), "missing lines, stale lines"


def test_every_exit_code_has_its_meaning():
    """The table of exit codes has those of the code, no more and no less."""
    table = CONTRACT.split("## Exit codes")[1]
    assert {int(code) for code in re.findall(r"^\| (\d+) \| \S", table, re.MULTILINE)} == EXIT_CODES.keys()


def test_every_status_and_reason_has_its_meaning():
    """Each has a row with what it means."""
    rows = set(re.findall(r"^\| `(\w+)` \| \S", CONTRACT, re.MULTILINE))
    assert set(STATUSES) | set(FILE_REASONS) <= rows


def test_the_licence_is_whole():
    """The text of Apache-2.0, with its appendix."""
    text = (ROOT / "LICENSE").read_text()
    assert text.lstrip().startswith("Apache License")
    assert all(f"\n   {number}. " in text for number in range(1, 10))
    assert "APPENDIX: How to apply the Apache License" in text
