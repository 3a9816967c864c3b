"""The start of a scoring job: check the request and cut the work into shards, before anything is loaded or written."""

import datetime as dt
import uuid
from dataclasses import dataclass, field

from stsb_batch.durable import json_sha256
from stsb_batch.models.checkpoint import Checkpoint
from stsb_batch.models.registry import resolve_model
from stsb_batch.pairs import sink, source
from stsb_batch.pairs.schema import CONTRACT_VERSION, Columns
from stsb_batch.pairs.source import Shard
from stsb_batch.scoring.engines import EngineChoice, choose_engine
from stsb_batch.settings import Settings, load_settings


@dataclass(frozen=True)
class ScoreRequest:
    """What the user asks for. Everything that changes a score goes into the shard fingerprints."""

    location: str
    output: str | None = None
    columns: Columns = field(default_factory=Columns)
    model: str = "champion"
    overwrite: bool = False
    settings: Settings = field(default_factory=load_settings)


@dataclass(frozen=True)
class ScorePlan:
    """A checked request: which shards, by which model and engine, to where. Nothing has been written yet."""

    request: ScoreRequest
    target: sink.Target
    shards: list[Shard]
    checkpoint: Checkpoint
    choice: EngineChoice
    max_length: int
    run_id: str
    started: dt.datetime

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self.shards)


def plan_score(request: ScoreRequest) -> ScorePlan:
    """Check input, columns, output and model, and cut the work into shards. Reads footers only; loads no model."""
    settings = request.settings
    target = sink.choose_target(request.location, request.output) if request.output else None
    sources = source.inspect_files(source.find_files(request.location), request.columns)
    target = target or sink.choose_target(request.location, None)
    sink.check_target(target, sources)
    checkpoint = resolve_model(settings.home, request.model, timeout=settings.hub_timeout)
    choice = choose_engine(settings.engine, settings.precision)
    max_length = min(settings.max_length, checkpoint.max_length)
    common = {
        "contract": CONTRACT_VERSION,
        "columns": [request.columns.left, request.columns.right, request.columns.keep, request.columns.score],
        "digest": checkpoint.digest,
        "max_length": max_length,
        "engine": [choice.engine, choice.device, choice.precision],
    }
    shards = []
    for file in sources:
        spans = [tuple(range(len(file.row_groups)))] if target.single else source.cut_row_groups(file, settings.shard_rows)
        for index, span in enumerate(spans):
            identity = {**common, "input": file.identity(), "row_groups": span}
            shards.append(Shard(file, span, sink.output_name(file, index, len(spans)), json_sha256(identity)))
    return ScorePlan(request, target, shards, checkpoint, choice, max_length, uuid.uuid4().hex, dt.datetime.now(dt.UTC))
