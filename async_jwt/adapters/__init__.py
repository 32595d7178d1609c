"""One module per framework, with the same public names: `async_jwt.adapters.quart`."""
