"""The core: authenticates one request. No framework, no Redis, no event loop of its own."""
