"""Score sentence pairs in a data warehouse with a cross-encoder the team tunes itself."""

__version__ = "0.2.0"
