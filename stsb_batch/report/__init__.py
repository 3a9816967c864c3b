"""Figures about scores: mergeable statistics, regression metrics, the tidy report, tables for people."""
