"""A dbt Python model for dbt-duckdb: save it as models/scored_pairs.py beside a model `pairs`.

The table is held in memory; score what is larger as Parquet with `stsb-batch score`.
"""

import pyarrow as pa

from stsb_batch import Scorer


def model(dbt, session):
    dbt.config(materialized="table")
    pairs = dbt.ref("pairs").to_arrow_table()
    with Scorer.open("champion") as scorer:
        found = scorer.score(pairs["sentence1"], pairs["sentence2"])
    scores = pa.array(found.scores, from_pandas=True)  # NaN, which is no score, becomes null
    return pairs.append_column("score", scores).append_column("score_status", pa.array(found.statuses))
