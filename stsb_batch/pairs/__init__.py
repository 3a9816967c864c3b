"""The warehouse side: which columns and statuses there are, how Parquet is found and read, how output is committed."""
