"""The demo: a starter set of labelled pairs, a small warehouse made from it, and the nightly chain on it."""
