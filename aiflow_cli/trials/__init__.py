"""Experiments: what they are, their schedule and runner, the store of results, and what is recorded of where they come
from.
"""
