"""Committing output: names, the manifest that closes it, and what is in the way."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stsb_batch.durable import file_sha256
from stsb_batch.errors import CannotCreateError, StorageError, UsageError
from stsb_batch.pairs.layout import Target
from stsb_batch.pairs.schema import METADATA_PREFIX
from stsb_batch.pairs.sink import (
    begin_commits,
    choose_target,
    commit,
    finish_commits,
    finished_manifest,
    footer_entries,
    open_target,
    output_name,
    pending_shards,
    staged_file,
    stale_files,
    write_staged,
)
from stsb_batch.pairs.source import Shard, inspect_file
from tests.pairs.odd_parquet import TEXTS, write


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    source = inspect_file(write(tmp_path / "in.parquet", TEXTS), Path("k=1/in.parquet"))
    return Shard(source, (0,), Path("k=1/in.parquet"), "fingerprint of the plan")


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target(tmp_path / "out")


def scored(path: Path, fingerprint: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(TEXTS).replace_schema_metadata({f"{METADATA_PREFIX}fingerprint": fingerprint}), path)
    return path


def test_target_follows_the_input(tmp_path: Path):
    """A file has a file beside it, a folder a folder; a pattern needs a name."""
    write(tmp_path / "in.parquet", TEXTS)
    assert choose_target(str(tmp_path / "in.parquet"), None).single == tmp_path / "in.scored.parquet"
    assert choose_target(str(tmp_path), None).root == tmp_path.with_name(f"{tmp_path.name}.scored")
    assert choose_target(str(tmp_path / "in.parquet"), str(tmp_path / "out")) == Target(tmp_path / "out")
    with pytest.raises(UsageError, match="-o"):
        choose_target(str(tmp_path / "*.parquet"), None)


def test_shards_are_numbered_where_a_file_has_several(shard: Shard):
    """A file of one shard keeps its name; of several each says which it is."""
    assert output_name(shard.source, 0, 1) == Path("k=1/in.parquet")
    assert output_name(shard.source, 1, 3) == Path("k=1/in-00002-of-00003.parquet")


def test_staged_files_are_seen_when_they_are_whole(target: Target):
    """Nothing is under the final name before the commit; what was staged and not committed is removed."""
    final = target.path(Path("a.parquet"))
    with open_target(target):
        with staged_file(target, Path("a.parquet")) as staged:
            scored(staged, "x")
            assert not final.exists()
            assert commit(staged, final).footer == {"fingerprint": "x"}
        with staged_file(target, Path("b.parquet")) as staged:
            scored(staged, "x")
    assert sorted(path.name for path in target.root.iterdir()) == ["a.parquet"]


def test_error_while_staging_names_the_output(target: Target):
    """An operating system's error while a shard is written becomes ours, with the output's path."""
    with open_target(target), pytest.raises(StorageError, match=r"a\.parquet"), staged_file(target, Path("a.parquet")):
        raise OSError(5, "Input/output error")


def test_committed_shards_are_not_pending(target: Target, shard: Shard):
    """By its fingerprint a shard is done; that of another plan is in the way unless it may be replaced."""
    assert pending_shards(target, [shard], overwrite=False) == [shard]
    final = scored(target.path(shard.output), shard.fingerprint)
    assert pending_shards(target, [shard], overwrite=False) == []
    scored(final, "another plan")
    with pytest.raises(CannotCreateError, match="was written for another input, model or options"):
        pending_shards(target, [shard], overwrite=False)
    assert pending_shards(target, [shard], overwrite=True) == [shard]


def test_files_of_others_are_never_in_the_plan(target: Target, shard: Shard):
    """A stranger's file in the output folder is refused even with overwrite; hidden files are left alone."""
    ours = scored(target.root / "old.parquet", "another plan")
    scored(target.root / "_hidden/x.parquet", "x")
    assert stale_files(target, [shard]) == [ours]
    write(target.root / "theirs.parquet", TEXTS)
    assert footer_entries(target.root / "theirs.parquet") == {}
    with pytest.raises(CannotCreateError, match=r"theirs\.parquet: is in the output folder and was not written"):
        pending_shards(target, [shard], overwrite=True)


def test_manifest_and_success_close_an_output(target: Target):
    """Finished is what has a manifest, its _SUCCESS and the report it names; a new run withdraws _SUCCESS first."""
    with open_target(target):
        write_staged(target, target.report, b"report")
        stale = scored(target.root / "old.parquet", "x")
        finish_commits(target, {"report_sha256": file_sha256(target.report), "bad_files": []}, [stale])
    assert not stale.exists()
    assert finished_manifest(target)["bad_files"] == []
    target.report.write_bytes(b"another")
    assert finished_manifest(target) is None
    target.report.write_bytes(b"report")
    begin_commits(target)
    assert finished_manifest(target) is None
