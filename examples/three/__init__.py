"""One small application on Flask-JWT-Extended, on Flask with async_jwt, and on Quart."""
