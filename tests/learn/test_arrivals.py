"""What is new in a log: each event once, whatever is read again."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest

from tailwise.data.catalogue import Catalogue
from tailwise.data.interactions import Interactions
from tailwise.data.load import Dataset
from tailwise.errors import DataError
from tailwise.learn.arrivals import Log, arrived, events_of, plain_events, together


def events(*rows: tuple[str, str, float], kind: str = "click") -> pl.DataFrame:
    frame = pl.DataFrame(
        list(rows), schema={"user_id": pl.String, "item_id": pl.String, "time": pl.Float64}, orient="row"
    )
    return Dataset.of("log", events=frame.with_columns(event=pl.lit(kind))).events


def catalogue() -> Catalogue:
    nothing = pl.Series([0.0] * 3).to_numpy()
    frame = pl.DataFrame({"item_id": ["a", "b", "c"]})
    return Catalogue(frame, popularity=nothing, recent=nothing, vectors=nothing[:, None], tail_cut=0.2)


FIRST = events(("u", "a", 1e9), ("u", "b", 1e9 + 2), ("v", "a", 1e9 + 1))


def test_what_a_model_keeps_is_told_as_it_came() -> None:
    people = Interactions.of(FIRST, catalogue())

    told = events_of(people, catalogue())

    assert sorted(told.select("user_id", "item_id", "time", "event").rows()) == sorted(
        FIRST.select("user_id", "item_id", "time", "event").rows()
    )


def test_an_event_that_is_known_or_there_twice_is_not_new() -> None:
    known = events_of(Interactions.of(FIRST, catalogue()), catalogue())
    more = events(("u", "c", 1e9 + 5), ("u", "c", 1e9 + 5), ("w", "a", 1e9))

    new = arrived(plain_events(pl.concat([FIRST, more])), known, 1000)

    assert new.select("user_id", "item_id").rows() == [("w", "a"), ("u", "c")]


def test_the_same_act_of_another_kind_is_new() -> None:
    known = events_of(Interactions.of(FIRST, catalogue()), catalogue())

    new = arrived(plain_events(events(("u", "a", 1e9), kind="purchase")), known, 1000)

    assert new["event"].to_list() == ["purchase"]


def test_kinds_that_are_not_known_are_views() -> None:
    assert plain_events(events(("u", "a", 1e9), kind="glance"))["event"].to_list() == ["view"]


def test_what_is_older_than_all_that_a_full_person_keeps_was_known_once() -> None:
    known = events_of(Interactions.of(FIRST, catalogue()), catalogue())
    older = plain_events(events(("u", "c", 1e9 - 5), ("v", "c", 1e9 - 5)))

    new = arrived(older, known, 2)

    assert new["user_id"].to_list() == ["v"]  # who has fewer than two may have done more before


def test_together_they_are_what_a_fit_would_see_and_tell_what_is_fresh() -> None:
    known = events_of(Interactions.of(FIRST, catalogue()), catalogue())
    more = events(("u", "c", 1e9 + 1), ("w", "a", 1e9))

    whole = together(known, plain_events(more), catalogue())

    at_once = Interactions.of(pl.concat([FIRST, more]).sort("time", "user_id", "item_id"), catalogue())
    assert whole.user_ids.tolist() == at_once.user_ids.tolist()
    assert whole.rows.tolist() == at_once.rows.tolist()
    assert whole.context["fresh"].to_list() == [False, True, False, False, True]


def test_a_log_is_read_once_and_then_its_new_segments_alone(tmp_path: Path) -> None:
    log = Log(tmp_path)
    assert log.read() is None
    FIRST.write_parquet(tmp_path / "events-000000001-aa.parquet")

    first, again = log.read(), log.read()
    events(("w", "c", 1e9 + 9)).write_parquet(tmp_path / "events-000000002-bb.parquet")
    second = log.read()

    assert first is not None
    assert len(first.events) == 3
    assert again is None
    assert second is not None
    assert second.events["user_id"].to_list() == ["w"]


def test_items_that_come_with_a_log_are_read_with_it(tmp_path: Path) -> None:
    FIRST.write_parquet(tmp_path / "events-000000001-aa.parquet")
    log = Log(tmp_path)
    log.read()
    pl.DataFrame({"item_id": ["z"], "title": ["New"]}).write_parquet(tmp_path / "items.parquet")

    found = log.read()

    assert found is not None
    assert found.items["title"].to_list() == ["New"]
    assert len(found.events) == 3


def test_a_data_folder_is_a_log_too(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("user_id,item_id,time\nu,a,1000000000\n")

    found = Log(tmp_path).read()

    assert found is not None
    assert found.events["event"].to_list() == ["view"]


def test_a_log_that_is_not_there_or_broken_says_so(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=rf"^{re.escape(str(tmp_path))}/no is no folder; give the one that tailwise serve"
    ):
        Log(tmp_path / "no").read()
    FIRST.write_parquet(tmp_path / "events-000000001-aa.parquet")
    log = Log(tmp_path)
    log.read()
    (tmp_path / "events-000000002-bb.parquet").write_bytes(b"PAR1 broken")

    with pytest.raises(DataError, match=r"events-000000002-bb\.parquet cannot be read \("):
        log.read()
