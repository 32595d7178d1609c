"""Measurements: `python -m benchmarks [case ...]`."""
