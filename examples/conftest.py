"""The examples' own tests, with the fixtures that every application may use."""

pytest_plugins = ["async_jwt.pytest_plugin"]
