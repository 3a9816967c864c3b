"""Builders of what tests work on: texts, pairs, settings, requests, tokenisers, registered versions."""

import shutil
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
import torch
import typer.main
from tokenizers import Tokenizer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from stsb_batch.cli.main import app
from stsb_batch.inference.tokens import PairTokenizer, TokenizedPairs
from stsb_batch.models import registry
from stsb_batch.models.base import find_base_model
from stsb_batch.models.checkpoint import load_tokenizer, save_checkpoint
from stsb_batch.refresh.job import RefreshPlan
from stsb_batch.refresh.labels import Labels
from stsb_batch.report.sketch import Sketch, sketch_rows
from stsb_batch.report.table import SCHEMA
from stsb_batch.requests import ScoreRequest
from stsb_batch.scoring.finish import ScoreOutcome
from stsb_batch.scoring.job import score_dataset
from stsb_batch.settings import Settings, load_settings

STSB = Path(__file__).parents[2] / "shared/data/stsb"
WORDS = ["red", "blue", "steel", "pump", "ticket", "login", "city", "river", "station"]
WORDS += ["invoice", "kettle", "cable", "night", "train", "court", "price", "guitar", "dog"]
PASSED = {"passed": True, "checks": [], "notes": [], "figures": {}}


def make_texts(count: int, seed: int = 0) -> list[str]:
    """Make texts of 2 to 12 plain words."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(2, 13))) for _ in range(count)]


def make_pairs(count: int, seed: int = 0) -> pl.DataFrame:
    """Make pairs with an id, two texts and a label that grows with the words they share."""
    left, right = make_texts(count, seed), make_texts(count, seed + 1)
    right = [a if row % 4 == 0 else b for row, (a, b) in enumerate(zip(left, right, strict=True))]
    shared = [len(set(a.split()) & set(b.split())) / len(set(a.split())) for a, b in zip(left, right, strict=True)]
    return pl.DataFrame(
        {"id": range(count), "sentence1": left, "sentence2": right, "label": np.array(shared, np.float32) * 5}
    )


def write_pairs(root: Path, *found: str) -> None:
    """Write two pairs to each named file below a folder."""
    for name in found:
        make_pairs(2).write_parquet(root / name, mkdir=True)


def make_labels(rows: int = 96) -> Labels:
    """Make labelled pairs: so many rows of train, 20 each of val and test."""
    frame = make_pairs(rows + 40).select(left="sentence1", right="sentence2", label="label")
    return Labels(frame[:rows], frame[rows : rows + 20], frame[rows + 20 :])


def make_sketch(scores: list[float | None]) -> Sketch:
    """Make the sketch of rows with these scores; None has no score and the status NULL_INPUT."""
    array = np.array([np.nan if score is None else score for score in scores], np.float32)
    statuses = np.where(np.isnan(array), 2, 0).astype(np.int8)
    lengths = np.where(np.isnan(array), 0, 3 + np.arange(len(array)) % 7).astype(np.int32)
    return sketch_rows(
        array, statuses, lengths, distinct=len(array), gaps=np.abs(array[:2][~np.isnan(array[:2])]), seconds=0.5
    )


def verbs() -> list[list[str]]:
    """List the words of each verb of the command line, as `models list`."""
    commands = typer.main.get_command(app).commands
    nested = [[name, verb] for name, group in commands.items() for verb in getattr(group, "commands", ())]
    return [[name] for name, command in commands.items() if not hasattr(command, "commands")] + nested


def plain_settings(**changes) -> Settings:
    """Settings for the plain engine in fp32, with small batches."""
    return load_settings().model_copy(update={"engine": "torch", "precision": "fp32", "max_tokens": 512, **changes})


def score_request(location: Path | str, model: Path, output: Path | None = None, **options) -> ScoreRequest:
    """Ask for the scores of a location by the plain engine, unless the options have other settings."""
    settings = options.pop("settings", None) or plain_settings()
    return ScoreRequest(str(location), str(output) if output else None, model=str(model), settings=settings, **options)


def score(location: Path | str, model: Path, output: Path | None = None, *, on_progress=None, **options) -> ScoreOutcome:
    """Score a location with the plain engine, by default in shards of up to a million rows."""
    settings = plain_settings(shard_rows=options.pop("shard_rows", 1_000_000))
    return score_dataset(score_request(location, model, output, settings=settings, **options), on_progress=on_progress)


@lru_cache
def tokenizer(max_length: int = 32, *, fast: bool = True, **options: int) -> PairTokenizer:
    """Open MiniLM's tokeniser; `fast` takes the chunk cache."""
    backend = load_tokenizer(find_base_model("minilm")).backend_tokenizer
    return PairTokenizer(Tokenizer.from_str(backend.to_str()), max_length=max_length, fast=fast, **options)


def make_checkpoint(folder: Path, layers: int = 6) -> Path:
    """Save MiniLM's first layers, all by default, under a head of fixed weights: its scores are the same everywhere."""
    base = find_base_model("minilm")
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    model.bert.encoder.layer = model.bert.encoder.layer[:layers]
    model.config.num_hidden_layers = layers
    with torch.no_grad():
        model.classifier.weight.copy_(torch.linspace(-1, 1, model.config.hidden_size).unsqueeze(0))
        model.classifier.bias.fill_(2.5)
    save_checkpoint(model.eval(), AutoTokenizer.from_pretrained(base), folder)
    return folder


def add_version(home: Path, checkpoint: Path, *, name: str = "sts", passed: bool = True, mark: str = "") -> registry.Version:
    """Register a copy of a checkpoint; `mark` is appended to its configuration and makes its digest differ."""
    candidate = registry.staging_folder(home) / "candidate"
    shutil.copytree(checkpoint, candidate)
    config = candidate / "config.json"
    config.write_text(config.read_text() + mark)
    card = {"recipe": "reference", "base_model": "tiny", "parent": None, "gate": PASSED | {"passed": passed}}
    return registry.register(home, name, candidate, card)


def made_from_plan(plan: RefreshPlan, bert: Path, home: Path) -> registry.Version:
    """Register what a refresh by this plan would leave behind when the gate lets its model pass."""
    candidate = registry.staging_folder(home) / "candidate"
    made = add_version(home, bert, mark=" ")
    parent = (registry.champions(home)["stack"] or [None])[-1]
    labels = {"source": "labels", "sha256": plan.labels.fingerprint, "rows": {}, "test_pairs_in_train_or_val": 0}
    plans = {"made_from": plan.fingerprint, "judged_by": plan.judged_by}
    card = made.card | plans | {"parent": parent, "labels": labels, "gate": PASSED}
    made.path.rename(candidate)
    pl.DataFrame(schema=SCHEMA).write_parquet(candidate / registry.METRICS)
    return registry.register(home, "sts", candidate, card)


def make_champion(home: Path, checkpoint: Path) -> None:
    """Make a checkpoint the champion, with a report of no rows, since nobody measured it."""
    version = add_version(home, checkpoint)
    pl.DataFrame(schema=SCHEMA).write_parquet(version.path / registry.METRICS)
    registry.promote(home, version, "test")


def tokenized(ids: np.ndarray, offsets: np.ndarray) -> TokenizedPairs:
    """Return pairs of the given token ids (tokens,), none cut, empty or unknown; odd ids are on the right."""
    none = np.zeros(len(offsets) - 1, bool)
    return TokenizedPairs(ids, (ids % 2).astype(np.int8), offsets, none, none, none.astype(np.int64), 0)


def write_file(path: Path, rows: int = 20, seed: int = 0, **columns: object) -> Path:
    """Write pairs without labels in row groups of ten, with further columns; make the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    make_pairs(rows, seed).drop("label").with_columns(**columns).write_parquet(path, row_group_size=10)
    return path
