"""Runs the benchmarks, prints their tables and keeps them in `benchmarks/results/`."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import sys
import time

from benchmarks.budgets import keep_budgets
from benchmarks.report import keep, surroundings

CASES = ("codec", "issuing", "steps", "request", "revocation", "sessions", "growth", "mirror", "memory")


def main() -> int:
    """Run the named cases, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], help="which to run; all by default")
    names = parser.parse_args().cases or CASES
    logging.getLogger("async_jwt").setLevel(logging.CRITICAL)  # of outages that are made on purpose
    where = surroundings()
    for name in names:
        module = importlib.import_module(f"benchmarks.{name}")
        started = time.monotonic()
        rows = asyncio.run(module.run())
        print(f"# {name}\n\n{keep(name, (module.__doc__ or '').strip(), rows, where)}")
        print(f"({name} took {time.monotonic() - started:.0f} s)\n", file=sys.stderr)
    print(f"# What was to be reached\n\n{keep_budgets()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
