"""The exceptions, under the same names."""

from async_jwt.errors import *
