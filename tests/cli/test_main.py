"""The command line: verbs, exit codes, what goes to stdout and stderr."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from stsb_batch import __version__
from stsb_batch.cli.output import echo, out, row_progress
from stsb_batch.models.registry import promote
from stsb_batch.scoring.monitor import RunMonitor
from tests.builders import add_version, make_pairs, verbs
from tests.reliability.harness import Driver

VERBS = verbs()


DRIVERS: list[Driver] = []


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess:
    """Run the command line in a process of its own, forked from one that has imported the libraries already."""
    plain = {"STSB_BATCH_ENGINE": "torch", "STSB_BATCH_PRECISION": "fp32", "STSB_BATCH_HOME": os.environ["STSB_BATCH_HOME"]}
    done = DRIVERS[0].run(*arguments, env=plain | environment, real=True)
    return subprocess.CompletedProcess(list(arguments), done["code"], done["stdout"], done["stderr"])


@pytest.fixture(scope="module", autouse=True)
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hold the process that all runs of this file are forked from."""
    DRIVERS.append(Driver(tmp_path_factory.mktemp("driver")))
    yield
    DRIVERS.pop().close()


@pytest.fixture
def champion(bert: Path, settings) -> Path:
    """Make the small BERT the champion."""
    promote(settings.home, add_version(settings.home, bert), "test")
    return bert


def test_score_report_and_rerun(champion: Path, pairs_file: Path):
    """score prints a summary and leaves two files; report shows it again; a second run says that nothing is to do."""
    first = run("score", pairs_file)
    assert first.returncode == 0, first.stderr
    assert "in.scored.parquet" in first.stdout
    assert "Pearson" in first.stdout
    assert pl.read_parquet(pairs_file.with_name("in.scored.parquet"))["score"].null_count() == 0
    for place in (pairs_file, pairs_file.with_name("in.scored.parquet"), pairs_file.with_name("_in.scored.report.pq")):
        assert "Pearson" in run("report", place).stdout
    assert "Nothing to do" in run("score", pairs_file).stdout


def test_json_is_the_only_thing_on_stdout(champion: Path, pairs_file: Path):
    """--json prints one JSON document, people's lines go to stderr."""
    scored = json.loads(run("score", pairs_file, "--json").stdout)
    assert (scored["rows"], scored["rows_without_score"]) == (500, 0)
    assert {"mse", "pearson"} <= set(scored["metrics"])
    assert json.loads(run("pair", "a", "b", "--json").stdout)["model"] == "sts@1"
    assert json.loads(run("models", "list", "--json").stdout)[0]["champion"] is True
    assert {row["metric"] for row in json.loads(run("report", pairs_file, "--json").stdout)} >= {"rows", "mse"}
    assert {row["metric"] for row in json.loads(run("evaluate", pairs_file, "--json").stdout)} >= {"mse", "order_gap_max"}


def test_dry_run_writes_nothing(champion: Path, pairs_file: Path):
    """--dry-run shows shards, rows, model and engine, and leaves no file."""
    before = sorted(pairs_file.parent.iterdir())
    shown = run("score", pairs_file, "--dry-run").stdout
    assert "500 rows in 1 shard ·" in shown
    assert "sts@1" in shown
    assert "torch fp32 on cpu" in shown
    assert sorted(pairs_file.parent.iterdir()) == before
    run("score", pairs_file)
    assert "500 rows in 1 shard, all done before" in run("score", pairs_file, "--dry-run").stdout
    assert run("score", pairs_file, "--max-length", "16", "--dry-run").returncode == 73


def test_version_is_told():
    """--version prints the version and nothing else."""
    assert run("--version").stdout == f"{__version__}\n"


def test_pair_prints_a_number_equal_to_the_file_s_score(champion: Path, tmp_path: Path):
    """A pair scored alone has the score it has in a file."""
    make_pairs(1).write_parquet(tmp_path / "one.parquet")
    run("score", tmp_path / "one.parquet")
    row = pl.read_parquet(tmp_path / "one.scored.parquet").row(0, named=True)
    assert float(run("pair", row["sentence1"], row["sentence2"]).stdout) == pytest.approx(row["score"], abs=1e-3)


def test_models_verbs(champion: Path, settings):
    """list, show, promote and rollback act on the registry."""
    add_version(settings.home, champion, mark=" ")
    assert "sts@2" in run("models", "list").stdout
    assert run("models", "promote", "sts@2").stdout == "champion is sts@2\n"
    assert run("models", "rollback").stdout == "champion is sts@1\n"
    add_version(settings.home, champion, mark="  ")
    add_version(settings.home, champion, mark="   ")
    assert "Would remove sts@3 " in run("models", "gc", "--keep", "1").stdout
    assert "Removed sts@3 " in run("models", "gc", "--keep", "1", "--yes").stdout
    assert "Nothing to remove" in run("models", "gc", "--keep", "1").stdout


def test_evaluate_shows_calibration_and_saves_plots(champion: Path, pairs_file: Path):
    """evaluate prints metrics, reliability, order symmetry and half-width, and saves two plots beside the labels."""
    done = run("evaluate", pairs_file)
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in ("Pearson", "Reliability of all", "order: score(a, b)", "half-width: 90%"))
    assert sorted(path.name for path in pairs_file.with_name("in.evaluation").iterdir()) == ["residuals.png", "scatter.png"]
    assert run("evaluate", pairs_file, "--plots", pairs_file.parent / "pictures").returncode == 0
    assert (pairs_file.parent / "pictures/scatter.png").exists()


def test_refresh_trains_and_shows(bert: Path, tmp_path: Path):
    """refresh prints the metrics table and the gate's checks; show has the card."""
    make_pairs(200).write_parquet(tmp_path / "l.parquet")
    done = run("refresh", "--labels", tmp_path / "l.parquet", "--base-model", bert, "--floor", "-1")
    assert done.returncode == 0, done.stderr
    assert "gate: passed" in done.stdout
    shown = run("models", "show")
    assert "l.parquet" in shown.stdout, shown.stderr
    assert "Spearman" in shown.stdout
    assert "promote: passed the gate" in shown.stdout


def test_a_refused_model_is_13_and_churn_is_shown(champion: Path, tmp_path: Path):
    """A gate that refuses ends with 13; --churn-sample names the worst movers, with --show-texts also their texts."""
    make_pairs(200).write_parquet(tmp_path / "l.parquet")
    make_pairs(50, seed=7).write_parquet(tmp_path / "night.parquet")
    command = ["refresh", "--labels", tmp_path / "l.parquet", "--base-model", champion, "--floor", "0.9999"]
    shown = run(*command, "--churn-sample", tmp_path / "night.parquet", "--thresholds", "1,2.5", "--show-texts")
    assert shown.returncode == 13, shown.stderr
    assert "gate: refused" in shown.stdout
    assert "What would change: the worst of 50 pairs of night.parquet" in shown.stdout
    assert shown.stdout.count(" | ") == 10
    assert "% cross 1, " in shown.stdout
    assert run("models", "promote", "sts@2").returncode == 13


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_has_help_with_an_example(verb: list[str]):
    """--help of each verb says what it does and shows an example."""
    shown = run(*verb, "--help")
    assert shown.returncode == 0
    assert f"Example: stsb-batch {' '.join(verb)}" in shown.stdout


def test_help_lists_the_exit_codes():
    """The exit codes stand in --help."""
    shown = " ".join(run("--help").stdout.split())
    assert all(f"{code} " in shown for code in (10, 11, 13, 20, 64, 65, 66, 69, 70, 73, 74, 75, 77, 78))


@pytest.mark.parametrize(
    ("code", "arguments", "message"),
    [
        (64, ["score"], "Missing argument"),
        (64, ["score", "IN", "--wrong"], "No such option"),
        (64, ["score", "IN", "-o", "IN"], "the output is the input"),
        (64, ["refresh", "--labels", "IN", "--recipe", "other"], "Invalid value for '--recipe'"),
        (64, ["refresh", "--labels", "IN", "--max-churn", "0.1"], "--max-churn needs --churn-sample"),
        (64, ["refresh", "--labels", "IN", "--thresholds", "high"], "not numbers"),
        (66, ["refresh", "--labels", "IN", "--base-model", "./nowhere"], "no such folder"),
        (
            65,
            ["score", "IN", "--left", "a"],
            "has no column 'a' (found: id, sentence1, sentence2, label). Name it with --left",
        ),
        (65, ["evaluate", "IN", "--label", "id"], "labels outside 0-5"),
        (66, ["score", "nowhere.parquet"], "no such file or folder"),
        (66, ["report", "nowhere"], "no report there"),
        (66, ["score", "IN", "--model", "sts@9"], "no such model version"),
        (69, ["score", "IN", "--precision", "fp16"], "needs a CUDA device"),
        (64, ["score", "IN", "--engine", "onnx"], "Invalid value for '--engine'"),
        (64, ["score", "IN", "--on-bad-row", "drop"], "Invalid value for '--on-bad-row'"),
        (64, ["score", "IN", "--score-column", ""], "--score-column is an empty string"),
        (64, ["score", "IN", "--lenient", "--strict"], "contradict each other"),
        (64, ["evaluate", "IN", "--label-scale", "5,0"], "not a scale"),
        (64, ["score", "IN", "--warn-bad-rows", "7"], "less than or equal to 1"),
        (64, ["nightly", "IN", "-o", "out", "--done-by", "25:99"], "25:99: not a time of day"),
        (64, ["nightly", "IN", "-o", "out", "--night", "2026-13-01"], "2026-13-01: not a date"),
        (66, ["verify", "IN"], "in.parquet: not an output of stsb-batch"),
    ],
)
def test_what_goes_wrong_is_one_line_and_a_code(champion: Path, pairs_file: Path, code: int, arguments: list, message: str):
    """Wrong commands and bad input end with the code of the contract and a line that names cause and remedy."""
    done = run(*[pairs_file if argument == "IN" else argument for argument in arguments])
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_no_champion_names_two_commands(pairs_file: Path):
    """Without a champion, score says which two commands help (66)."""
    done = run("score", pairs_file)
    assert done.returncode == 66
    assert "`stsb-batch refresh " in done.stderr
    assert "`stsb-batch demo`" in done.stderr


def test_many_rows_without_a_score_are_10(champion: Path, tmp_path: Path):
    """Above the warn limit the run is done, with exit code 10 and a line that says why."""
    pl.DataFrame({"sentence1": ["a", None], "sentence2": ["b", "c"]}).write_parquet(tmp_path / "in.parquet")
    done = run("score", tmp_path / "in.parquet")
    assert done.returncode == 10
    why = "Exit code 10: 1 of 2 rows (50.00%) have no score (NULL_INPUT 1), the limit is 1.00% (--warn-bad-rows)."
    assert done.stderr.splitlines()[-1] == why
    assert run("score", tmp_path / "in.parquet", "--lenient").returncode == 0
    assert run("score", tmp_path / "in.parquet", "--strict").returncode == 65
    assert run("score", tmp_path / "in.parquet", "--warn-bad-rows", "0.5").returncode == 0


def test_changed_model_is_20(champion: Path, pairs_file: Path, settings):
    """A champion whose files changed after registration is refused with 20."""
    config = settings.home / "models/sts/1/config.json"
    config.write_text(config.read_text() + " ")
    done = run("score", pairs_file)
    assert done.returncode == 20
    assert "changed after registration" in done.stderr


def test_output_of_another_plan_is_73(champion: Path, pairs_file: Path):
    """Existing output of another plan is not touched; --overwrite replaces it."""
    run("score", pairs_file)
    assert run("score", pairs_file, "--max-length", "16").returncode == 73
    assert run("score", pairs_file, "--max-length", "16", "--overwrite").returncode == 0


def test_output_that_cannot_be_made_is_told(champion: Path, pairs_file: Path):
    """A file where the output folder should be is 73."""
    assert run("score", pairs_file, "-o", f"{pairs_file}/x").returncode in {73, 74}
    (pairs_file.parent / "taken").touch()
    assert run("score", pairs_file, "-o", pairs_file.parent / "taken").returncode == 73


def test_wrong_setting_is_78(pairs_file: Path):
    """A setting that makes no sense is named with its variable."""
    done = run("score", pairs_file, STSB_BATCH_MAX_TOKENS="many")
    assert done.returncode == 78
    assert "STSB_BATCH_MAX_TOKENS='many'" in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_stop_soon_and_the_rerun_ends_well(champion: Path, tmp_path: Path, number: int, code: int):
    """Ctrl-C and SIGTERM end a run and leave nothing half-done; the same command then finishes."""
    for part in range(4):
        make_pairs(1_500, seed=part).write_parquet(tmp_path / f"in/{part}.parquet", mkdir=True)
    command = [
        sys.executable,
        "-m",
        "stsb_batch",
        "score",
        tmp_path / "in",
        "--engine",
        "torch",
        "--precision",
        "fp32",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not list((tmp_path / "in.scored").glob("0.parquet")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        said = process.communicate(timeout=30)[1]
    assert process.returncode == code, said
    assert not list((tmp_path / "in.scored").rglob("*.inprogress"))
    assert not (tmp_path / "in.scored/_SUCCESS").exists()
    assert run("score", tmp_path / "in").returncode == 0
    assert (tmp_path / "in.scored/_SUCCESS").exists()


def test_doctor_passes_and_fails_with_78():
    """On this machine all is well but for the champion that is missing; a wrong engine is told and ends with 78."""
    well = run("doctor")
    assert well.returncode == 0, well.stdout
    assert "WARN models" in well.stdout
    assert "refresh --labels" in well.stdout
    ill = run("doctor", "--json", STSB_BATCH_ENGINE="onnx")
    assert ill.returncode == 78
    assert {row["state"] for row in json.loads(ill.stdout) if row["part"] == "device"} == {"FAIL"}


def test_progress_tells_the_speed_since_the_first_batch(capsys: pytest.CaptureFixture):
    """The time in which the model is opened counts for nothing, or the first lines would promise hours."""
    clock = iter([99.0, 100.0, 104.0, 110.0])
    with row_progress(lambda: next(clock)) as show:
        monitor = RunMonitor(1_000, show)
        for _ in range(3):
            monitor.add(200, 5_000)
    assert capsys.readouterr().err == "scored 600 of 1,000 rows, 40 rows/s, 1,000 tokens/s, 10 s left\n"


def test_lines_stay_whole_in_a_pipe(capsys: pytest.CaptureFixture[str]):
    """A line longer than a terminal is wide is not broken: whoever searches the output finds the sentence."""
    line = " ".join(["word"] * 60)
    out.print(line)
    echo(line)
    assert capsys.readouterr() == (f"{line}\n", f"{line}\n")


@pytest.mark.parametrize(("argv", "code"), [(["score", "IN", "-o", "OUT"], 0), (["report", "OUT"], 141)])
def test_nobody_reads_the_output(argv: list[str], code: int, champion: Path, pairs_file: Path, tmp_path: Path):
    """A closed pipe is no failure of work that is committed; for any other verb it is what SIGPIPE is to a shell."""
    names = {"IN": str(pairs_file), "OUT": str(tmp_path / "out.parquet")}
    if argv[0] == "report":
        assert run("score", pairs_file, "-o", names["OUT"]).returncode == 0
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "stsb_batch", *[names.get(word, word) for word in argv]]
    environment = os.environ | {"STSB_BATCH_PRECISION": "fp32"}  # random weights are far from fp32 in bf16
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False, env=environment)
    os.close(writer)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
    assert (tmp_path / "out.parquet").exists()


def test_verify_takes_a_home(champion: Path, pairs_file: Path, settings):
    """What the home keeps is checked like an output: a damaged card or report ends with 65 and its path."""
    assert run("score", pairs_file).returncode == 0
    assert run("verify", settings.home).returncode == 0
    for path in (*settings.home.glob("reports/*.parquet"), *settings.home.glob("models/*/*/card.json")):
        content = path.read_bytes()
        path.write_bytes(content[:-9] + b"0" + content[-8:])
        done = run("verify", settings.home)
        assert done.returncode == 65
        assert str(path) in done.stdout
        path.write_bytes(content)
