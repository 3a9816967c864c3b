"""Run dates, backfill and deadlines. Knows no Prefect."""
