"""Sphinx: the guide, and a reference that is made from the code."""

from __future__ import annotations

import sys
from pathlib import Path

import async_jwt

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "async_jwt"
author = "The async_jwt developers"
project_copyright = "2026, The async_jwt developers"
version = release = async_jwt.__version__

extensions = ["myst_parser", "sphinx_design", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "house_tables"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"async_jwt {release}"
smartquotes = False  # the guide quotes settings and headers letter by letter

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# Docstrings name things in single backquotes: they are code.
default_role = "code"
