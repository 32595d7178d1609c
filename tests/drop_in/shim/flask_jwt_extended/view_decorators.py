"""The functions, under the same names."""

from async_jwt.adapters.flask_sync import *
