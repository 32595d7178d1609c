"""Quart and Tortoise: a shelf of books that its owner sees. The same with another async ORM."""
