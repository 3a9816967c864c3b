"""A starter set of labelled pairs and the small warehouse made from it."""
