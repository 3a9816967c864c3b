"""The child process that opens files first: it dies of one file, and goes on with the next."""

import os
from pathlib import Path

import pytest

from stsb_batch.errors import BadFileError
from stsb_batch.pairs.sandbox import Sandbox
from tests.builders import make_pairs
from tests.pairs.odd_parquet import TEXTS, write

COLUMNS = ["sentence1", "sentence2"]


def test_good_files_pass_both_probes(tmp_path: Path):
    """The footer passes; the pages are decoded, and the bytes per row are those of the texts."""
    make_pairs(50).write_parquet(tmp_path / "a.parquet")
    with Sandbox() as sandbox:
        sandbox.probe_footer(tmp_path / "a.parquet", "a.parquet")
        assert 10 < sandbox.probe_pages(tmp_path / "a.parquet", "a.parquet", COLUMNS, COLUMNS) < 1_000


def test_refusal_names_file_reason_and_remedy(tmp_path: Path):
    """The child's answer becomes one line: the name that was given, the reason, what to do; the child lives on."""
    (tmp_path / "b.parquet").write_bytes(b"PAR1PAR1")
    write(tmp_path / "a.parquet", TEXTS)
    with Sandbox() as sandbox:
        with pytest.raises(BadFileError, match=r"^k=1/b\.parquet: CORRUPT_FILE, .*\. Replace or remove the file\.$"):
            sandbox.probe_footer(tmp_path / "b.parquet", "k=1/b.parquet")
        sandbox.probe_footer(tmp_path / "a.parquet", "a.parquet")


def test_child_that_was_killed_costs_one_file(tmp_path: Path):
    """When the kernel kills the child the file at hand is over the limit, and the next one has a new child."""
    write(tmp_path / "a.parquet", TEXTS)
    os.mkfifo(tmp_path / "pipe")
    with Sandbox() as sandbox:
        sandbox.probe_footer(tmp_path / "a.parquet", "a.parquet")
        sandbox._child.process.kill()
        sandbox._child.process.wait()
        with pytest.raises(BadFileError) as killed:
            sandbox.probe_footer(tmp_path / "a.parquet", "a.parquet")
        assert killed.value.reason == "RESOURCE_LIMIT"
        sandbox.probe_footer(tmp_path / "a.parquet", "a.parquet")
        with pytest.raises(BadFileError, match="NOT_PARQUET, not a regular file"):
            sandbox.probe_footer(tmp_path / "pipe", "pipe")
