"""Examples of applications that use async_jwt."""
