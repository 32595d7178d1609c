"""An optional copy of all revocations in the memory of each process. Needs the `mirror` extra."""
