from pathlib import Path

import numpy as np
from fastapi import FastAPI
from starlette.testclient import TestClient

from tailwise.pipeline import Engine
from tailwise.serve.app import create_app
from tailwise.serve.insights import Reach
from tailwise.serve.service import Service


def test_people_are_counted_once_however_often_they_come(engine: Engine) -> None:
    told = Reach(engine).told(2, 96)

    people, rows = engine.people.users, engine.people.rows
    slowly = {
        row: len({p for p, r in zip(people.tolist(), rows.tolist(), strict=True) if r == row}) for row in range(96)
    }
    wanted = {f"i{row}": count for row, count in slowly.items() if count >= 2}
    assert {item.item_id: item.people for item in told.items} == wanted
    assert told.left_out == sum(count == 1 for count in slowly.values())
    assert told.people == 24


def test_labels_are_counted_by_person_too(engine: Engine) -> None:
    told = Reach(engine).told(2, 5)

    hot = engine.catalogue.at(np.arange(96), ["genres"])["genres"]
    for place, label in enumerate(engine.catalogue.labels["genres"]):
        met = {p for p, r in zip(engine.people.users, engine.people.rows, strict=True) if hot[r, place]}
        assert told.labels["genres"].get(label, 0) == (len(met) if len(met) >= 2 else 0)


def test_nothing_is_told_of_fewer_than_a_crowd(app: FastAPI, engine: Engine) -> None:
    with TestClient(app) as client:
        ten = client.get("/v1/insights?limit=1000").json()
    crowd = Service(model=Path(), least_people=25)
    with TestClient(create_app(engine, crowd)) as client:
        more = client.get("/v1/insights").json()

    assert ten["least_people"] == 10
    assert ten["items"]
    assert all(item["people"] >= 10 for item in ten["items"])
    assert all(count >= 10 for counts in ten["labels"].values() for count in counts.values())
    assert more["people"] is None
    assert more["items"] == []
    assert more["labels"] == {"genres": {}}
