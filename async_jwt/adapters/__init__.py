"""One module per framework, such as `async_jwt.adapters.quart`. All export the same public names."""
