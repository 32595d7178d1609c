"""An application whose refresh tokens are rotated."""

from __future__ import annotations


def rotating(app, **options):
    """An application with a view that rotates."""

    @app.api.jwt_required(refresh=True)
    async def rotate():
        pair = await app.api.rotate_refresh_token(**options)
        return {"access": pair.access_token, "refresh": pair.refresh_token, "sid": pair.sid}

    app.view("/rotate", rotate, methods=["POST"])
    return app


async def rotate(app, token, status=200):
    answer = await app.call("/rotate", method="POST", token=token)
    assert answer.status == status, answer.body
    return answer.json
