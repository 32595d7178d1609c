"""A revocation store of one's own: the database that is there already, instead of Redis."""
