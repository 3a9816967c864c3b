"""What a file is: Parquet or not, or a table's."""

from pathlib import Path

import pytest

from stsb_batch.errors import BadDataError
from stsb_batch.pairs.listing import Listing, find_files
from tests.builders import write_pairs


def names(listing: Listing) -> list[str]:
    return [str(relative) for _, relative in listing.files]


@pytest.mark.parametrize("name", ["a.parq", "a.PARQUET", "a.pq", "a.parquet.gz", "000000_0", "a", "a.snappy", "a.csv"])
def test_parquet_is_read_whatever_its_name(tmp_path: Path, name: str):
    """Kind: files passed over for their names. What begins or ends as Parquet is read."""
    write_pairs(tmp_path, name)
    assert names(find_files(str(tmp_path))) == [name]


def test_half_a_file_without_an_ending_is_listed(tmp_path: Path):
    """Kind: files passed over for their names. One that was cut short is found, and refused later."""
    write_pairs(tmp_path, "whole")
    (tmp_path / "cut").write_bytes((tmp_path / "whole").read_bytes()[:-9])
    assert names(find_files(str(tmp_path))) == ["cut", "whole"]


MARKS = ["_delta_log/00000000000000000000.json", "metadata/00001-9c5a.metadata.json", "metadata/v2.gz.metadata.json"]


@pytest.mark.parametrize("mark", [*MARKS, ".hoodie/hoodie.properties", "_spark_metadata/0"])
@pytest.mark.parametrize(
    "location", ["lake", "lake/t", "lake/t/k=1", "lake/t/k=1/a.parquet", "lake/*/k=1/*", "link", "link.parquet"]
)
def test_files_of_a_table_are_refused(tmp_path: Path, mark: str, location: str):
    """Kind: a table's dead rows. Its folder, one above or below, a file or a pattern in it, links to it: all are refused."""
    write_pairs(tmp_path, "lake/a.parquet", "lake/t/k=1/a.parquet")
    (tmp_path / "lake/t" / mark).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "lake/t" / mark).touch()
    (tmp_path / "link").symlink_to("lake/t")
    (tmp_path / "link.parquet").symlink_to("lake/t/k=1/a.parquet")
    with pytest.raises(BadDataError, match=r"lake/t: is the folder of a table .*Export its live rows"):
        find_files(str(tmp_path / location))
