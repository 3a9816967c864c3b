"""The rows of a scored input that have a label, for the metrics of the run's report."""

import logging
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from stsb_batch.errors import escape_control
from stsb_batch.pairs import source
from stsb_batch.pairs.label_scale import doubt, is_on_scale, map_labels
from stsb_batch.pairs.quarantine import quarantined_rows
from stsb_batch.pairs.schema import find_label
from stsb_batch.scoring.plan import ScorePlan

log = logging.getLogger(__name__)


def labelled_scores(plan: ScorePlan) -> dict:
    """Read labels from the input and scores from the output, row by row the same; nothing where no file has a label."""
    found, columns = [], plan.request.columns
    for shard in plan.shards:
        label = find_label(shard.source.schema, columns)
        if label is None:
            if shard.source.schema.names.count("label") == 1 and not shard.first_row:
                kind = shard.source.schema.field("label").type
                log.warning(
                    "%s: column 'label' is %s, not a number: no metrics", escape_control(shard.source.relative), kind
                )
            continue
        labels = [window.rows.column(label).cast(pa.float32(), safe=False) for window in source.read_windows(shard, [label])]
        source.check_unchanged(shard.source)
        scores = pq.ParquetFile(plan.target.path(shard.output)).read([columns.score])[columns.score]
        label_of_row = np.delete(pa.chunked_array(labels, pa.float32()).to_numpy(), quarantined_rows(plan.target, shard))
        found.append(pl.DataFrame({"label": label_of_row, "score": scores}, nan_to_null=True))
    if not found:
        return {}
    frame = pl.concat(found)
    if why := doubt(frame["label"].to_numpy(), columns.label_scale):
        log.warning("%s: %s", escape_control(Path(plan.request.location).name), why)
    has_label = is_on_scale(frame["label"], columns.label_scale).fill_null(False)
    usable = frame.filter(has_label & frame["score"].is_not_null())
    usable = usable.with_columns(map_labels(usable["label"], columns.label_scale))
    return {"labelled": usable, "left_out": int((~has_label).sum())}
