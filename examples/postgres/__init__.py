"""Quart and PostgreSQL: sign up, sign in, notes of one's own. SQLAlchemy's asyncio, and its user loader."""
