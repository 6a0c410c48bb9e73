"""What explanations call things."""

from dataclasses import replace

import polars as pl

from tailwise.data.catalogue import Catalogue
from tailwise.pipeline import Engine
from tailwise.pipeline.explain import explain
from tailwise.types import Request


def test_items_are_called_in_the_language_of_who_reads(tiny_engine: Engine) -> None:
    own, request = tiny_engine.catalogue, Request("r", user_id=str(tiny_engine.people.user_ids[0]), k=3)
    frame = own.frame.with_columns(title_zh=pl.concat_str(pl.lit("片"), "item_id"))
    counts = {"popularity": own.popularity, "recent": own.decayed, "vectors": own.vectors, "tail_cut": own.tail_cut}
    engine = replace(tiny_engine, catalogue=Catalogue(frame, **counts))

    told = explain(engine, replace(request, context={"locale": "zh"})).items

    assert [item.title for item in told] == [f"片{item.item_id}" for item in told]
    assert {one.title[0] for item in told for one in item.history} == {"片"}
    assert {title[0] for item in told if item.without for title in item.without.titles} == {"片"}
    assert all(not item.title.startswith("片") for item in explain(engine, request).items)


def test_why_an_item_is_missing_is_said_in_the_language_of_who_reads(tiny_engine: Engine) -> None:
    request = Request("r", user_id=str(tiny_engine.people.user_ids[0]), k=3)
    chinese = replace(request, context={"locale": "zh-CN"})

    (english,), (told,) = (explain(tiny_engine, own, "nothing-like-it").items for own in (request, chinese))

    assert english.title == told.title == "nothing-like-it"
    assert english.missing is not None
    assert english.missing.text == "the model knows no item with this id"
    assert told.missing is not None
    assert (told.missing.why, told.missing.text) == ("unknown", "模型不认识这个编号的物品")
