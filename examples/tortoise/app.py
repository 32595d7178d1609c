"""A shelf of books, over Tortoise. `quart --app examples.tortoise.app run`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from quart import Quart, request
from tortoise import Tortoise, fields
from tortoise.models import Model

from async_jwt.adapters.quart import JWTManager, create_access_token, current_user, jwt_required


class Reader(Model):
    id = fields.IntField(primary_key=True)
    name = fields.CharField(max_length=50, unique=True)


class Book(Model):
    id = fields.IntField(primary_key=True)
    title = fields.CharField(max_length=200)
    reader: Any = fields.ForeignKeyField("models.Reader", related_name="books")


def create_app(**config: Any) -> Quart:
    app = Quart(__name__)
    app.config["DATABASE"] = "sqlite://books.db"
    app.config.from_prefixed_env()
    app.config.update(config)
    jwt = JWTManager(app)

    @app.while_serving
    async def database() -> AsyncIterator[None]:
        # Tortoise keeps its connections in the context: requests run in tasks of their own.
        await Tortoise.init(
            db_url=app.config["DATABASE"], modules={"models": [__name__]}, _enable_global_fallback=True
        )
        await Tortoise.generate_schemas()
        yield
        await Tortoise.close_connections()

    @jwt.user_lookup_loader
    async def load_reader(_header: dict[str, Any], claims: dict[str, Any]) -> Reader | None:
        return await Reader.get_or_none(id=int(claims["sub"]))

    @app.post("/login")
    async def login() -> Any:
        sent = await request.get_json()  # and a password, in an application that is not an example
        reader, _ = await Reader.get_or_create(name=sent["name"])
        return {"access_token": await create_access_token(str(reader.id))}

    @app.get("/books")
    @jwt_required()
    async def books() -> Any:
        return {"reader": current_user.name, "books": [book.title async for book in current_user.books]}

    @app.post("/books")
    @jwt_required()
    async def read() -> Any:
        sent = await request.get_json()
        await Book.create(title=sent["title"], reader_id=current_user.id)
        return {"msg": "On the shelf"}, 201

    return app
