"""What explanations call things."""

from dataclasses import replace

from tailwise.pipeline import Engine
from tailwise.pipeline.explain import explain
from tailwise.types import Request


def test_why_an_item_is_missing_is_said_in_the_language_of_who_reads(tiny_engine: Engine) -> None:
    request = Request("r", user_id=str(tiny_engine.people.user_ids[0]), k=3)
    chinese = replace(request, context={"locale": "zh-CN"})

    (english,), (told,) = (explain(tiny_engine, own, "nothing-like-it").items for own in (request, chinese))

    assert english.title == told.title == "nothing-like-it"
    assert english.missing is not None
    assert english.missing.text == "the model knows no item with this id"
    assert told.missing is not None
    assert (told.missing.why, told.missing.text) == ("unknown", "模型不认识这个编号的物品")
