"""A guest signs up, writes, refreshes, and signs out."""

from examples.flask_plain.app import create_app


def test_a_guest_writes_and_signs_out(tmp_path):
    app = create_app(DATABASE=str(tmp_path / "guests.db"), JWT_SECRET_KEY="a secret for this example's tests")
    client = app.test_client()
    ada = {"name": "ada", "password": "analytical"}
    assert client.post("/guests", json=ada).status_code == 201
    assert client.post("/guests", json=ada).status_code == 409
    assert client.post("/login", json={**ada, "password": "wrong"}).status_code == 401
    pair = client.post("/login", json=ada).get_json()

    def bearer(token):
        return {"Authorization": f"Bearer {token}"}

    assert client.post("/entries", json={"text": "Fine engine"}).status_code == 401
    written = client.post("/entries", json={"text": "Fine engine"}, headers=bearer(pair["access_token"]))
    assert written.status_code == 201
    assert client.get("/entries").get_json() == {
        "reader": None,
        "entries": [{"name": "ada", "text": "Fine engine"}],
    }
    second = client.post("/refresh", headers=bearer(pair["refresh_token"])).get_json()
    assert client.get("/entries", headers=bearer(second["access_token"])).get_json()["reader"] == "ada"
    assert client.post("/logout", headers=bearer(second["access_token"])).status_code == 200
    for used in (pair["access_token"], second["access_token"]):
        assert client.get("/entries", headers=bearer(used)).get_json()["code"] == "token_revoked"
    assert client.post("/refresh", headers=bearer(second["refresh_token"])).status_code == 401
