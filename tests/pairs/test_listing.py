"""Finding the files of an input."""

import os
from pathlib import Path

import pytest

from stsb_batch.errors import NothingToReadError, StorageError, UsageError
from stsb_batch.pairs.listing import find_files
from tests.conftest import make_pairs


def test_folder_is_searched_in_order_without_hidden_names(tmp_path: Path):
    """A folder gives its Parquet files with relative paths; names with _ or . and other suffixes are skipped."""
    for name in ("b/x.parquet", "a/k=1/y.parquet", "_staging/z.parquet", ".h/z.parquet", "_z.parquet", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        make_pairs(2).write_parquet(path)
    assert [str(relative) for _, relative in find_files(str(tmp_path)).files] == ["a/k=1/y.parquet", "b/x.parquet"]


def test_same_file_by_two_names_is_read_once(tmp_path: Path):
    """Links to a file that is already listed are left out."""
    make_pairs(2).write_parquet(tmp_path / "a.parquet")
    os.link(tmp_path / "a.parquet", tmp_path / "b.parquet")
    (tmp_path / "c.parquet").symlink_to(tmp_path / "a.parquet")
    listing = find_files(str(tmp_path))
    assert [str(relative) for _, relative in listing.files] == ["a.parquet"]
    assert [str(name) for name in listing.doubles] == ["b.parquet", "c.parquet"]


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
