"""Nights: which date a run belongs to, which nights it has to score."""

import datetime as dt
import os
from pathlib import Path

import pytest

from stsb_batch.durable import file_sha256
from stsb_batch.errors import ConfigError, UsageError
from stsb_batch.pairs import sink, source
from stsb_batch.requests import nightly_request
from stsb_batch.schedule import run_dates as night
from tests.builders import make_pairs


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


@pytest.fixture
def warehouse(tmp_path: Path) -> tuple[str, str]:
    """Return pairs for the nights of 1 to 5 January, and where scores go; those of the 2nd are done."""
    for day in range(1, 6):
        make_pairs(1).write_parquet(tmp_path / f"in/2026-01-0{day}/part.parquet", mkdir=True)
    mark_done(tmp_path / "out", "2026-01-02", tmp_path / "in/2026-01-02/part.parquet")
    return str(tmp_path / "in/{night}"), str(tmp_path / "out")


def mark_done(output: Path | str, date: str, *scored: Path, left_out: tuple[str, ...] = ()) -> None:
    """Leave what a night leaves at its end, with the files that were scored and the bad ones that were left out."""
    target = sink.Target(night.output_of(str(output), date))
    target.root.mkdir(parents=True, exist_ok=True)
    target.report.touch()
    inputs = [source.with_digest(source.inspect_file(path, Path(path.name)), {}) for path in scored]
    manifest = {
        "model": "champion@1",
        "files": [{"input": file.record()} for file in inputs],
        "bad_files": [{"path": name} for name in left_out],
        "report_sha256": file_sha256(target.report),
    }
    sink.finish_commits(target, manifest, [])


@pytest.mark.parametrize(
    ("moment", "timezone", "date"),
    [
        ("2026-01-02T00:30", "Europe/Berlin", "2026-01-02"),
        ("2026-01-02T23:30", "Europe/Berlin", "2026-01-03"),
        ("2026-01-02T03:00", "America/New_York", "2026-01-01"),
        ("2026-03-29T01:00", "Europe/Berlin", "2026-03-29"),
    ],
)
def test_a_night_is_the_local_date_of_its_start(moment: str, timezone: str, date: str):
    """The same moment is another night elsewhere."""
    assert night.run_date_of(utc(moment), timezone) == date


@pytest.mark.parametrize(
    ("now", "newest"),
    [("2026-01-02T02:00", "2026-01-02"), ("2026-01-05T01:59", "2026-01-04"), ("2026-01-05T02:00", "2026-01-05")],
)
def test_a_late_run_knows_the_newest_night_that_is_due(now: str, newest: str):
    """A run scheduled at two that starts days later counts the nights whose time has passed, not the one to come."""
    assert night.newest_run_date(utc("2026-01-02T02:00"), utc(now), "UTC") == newest


def test_missed_nights_come_with_the_own_one_oldest_first(warehouse):
    """Every night since the first done one that has input and no scores is due."""
    assert night.dates_to_score(*warehouse, "2026-01-05", "2026-01-05") == ["2026-01-03", "2026-01-04", "2026-01-05"]


def test_a_late_run_also_takes_the_nights_after_its_own(warehouse):
    """What starts late scores its own date and the later ones that are due."""
    assert night.dates_to_score(*warehouse, "2026-01-03", "2026-01-04") == ["2026-01-03", "2026-01-04"]


def test_a_done_night_is_left_alone(warehouse):
    """Nothing is due for a night that is done when none was missed."""
    location, output = warehouse
    for day in (3, 4, 5):
        mark_done(output, f"2026-01-0{day}", Path(location.format(night=f"2026-01-0{day}"), "part.parquet"))
    assert night.dates_to_score(location, output, "2026-01-05", "2026-01-05") == []


def test_a_night_without_a_bad_file_is_due_for_its_own_run_only(warehouse):
    """What was left out can have been replaced when somebody starts that night again; later nights do not look."""
    location, output = warehouse
    mark_done(output, "2026-01-03", left_out=("part.parquet",))
    mark_done(output, "2026-01-04", Path(location.format(night="2026-01-04"), "part.parquet"))
    assert night.dates_to_score(location, output, "2026-01-03", "2026-01-04") == ["2026-01-03"]
    assert night.dates_to_score(location, output, "2026-01-04", "2026-01-04") == []


def test_a_file_that_comes_late_is_due(warehouse):
    """Kind: taken for done by name alone. A file that comes into a finished night is scored, by later nights' runs too."""
    location, output = warehouse
    make_pairs(1).write_parquet(Path(location.format(night="2026-01-02"), "late.parquet"))
    assert night.dates_to_score(location, output, "2026-01-02", "2026-01-02") == ["2026-01-02"]
    assert night.dates_to_score(location, output, "2026-01-03", "2026-01-03") == ["2026-01-02", "2026-01-03"]
    assert (night.model_of(output, "2026-01-02"), night.model_of(output, "2026-01-03")) == ("champion@1", "champion")


def test_a_file_that_was_replaced_is_due_for_its_own_run_only(warehouse):
    """Kind: taken for done by name and size. Other bytes are noticed, a mere touch is not; other nights' runs go on."""
    location, output = warehouse
    scored = Path(location.format(night="2026-01-02"), "part.parquet")
    os.utime(scored, ns=(1, 1))
    assert night.is_complete(location, output, "2026-01-02")
    content = bytearray(scored.read_bytes())
    content[8] ^= 1
    scored.write_bytes(content)
    assert not night.is_complete(location, output, "2026-01-02")
    assert night.dates_to_score(location, output, "2026-01-03", "2026-01-03") == ["2026-01-03"]


def test_input_that_was_removed_leaves_its_night_done(warehouse):
    """Old pairs are deleted in time; their scores stay, and nothing is due for them."""
    location, output = warehouse
    Path(location.format(night="2026-01-02"), "part.parquet").unlink()
    assert night.is_complete(location, output, "2026-01-02")


def test_a_first_run_scores_its_own_night_only(warehouse, tmp_path: Path):
    """Where nothing was ever scored, older input is no missed night."""
    assert night.dates_to_score(warehouse[0], str(tmp_path / "new"), "2026-01-05", "2026-01-05") == ["2026-01-05"]


def test_a_missed_night_without_input_is_nothing_to_score(warehouse, tmp_path: Path):
    """A night for which no pairs came is not due."""
    (tmp_path / "in/2026-01-04/part.parquet").unlink()
    assert night.dates_to_score(*warehouse, "2026-01-05", "2026-01-05") == ["2026-01-03", "2026-01-05"]


def test_one_input_for_all_nights_has_no_missed_ones(warehouse):
    """Pairs that are replaced each night hold only the newest, so that older nights cannot be scored."""
    location, output = warehouse
    assert night.dates_to_score(str(Path(location).parent), output, "2026-01-05", "2026-01-05") == ["2026-01-05"]


def test_nights_are_missed_for_a_week_at_most(warehouse):
    """What lies further back is not scored by itself."""
    assert night.missing_dates(*warehouse, "2026-01-11") == ["2026-01-04", "2026-01-05"]


@pytest.mark.parametrize(
    ("start", "due"), [("2026-01-02T02:00", "2026-01-02T07:00"), ("2026-01-02T22:00", "2026-01-03T07:00")]
)
def test_scores_are_awaited_at_the_first_such_time_after_the_start(start: str, due: str):
    """Seven o'clock is on the same day for a run after midnight and on the next for one before."""
    assert night.deadline_of("07:00", utc(start), "UTC") == utc(due)


def test_a_clock_time_that_comes_twice_is_the_later_one_when_the_first_has_passed():
    """When the clocks go back a start at the first 02:30 is done by the first 02:45, one at the second by the second."""
    first, second = utc("2026-10-25T00:30"), utc("2026-10-25T01:30")
    assert night.deadline_of("02:45", first, "Europe/Berlin") - first == dt.timedelta(minutes=15)
    assert night.deadline_of("02:45", second, "Europe/Berlin") - second == dt.timedelta(minutes=15)


def test_folders_that_are_no_nights_are_none(warehouse):
    """Another folder with a `_SUCCESS` among the nights is not the first night that was done."""
    before = night.missing_dates(*warehouse, "2026-01-11")
    mark_done(Path(warehouse[1]), "0-archive")
    assert night.missing_dates(*warehouse, "2026-01-11") == before


def test_wrong_dates_times_and_zones_are_named():
    """Each says what was given and how to write it."""
    with pytest.raises(UsageError, match=r"yesterday.*YYYY-MM-DD"):
        night.parse_run_date("yesterday")
    with pytest.raises(UsageError, match=r"seven.*HH:MM"):
        night.deadline_of("seven", utc("2026-01-02T02:00"), "UTC")
    with pytest.raises(ConfigError, match=r"Mars/Base.*no such time zone"):
        night.zone("Mars/Base")


PATTERNS = [
    "scores/night={night}",
    "scores/night={night}/eu",
    "{night}/night={night}",
    "scores/night={night}/",
    "[a-z]*/n={night}",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_an_output_pattern_names_each_nights_folder(pattern: str, warehouse, tmp_path: Path):
    """Kind: where `{night}` stands. At the end, in the middle, several times, beside glob characters: the date takes its
    place, and done, missed and first nights are known by it."""
    location, output = warehouse[0], str(tmp_path / pattern)
    assert night.output_of(output, "2026-01-02") == tmp_path / pattern.replace("{night}", "2026-01-02")
    assert night.finished_dates(output) == set()
    assert night.dates_to_score(location, output, "2026-01-05", "2026-01-05") == ["2026-01-05"]
    mark_done(output, "2026-01-02", Path(location.format(night="2026-01-02"), "part.parquet"))
    mark_done(output, "2026-01-04", Path(location.format(night="2026-01-04"), "part.parquet"))
    assert night.finished_dates(output) == {"2026-01-02", "2026-01-04"}
    assert night.dates_to_score(location, output, "2026-01-05", "2026-01-05") == ["2026-01-03", "2026-01-05"]


@pytest.mark.parametrize("output", ["scores/night={night}", "scores", "./scores/", "[s]*"])
def test_a_relative_output_is_read_where_it_is_written(output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Kind: how the output is written down. A relative place, one with a slash at its end or with glob characters is the
    folder of that name and no other."""
    monkeypatch.chdir(tmp_path)
    mark_done("scores", "2026-01-01")
    mark_done("s", "2026-01-03")
    mark_done(output, "2026-01-02")
    expected = {"2026-01-02"} | ({"2026-01-01"} if output in ("scores", "./scores/") else set())
    assert night.finished_dates(output) == expected


def test_other_dates_and_names_beside_a_pattern_are_no_nights_of_it(tmp_path: Path):
    """Kind: what lies beside. The old layout, another region, different dates in one path and names that are no dates are
    not the pattern's nights, and the old layout does not see the pattern's."""
    output = str(tmp_path / "scores/night={night}/eu-{night}")
    for place in ("2026-01-01", "night=2026-01-02/us-2026-01-02", "night=2026-01-03/eu-2026-01-04", "night=x/eu-x"):
        mark_done(str(tmp_path / "scores" / place).replace("2026-01-01", "{night}"), "2026-01-01")
    assert night.finished_dates(output) == set()
    mark_done(output, "2026-01-05")
    assert night.finished_dates(output) == {"2026-01-05"}
    assert night.finished_dates(str(tmp_path / "scores")) == {"2026-01-01"}


@pytest.mark.parametrize("output", ["scores/night={night}.parquet", "scores/{night}/out.parquet"])
def test_an_output_named_like_a_file_is_refused(output: str):
    """Kind: a pattern that names a file. A single file has no `_SUCCESS`, so such a night would never be done."""
    with pytest.raises(UsageError, match=r"the scores of a night are a folder"):
        night.check_schedule(nightly_request({"location": "in", "output": output}))
