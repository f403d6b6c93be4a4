from __future__ import annotations

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from sella_rec.model.ranker import Request


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    return TestClient(app, base_url="http://127.0.0.1")


def test_all_arms_rank_the_candidates_that_the_crowd_chose(client, ranker):
    user_id = ranker.bundle.users["user_id"][0]
    arms = client.post("/recommend", json={"user_id": user_id, "top": 50}).json()["arms"]
    (retrieved,) = ranker.rank([Request(user_id)], top_n=12, arm="collab")
    assert [row["item_id"] for row in arms["collab"]] == retrieved.item_ids
    for arm, rows in arms.items():
        assert {row["item_id"] for row in rows} == set(retrieved.item_ids)
        assert [row["rank"] for row in rows] == list(range(1, 13))
        assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
        (alone,) = ranker.rank([Request(user_id, candidates=(rows[0]["item_id"],))], arm=arm)
        assert rows[0]["score"] == pytest.approx(alone.scores[0], abs=1e-4)


def test_somebody_new_is_not_recommended_what_they_named(client, ranker):
    liked = ranker.bundle.items["title"].to_list()[1:4]
    answer = client.post("/recommend", json={"history": [*liked, "A title nobody knows"], "top": 5}).json()
    for rows in answer["arms"].values():
        assert len(rows) == 5
        assert not {row["title"] for row in rows} & set(liked)


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        ({"user_id": "nobody"}, 400, "user nobody is not known"),
        ({}, 400, "give user_id or history, not both"),
        ({"user_id": "1", "history": ["x"]}, 400, "give user_id or history, not both"),
        ({"history": ["  "]}, 400, "history[0]: empty"),
        ({"history": ["x"], "top": 0}, 422, "top"),
        ({"history": ["x" * 501]}, 422, "history"),
    ],
)
def test_what_cannot_be_answered_is_told(client, asked, status, said):
    answer = client.post("/recommend", json=asked)
    assert answer.status_code == status
    assert said in answer.text


def test_users_and_titles_are_suggested(client, ranker):
    users = client.get("/users", params={"q": "1"}).json()
    assert users
    assert all(user["user_id"].startswith("1") for user in users)
    title = ranker.bundle.items["title"][5]
    assert title in client.get("/items", params={"q": title.upper()}).json()
    assert client.get("/items", params={"q": "no such title ("}).json() == []


def test_a_users_likes_are_titles_in_their_order(client, ranker):
    known = ranker.bundle.users.row(0, named=True)
    titles = dict(ranker.bundle.items.select("item_id", "title").iter_rows())
    said = client.get(f"/users/{known['user_id']}").json()
    assert said["history"] == [titles[item_id] for item_id in known["history"]]
    assert client.get("/users/nobody").status_code == 404


def test_only_this_machine_by_its_own_name_and_nothing_inline(client):
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 400
    page = client.get("/")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert page.headers["Content-Type"].startswith("text/html")
    assert "onclick" not in page.text
    assert client.get("/page.js").headers["Content-Type"].startswith("text/javascript")
