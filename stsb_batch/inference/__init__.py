"""Text in, scores out: tokens, batches, engines. Knows nothing of files of pairs."""
