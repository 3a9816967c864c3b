"""Finding the files of an input."""

import os
from pathlib import Path

import pytest

from stsb_batch.errors import NothingToReadError, StorageError, UsageError
from stsb_batch.pairs.listing import Listing, find_files
from tests.builders import make_pairs, write_pairs


def names(listing: Listing) -> list[str]:
    return [str(relative) for _, relative in listing.files]


def test_folder_is_searched_in_order_without_hidden_names(tmp_path: Path):
    """A folder gives its Parquet files with relative paths; names that begin with _ or . are skipped."""
    write_pairs(tmp_path, "b/x.parquet", "a/k=1/y.parquet", "_staging/z.parquet", ".h/z.parquet", "_z.parquet")
    assert names(find_files(str(tmp_path))) == ["a/k=1/y.parquet", "b/x.parquet"]


def test_other_files_are_counted_and_named(tmp_path: Path):
    """Kind: files passed over in silence. What is no Parquet is listed as such; a pipe does not block the search."""
    write_pairs(tmp_path, "a.parquet")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    listing = find_files(str(tmp_path))
    assert (names(listing), list(map(str, listing.skipped))) == (["a.parquet"], ["empty", "notes.txt", "pipe"])


def test_partition_keys_may_begin_with_an_underscore(tmp_path: Path):
    """Kind: partitions taken for hidden folders. `_load_id=17` is a partition, `_temporary` is none."""
    write_pairs(tmp_path, "_load_id=17/a.parquet", "k=1/_x=2/a.parquet", "_temporary/a.parquet", ".x=1/a.parquet")
    assert names(find_files(str(tmp_path))) == ["_load_id=17/a.parquet", "k=1/_x=2/a.parquet"]


def test_folders_that_a_glob_matches_are_walked(tmp_path: Path):
    """`night=*` matches folders: their files are found, each once, also where the pattern matches both."""
    write_pairs(tmp_path, "n=1/a.parquet", "n=2/k=1/b.parquet")
    assert names(find_files(str(tmp_path / "n=*"))) == ["n=1/a.parquet", "n=2/k=1/b.parquet"]
    listing = find_files(str(tmp_path / "**"))
    assert (names(listing), listing.duplicates) == (["n=1/a.parquet", "n=2/k=1/b.parquet"], [])


def test_a_folder_of_text_files_says_how_to_convert_them(tmp_path: Path):
    """Kind: other formats. Where there is nothing but CSV, the message has the command that makes Parquet of it."""
    (tmp_path / "a.csv").write_text("sentence1,sentence2\nx,y\n")
    with pytest.raises(NothingToReadError, match=r"a\.csv\)\. Convert it: duckdb -c .*read_csv\('.*a\.csv'\)"):
        find_files(str(tmp_path))


def test_same_file_by_two_names_is_read_once(tmp_path: Path):
    """Links to a file that is already listed are left out."""
    make_pairs(2).write_parquet(tmp_path / "a.parquet")
    os.link(tmp_path / "a.parquet", tmp_path / "b.parquet")
    (tmp_path / "c.parquet").symlink_to(tmp_path / "a.parquet")
    listing = find_files(str(tmp_path))
    assert [str(relative) for _, relative in listing.files] == ["a.parquet"]
    assert [str(name) for name in listing.duplicates] == ["b.parquet", "c.parquet"]


def test_glob_paths_are_relative_to_its_fixed_part(tmp_path: Path):
    """A glob keeps the folders behind its first wildcard."""
    for name in ("n/1/a.parquet", "n/2/a.parquet", "m/1/a.parquet"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        make_pairs(2).write_parquet(tmp_path / name)
    assert [str(r) for _, r in find_files(str(tmp_path / "n/*/*.parquet")).files] == ["1/a.parquet", "2/a.parquet"]


@pytest.mark.parametrize("location", ["nowhere", "nowhere.parquet", "no*.parquet", "."])
def test_nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str):
    """A missing path, a pattern without match and an empty folder are 'nothing to read'."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NothingToReadError):
        find_files(location)


def test_remote_schemes_are_refused():
    """A URI is refused in words, not taken for a file name."""
    with pytest.raises(UsageError, match="only local files"):
        find_files("s3://bucket/key.parquet")


def test_folder_that_cannot_be_listed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Rows below a folder that cannot be listed are not left out without a word."""
    make_pairs(2).write_parquet(tmp_path / "a.parquet")
    make_pairs(2).write_parquet(tmp_path / "deep/b.parquet", mkdir=True)
    listed = Path.iterdir

    def iterdir(folder: Path):
        if folder.name == "deep":
            raise OSError(5, "Input/output error")
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(StorageError, match="deep: Input/output error while listing the input"):
        find_files(str(tmp_path))
