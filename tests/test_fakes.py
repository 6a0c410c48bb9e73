from __future__ import annotations

import numpy as np

from tailwise.fakes import DictFacts, FixedRetriever, HashEncoder, Reverse
from tailwise.types import Request, Retriever, Stage, ids_of

ANYONE = Request("anyone")


def test_the_hash_encoder_gives_unit_rows_and_zero_for_nothing() -> None:
    rows = HashEncoder(16).encode(["a red fox", "A RED fox", "", "\ud800 odd"])

    assert rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), [1, 1, 0, 1])
    assert (rows[0] == rows[1]).all()


def test_the_fakes_keep_the_protocols() -> None:
    fixed = FixedRetriever(("a", "b", "c"))

    assert isinstance(fixed, Retriever)
    assert isinstance(Reverse(), Stage)
    assert not isinstance(Reverse(), Retriever)
    assert fixed(ANYONE, 2).item_ids.tolist() == ["a", "b"]
    assert fixed(ANYONE, 9).scores.tolist() == fixed.scores(ANYONE, np.arange(3)).tolist()
    assert fixed(Request("r", excluded=np.array([1])), 9).columns["row"].tolist() == [0, 2]
    assert np.isnan(fixed.scores(ANYONE, np.array([-1]))).all()
    assert Reverse()(ANYONE, fixed(ANYONE, 3)).item_ids.tolist() == ["c", "b", "a"]


def test_dict_facts_line_up_with_the_items_asked_for() -> None:
    facts = DictFacts({"year": {"a": 1999, "b": 2001}})

    assert facts.item_ids.tolist() == ["a", "b"]
    assert facts.names == {"year"}
    assert facts.columns(ids_of(["b", "x"]), facts.names)["year"].tolist() == [2001, None]


def test_the_hash_encoder_tells_chinese_texts_apart_by_their_signs() -> None:
    query, near, far = HashEncoder(256).encode(["讲火箭", "火箭的故事", "钢琴基础教程"])

    assert query @ near > 0.4 > abs(query @ far)
