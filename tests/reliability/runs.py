"""Scoring in this process with an engine that takes no time."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stsb_batch.requests import ScoreRequest
from stsb_batch.scoring.finish import ScoreOutcome
from stsb_batch.scoring.job import score_dataset
from stsb_batch.settings import load_settings


def score(location: Path, model: Path, output: Path | None = None, **options) -> ScoreOutcome:
    options = {"max_bad_rows": 1.0} | options
    return score_dataset(
        ScoreRequest(str(location), str(output) if output else None, model=str(model), settings=load_settings(), **options)
    )


def score_table(table: pa.Table, model: Path, tmp_path: Path, **options) -> pa.Table:
    pq.write_table(table, tmp_path / "in.parquet")
    outcome = score(tmp_path / "in.parquet", model, **options)
    return pq.ParquetFile(outcome.target.single).read()
