"""Two services share keys: one signs and publishes a JWKS document, the other fetches it."""
