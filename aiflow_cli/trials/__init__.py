"""Experiments: what they are, their schedule and runner, the store of results, and what is told of their origin."""
