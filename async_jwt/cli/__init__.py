"""The command line: `flask jwt` and `quart jwt`."""
