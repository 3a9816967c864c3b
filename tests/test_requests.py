"""Each field of a request is declared once, and reaches the verb, the flow and the form."""

import os
import pickle
import re
import subprocess
import sys

import pytest
import typer.main

from stsb_batch.cli.main import app
from stsb_batch.errors import UsageError
from stsb_batch.fields import fields_of
from stsb_batch.requests import (
    NOT_NIGHTLY,
    NightlyRequest,
    RefreshRequest,
    ScoreRequest,
    nightly_fields,
    nightly_request,
    options_of,
)
from tests.builders import verbs

PLACES = {"location": "in", "output": "out"}
CASES = [("score", name) for name in fields_of(ScoreRequest)] + [("refresh", name) for name in fields_of(RefreshRequest)]
REQUESTS = {"score": ScoreRequest, "refresh": RefreshRequest}


def forms() -> dict[str, dict]:
    """The forms of the flows, by verb."""
    from flows.nightly import run_night
    from flows.refresh import refresh_flow
    from flows.score import score_flow

    found = {"score": score_flow, "refresh": refresh_flow, "nightly": run_night}
    return {name: flow.parameters.properties for name, flow in found.items()}


def options(verb: str) -> dict[str, str]:
    """The help texts of a verb's options, by parameter name."""
    return {one.name: getattr(one, "help", None) for one in typer.main.get_command(app).commands[verb].params}


@pytest.mark.parametrize(("verb", "name"), CASES)
def test_a_field_reaches_verb_flow_and_form(verb: str, name: str):
    """It is an option with its help text, a parameter of the flow, and a form field with description and bounds (law 12)."""
    spec, known = fields_of(REQUESTS[verb])[name], options(verb)
    if spec.option.switches:
        assert {switch: known[switch] for switch in spec.option.switches} == dict(spec.option.switches)
    else:
        assert known[name] == spec.option.help
    field = forms()[verb][name]
    assert field["description"].lower() == spec.option.help.lower()
    assert str(spec.option.minimum) in str(field) or spec.option.minimum is None
    assert all(choice in str(field) for choice in spec.choices)


@pytest.mark.parametrize("name", [name for _, name in CASES if name not in NOT_NIGHTLY])
def test_a_field_reaches_the_night(name: str):
    """Whatever score and refresh can do, `nightly`, `serve` and the nightly form can."""
    assert name in nightly_fields()
    for verb in ("nightly", "serve"):
        switches = nightly_fields()[name].option.switches or (name,)
        assert set(switches) <= options(verb).keys()
    assert forms()["nightly"][name]["description"]


def test_what_a_night_leaves_out_has_a_reason():
    """Each is a field of another request, and says why it has no sense for a night."""
    assert NOT_NIGHTLY.keys() <= fields_of(ScoreRequest).keys() | fields_of(RefreshRequest).keys()
    assert all(len(reason.split()) > 3 for reason in NOT_NIGHTLY.values())


def test_options_make_the_same_request_again():
    """A request goes to a flow as its options and comes back; options of a refresh survive without labels."""
    given = PLACES | {"floor": 0.7, "keep": ("id",), "strictness": "strict", "max_bad_rows": 0.2, "deadline": "07:00"}
    request = nightly_request(given)
    assert options_of(nightly_request(options_of(request))) == options_of(request)
    assert {name: options_of(request)[name] for name in given} == given | {"keep": ["id"]}
    assert options_of(request)["labels"] is None
    assert len(pickle.dumps(request)) < 4_096
    assert options_of(pickle.loads(pickle.dumps(request))) == options_of(request)  # noqa: S301 - our own
    assert isinstance(request, NightlyRequest)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"max_bad_rows": 1.5}, "--max-bad-rows takes 0 to 1, not 1.5"),
        ({"max_bad_rows": "0.1"}, "--max-bad-rows takes 0 to 1"),
        ({"max_tokens": 3}, "--max-tokens takes at least 16, not 3"),
        ({"engine": "onnx"}, "--engine takes auto, torch, openvino, not 'onnx'"),
        ({"strictness": "hard"}, "strictness takes normal, lenient, strict"),
        ({"floor": 5}, "--floor takes -1 to 1, not 5"),
        ({"recipe": "other"}, "--recipe takes reference, best, silver"),
        ({"thresholds": "high"}, "--thresholds high: not numbers"),
        ({"label_scale": "up"}, "--label-scale"),
        ({"max_churn": 0.1}, "--max-churn needs --churn-sample"),
    ],
)
def test_what_cannot_be_is_refused_by_name(wrong: dict, words: str):
    """Bounds, choices and contradictions hold for the Python API as for the command line, with or without labels."""
    with pytest.raises(UsageError, match=words):
        nightly_request(PLACES | wrong)


def test_options_win_over_settings(monkeypatch: pytest.MonkeyPatch):
    """Request over environment over default."""
    monkeypatch.setenv("STSB_BATCH_MAX_TOKENS", "64")
    monkeypatch.setenv("STSB_BATCH_ENGINE", "torch")
    assert ScoreRequest("in").settings.max_tokens == 64
    chosen = ScoreRequest("in", max_tokens=32, engine="openvino").settings
    assert (chosen.max_tokens, chosen.engine) == (32, "openvino")


@pytest.mark.parametrize("verb", verbs(), ids=" ".join)
def test_help_cuts_nothing_at_80_columns(verb: list[str], monkeypatch: pytest.MonkeyPatch, capsys):
    """Each word of each help text is there, and no line is longer than the terminal."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    with pytest.raises(SystemExit):
        app([*verb, "--help"], prog_name="stsb-batch")
    lines = capsys.readouterr().out.splitlines()
    command = typer.main.get_command(app)
    for name in verb:
        command = command.commands[name]
    said = " ".join(" ".join(lines).split())
    for one in command.params:
        if not getattr(one, "hidden", False) and getattr(one, "help", None):
            assert " ".join(one.help.split()) in said
    assert "\u2026" not in said and not re.search(r"\w\.\.\.( |$)", said)
    assert max(map(len, lines)) <= 80


def test_an_earlier_spelling_is_accepted_and_not_shown(capsys):
    """`--done-by` was `--deadline` in 0.1.0."""
    with pytest.raises(UsageError, match="seven: not a time of day"):
        app(["nightly", "in", "-o", "out", "--done-by", "seven"], prog_name="stsb-batch", standalone_mode=False)
    with pytest.raises(SystemExit):
        app(["nightly", "--help"], prog_name="stsb-batch")
    assert "--done-by" not in capsys.readouterr().out


def test_the_package_is_a_command():
    """`python -m stsb_batch` is the command line, with shell completion."""
    done = subprocess.run(
        [sys.executable, "-m", "stsb_batch", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "80"},
    )
    assert "Usage: stsb-batch" in done.stdout
    assert "--install-completion" in done.stdout
