"""Where the files of an output lie."""

from pathlib import Path

import pytest

from stsb_batch.pairs.layout import Target, earlier, is_report, report_of

FOLDER, SINGLE = Target(Path("/out")), Target(Path("/out"), Path("/out/a.parquet"))


@pytest.mark.parametrize("target", [FOLDER, SINGLE], ids=["folder", "file"])
def test_no_reader_takes_what_holds_no_scores(target: Target):
    """Manifest, report, quarantine and staging begin with an underscore, and no file of them ends in .parquet."""
    shard = Path("k=1/a-00001-of-00002.parquet")
    for path in (target.manifest, target.report, target.side_path(shard), target.staging):
        assert path.relative_to(target.root).parts[0].startswith("_")
    assert ".parquet" not in {path.suffix for path in (target.manifest, target.report, target.side_path(shard))}


def test_quarantine_mirrors_the_output():
    """A shard's quarantined rows lie under its own path; a single file has one file for them."""
    assert FOLDER.path(Path("k=1/a.parquet")) == Path("/out/k=1/a.parquet")
    assert FOLDER.side_path(Path("k=1/a.parquet")) == Path("/out/_quarantine/k=1/a.pq")
    assert SINGLE.path(Path("x.parquet")) == SINGLE.single
    assert SINGLE.side_path(Path("x.parquet")) == Path("/out/_a.quarantine.pq")


@pytest.mark.parametrize("single", [None, "a.parquet"], ids=["folder", "file"])
def test_report_is_found_by_either_name(single: str | None, tmp_path: Path):
    """The present name counts where both are there, the earlier one where it stands alone."""
    target = Target(tmp_path, tmp_path / single if single else None)
    assert report_of(target) == target.report
    earlier(target).report.touch()
    assert report_of(target) == earlier(target).report
    target.report.touch()
    assert report_of(target) == target.report
    assert is_report(target.report)
    assert is_report(earlier(target).report)
    assert not is_report(target.path(Path("a.parquet")))
