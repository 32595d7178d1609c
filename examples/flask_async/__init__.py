"""Flask with async views: a client with a pool, shared by all requests on one loop that lasts."""
