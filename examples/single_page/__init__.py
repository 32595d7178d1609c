"""A page in a browser: tokens in cookies that script cannot read, and CSRF values."""
