"""Hypercorn with several workers and a Redis-protocol server: `python -m examples.workers` starts both."""
