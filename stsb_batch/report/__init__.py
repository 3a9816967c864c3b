"""Figures about scores: mergeable sketches, regression metrics, drift, the tidy report, charts and pages."""
