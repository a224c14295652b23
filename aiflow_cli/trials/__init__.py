"""Experiments: settings, the live runner, the store of results, provenance."""
