"""The bad-input catalogue: what each bad file costs, in default modes."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stsb_batch.errors import BadDataError, BadFileError, NothingToReadError, StsbBatchError, UsageError
from stsb_batch.pairs.sandbox import Sandbox
from stsb_batch.report.table import figure
from stsb_batch.requests import ScoreRequest
from stsb_batch.scoring.job import score_dataset
from stsb_batch.scoring.monitor import RunMonitor
from stsb_batch.settings import load_settings
from tests.builders import make_pairs
from tests.reliability.bad_files import BAD_FILES, big_cell, good, many_rows, take
from tests.reliability.runs import score

pytestmark = pytest.mark.usefixtures("quick_engine")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_is_refused_with_its_reason(name: str, tmp_path: Path, sandbox: Sandbox):
    """Each is refused where files are judged, with its reason, exit code 65 and one line that names the file."""
    reason, build = BAD_FILES[name]
    build(tmp_path / "b.parquet")
    with pytest.raises(BadFileError) as refused:
        take(tmp_path / "b.parquet", sandbox)
    assert (refused.value.reason, refused.value.exit_code) == (reason, 65)
    assert "b.parquet" in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_bad_files_cost_themselves_only(tmp_path: Path, bert: Path):
    """In a folder of all bad files the good ones are scored, and the rest is left out and counted by reason."""
    (tmp_path / "in").mkdir()
    for part in ("a", "z"):
        good(tmp_path / f"in/{part}.parquet")
    for name, (_, build) in BAD_FILES.items():
        build(tmp_path / f"in/{name}.parquet")
    outcome = score(tmp_path / "in", bert, max_bad_files=1.0)
    found = {bad.relative.stem: bad.error.reason for bad in outcome.bad_files}
    assert found == {name: reason for name, (reason, _) in BAD_FILES.items()}
    assert (outcome.rows, outcome.exit_code()) == (200, 11)
    assert sorted(path.name for path in outcome.target.root.rglob("*.parquet")) == ["a.parquet", "z.parquet"]
    for reason, count in Counter(found.values()).items():
        assert figure(outcome.report, "files_left_out", reason) == count


@pytest.mark.parametrize("name", dict((reason, name) for name, (reason, _) in BAD_FILES.items()).values())
def test_bad_file_alone_is_refused(name: str, tmp_path: Path, bert: Path):
    """A single file, one for each reason, ends the run with its error and leaves no output."""
    reason, build = BAD_FILES[name]
    build(tmp_path / "b.parquet")
    with pytest.raises(BadFileError) as alone:
        score(tmp_path / "b.parquet", bert)
    assert alone.value.reason == reason
    assert not list(tmp_path.glob("b.scored*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "build", [lambda path: many_rows(path, 200_000_000), lambda path: big_cell(path, 512 << 20)], ids=["rows", "cell"]
)
def test_great_bombs_are_refused(build, tmp_path: Path, bert: Path):
    """200 million null rows and a cell of 512 MB are RESOURCE_LIMIT."""
    build(tmp_path / "b.parquet")
    with pytest.raises(BadFileError) as refused:
        score(tmp_path / "b.parquet", bert)
    assert refused.value.reason == "RESOURCE_LIMIT"


@pytest.mark.parametrize("name", ["new\nline", "bell\a", os.fsdecode(b"not-utf8-\xff")])
def test_odd_names_are_rejected_and_escaped(name: str, tmp_path: Path, bert: Path):
    """Control and undecodable characters in a name never reach a message as they are."""
    good(tmp_path / "in.parquet")
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "in.parquet").rename(folder / f"{name}.parquet")
    good(folder / "a.parquet")
    [bad] = score(folder, bert).bad_files
    assert bad.error.reason == "UNSUPPORTED"
    assert "\\" in str(bad.error)
    assert str(bad.error).isprintable()


def test_files_keep_their_own_schema(tmp_path: Path, bert: Path):
    """Pass-through columns that only some files have, or have in another type, stay as they are in each file."""
    for name, extra in (("a", {"x": [1]}), ("b", {"x": ["one"], "y": [2.0]}), ("c", {})):
        path = tmp_path / f"in/{name}.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table({"sentence1": ["a"], "sentence2": ["b"], **extra}), path)
    root = score(tmp_path / "in", bert).target.root
    names = {path.stem: pq.read_schema(path).names[2:-2] for path in root.glob("[abc].parquet")}
    assert names == {"a": ["x"], "b": ["x", "y"], "c": []}
    assert pq.read_schema(root / "b.parquet").field("x").type == pa.string()


def test_hive_keys_stay_text(tmp_path: Path, bert: Path):
    """Partition folders are mirrored to the letter, whatever their keys look like."""
    keys = ["k=01", "k=__HIVE_DEFAULT_PARTITION__", "k=%2F..", "k=a b"]
    for key in keys:
        make_pairs(3).write_parquet(tmp_path / "in" / key / "p.parquet", mkdir=True)
    outcome = score(tmp_path / "in", bert)
    assert sorted(path.parent.name for path in outcome.target.root.rglob("p.parquet")) == sorted(keys)
    assert outcome.rows == 12


def test_same_file_under_two_names_is_scored_once(tmp_path: Path, bert: Path):
    """Links and overlapping names do not double rows, and the report counts them."""
    (tmp_path / "in").mkdir()
    good(tmp_path / "in/a.parquet")
    os.link(tmp_path / "in/a.parquet", tmp_path / "in/b.parquet")
    (tmp_path / "in/c.parquet").symlink_to("a.parquet")
    outcome = score(tmp_path / "in", bert)
    assert outcome.rows == 100
    assert figure(outcome.report, "files_found_twice") == 2


@pytest.mark.parametrize(
    "name", [".hidden.parquet", "_committed/x.parquet", "_temporary/x.parquet", "_stsb_staging/x.parquet"]
)
def test_hidden_names_are_skipped(name: str, tmp_path: Path, bert: Path):
    """Hidden files and folders of other tools are no input."""
    good(tmp_path / "a.parquet")
    (tmp_path / "in" / name).parent.mkdir(parents=True)
    (tmp_path / "a.parquet").rename(tmp_path / "in/a.parquet")
    (tmp_path / "in" / name).write_bytes(b"anything")
    assert score(tmp_path / "in", bert).rows == 100


def test_output_never_leaves_its_root(tmp_path: Path, bert: Path):
    """Neither a glob that climbs nor a link in the output folder leads a file out of it."""
    (tmp_path / "in/k=1").mkdir(parents=True)
    good(tmp_path / "in/k=1/a.parquet")
    with pytest.raises(NothingToReadError):
        score(tmp_path / "in/*/../../in/k=1/*.parquet", bert, tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/k=1").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="through a link its output would be outside"):
        score(tmp_path / "in", bert, tmp_path / "out")
    assert not (tmp_path / "a.parquet").exists()


@pytest.mark.parametrize(("share", "fails"), [(0.5, False), (0.01, True)])
def test_budget_of_bad_files(share: float, fails: bool, tmp_path: Path, bert: Path):
    """Above the budget the run fails before a row is scored, and names the files; a single bad file is always allowed."""
    for number in range(6):
        path = tmp_path / f"in/{number}.parquet"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"nothing") if number < 2 else good(path)
    if fails:
        with pytest.raises(BadDataError, match=r"(?s)0\.parquet: NOT_PARQUET.*1\.parquet.*2 of 6 files are bad"):
            score(tmp_path / "in", bert, max_bad_files=share)
        assert not (tmp_path / "in.scored").exists()
    else:
        assert len(score(tmp_path / "in", bert, max_bad_files=share).bad_files) == 2


def test_file_that_changes_during_the_run_is_withdrawn(tmp_path: Path, bert: Path, monkeypatch: pytest.MonkeyPatch):
    """INPUT_CHANGED: no shard of the file stays, even those committed before the change; the other files do."""
    monkeypatch.setenv("STSB_BATCH_SHARD_ROWS", "50")
    (tmp_path / "in").mkdir()
    for name in "ab":
        good(tmp_path / f"in/{name}.parquet", row_group_size=50)

    def change(monitor: RunMonitor) -> None:
        if monitor.rows > 60:
            content = (tmp_path / "in/a.parquet").read_bytes()
            (tmp_path / "in/a.parquet").write_bytes(content[:-1] + b"?")

    request = ScoreRequest(str(tmp_path / "in"), model=str(bert), max_bad_rows=1.0, settings=load_settings())
    outcome = score_dataset(request, on_progress=change)
    assert [(bad.relative.name, bad.error.reason) for bad in outcome.bad_files] == [("a.parquet", "INPUT_CHANGED")]
    assert sorted(path.name for path in outcome.target.root.glob("[ab]*")) == [
        "b-00001-of-00002.parquet",
        "b-00002-of-00002.parquet",
    ]


@pytest.mark.parametrize(
    ("error", "location"),
    [(NothingToReadError, "nowhere"), (NothingToReadError, "no*.parquet"), (UsageError, "s3://u:secret@b/k")],
)
def test_nothing_to_read(error: type[StsbBatchError], location: str, bert: Path, tmp_path: Path):
    """A path that leads nowhere is told at once, and a password in a URI is never echoed."""
    with pytest.raises(error) as refused:
        score(location if "://" in location else tmp_path / location, bert)
    assert "secret" not in str(refused.value)
