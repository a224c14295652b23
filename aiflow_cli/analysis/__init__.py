"""Metrics, closed forms, figures: reads results, starts nothing."""
