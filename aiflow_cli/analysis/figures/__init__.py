"""Figures of results: each drawn from what `analysis` computed, and written with its data beside it."""
