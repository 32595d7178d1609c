"""A shop with two kinds of users: customers with bearer tokens, staff with cookies."""
