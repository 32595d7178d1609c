"""What happens to one request. No framework, no redis, no event loop of its own."""
