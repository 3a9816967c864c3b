"""The scored pairs as a Dagster asset: `dagster asset materialize -f dagster_asset.py --select scored_pairs`.

Many rows without a score, and files left out, are logged as a warning. Output that another run holds is tried again; every
other error of stsb-batch fails the run with its message. The folders come from PAIRS and SCORES in the environment.
"""

import os

import dagster as dg

import stsb_batch


@dg.asset
def scored_pairs(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """Sentence pairs with `score` and `score_status`, by the champion."""
    try:
        outcome = stsb_batch.score(os.environ["PAIRS"], os.environ["SCORES"])
    except stsb_batch.BusyError as error:
        raise dg.RetryRequested(max_retries=3, seconds_to_wait=600) from error
    if warning := outcome.explain():
        context.log.warning(warning)
    counts = {"rows": outcome.rows, "rows_without_score": outcome.bad_rows, "files_left_out": len(outcome.bad_files)}
    return dg.MaterializeResult(metadata=counts)


definitions = dg.Definitions(assets=[scored_pairs])
