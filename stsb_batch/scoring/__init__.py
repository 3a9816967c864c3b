"""The scoring job: from a request to committed shards, a report and a manifest."""
