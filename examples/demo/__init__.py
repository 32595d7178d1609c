"""A small Quart application under Hypercorn, and a tour of it: `python -m examples.demo`."""
