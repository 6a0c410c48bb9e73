"""A help desk where people call things by other names than the articles do: what they type must find them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

pytest.importorskip("scipy", reason="needs scipy: pip install 'tailwise[train]'")

from tailwise.config import EncodeConfig, PipelineConfig, Settings, Step
from tailwise.data.catalogue import Catalogue
from tailwise.data.interactions import Interactions, Training
from tailwise.data.load import Dataset
from tailwise.learn import relearn
from tailwise.learn.arrivals import events_of, plain_events, together
from tailwise.learn.asked import LEAST_EVENTS, with_words
from tailwise.learn.counts import Counts
from tailwise.learn.fit import fit
from tailwise.learn.prequential import fresh_cases
from tailwise.learn.relearn import Lesson
from tailwise.learn.replay import Replay
from tailwise.pipeline import Engine
from tailwise.rank.fusion import Fusion
from tailwise.retrieve.words import TYPED_WORDS, TYPISTS, Words, WordsConfig
from tailwise.types import Request

ARTICLES, PEOPLE, EACH = 40, 150, 6
SHORT = PipelineConfig(
    encode=EncodeConfig(model="hash"),
    retrieve=(Step(name="popular", k=40), Step(name="words", k=40)),
    stage=(Step(name="fusion"),),
)


def desk(*, typed: bool) -> Dataset:
    """Article n is called ``official<n>`` and asked for as ``folk<n>``, now and then as ``nick<n>``."""
    rng = np.random.default_rng(0)
    wanted = rng.choice(ARTICLES, PEOPLE * EACH, p=np.arange(1, ARTICLES + 1) / sum(range(1, ARTICLES + 1)))
    names = np.where(rng.random(len(wanted)) < 0.8, "folk", "nick")
    events = pl.DataFrame(
        {
            "user_id": np.repeat([f"u{n:03d}" for n in range(PEOPLE)], EACH),
            "item_id": [f"a{n:02d}" for n in wanted],
            "time": 1.7e9 + rng.permutation(len(wanted)) * 3_600.0,
            "query": [f"my {name}{n} is broken" for name, n in zip(names, wanted, strict=True)],
        }
    )
    items = pl.DataFrame(
        {"item_id": [f"a{n:02d}" for n in range(ARTICLES)], "title": [f"official{n} guide" for n in range(ARTICLES)]}
    )
    return Dataset.of("desk", events=events if typed else events.drop("query"), items=items)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return fit(desk(typed=True), SHORT, settings=Settings(cache=tmp_path_factory.mktemp("cache"), threads=1))


def first(engine: Engine, query: str, **more: object) -> str:
    return str(engine.answer(Request("r", query=query, k=3, **more)).slate.item_ids[0])  # type: ignore[arg-type]


def test_what_people_typed_finds_the_item_again(engine: Engine, tmp_path: Path) -> None:
    typists = desk(typed=True).events.filter(pl.col("query").str.contains("folk")).group_by("item_id")
    people = dict(typists.agg(pl.col("user_id").n_unique()).iter_rows())
    known = [n for n in range(ARTICLES) if people.get(f"a{n:02d}", 0) >= TYPISTS]
    assert len(known) > 30
    assert all(first(engine, f"the folk{n} again") == f"a{n:02d}" for n in known)
    assert first(engine, "nick39") == "a39"
    assert first(engine, "official7") == "a07"

    bare = fit(desk(typed=False), SHORT, settings=Settings(cache=tmp_path, threads=1))
    assert np.mean([first(bare, f"the folk{n} again") == f"a{n:02d}" for n in range(ARTICLES)]) < 0.1


def test_a_word_that_few_people_typed_is_not_kept(engine: Engine, tmp_path: Path) -> None:
    data = desk(typed=True)
    secret = pl.when(pl.col("user_id").is_in(["u001", "u002"])).then(pl.lit("folk9 meyer@example.org"))
    told = data.with_events(data.events.with_columns(query=secret.otherwise("query")))

    run = fit(told, SHORT, settings=Settings(cache=tmp_path, threads=1))
    run.save(tmp_path / "model")

    (path,) = (tmp_path / "model").rglob("words.json")
    words = path.read_text(encoding="utf-8")
    assert '"folk39"' in words
    assert "meyer" not in words


def test_weights_with_a_query_are_learned_and_told(engine: Engine) -> None:
    notes = engine.manifest["metrics"]["fusion"]

    assert notes["ndcg@10 with a query (cross-validated)"] > 0.8
    assert notes["ndcg@10 with a query (cross-validated)"] >= notes["ndcg@10 with a query, by set weights"] - 0.05
    assert notes["ndcg@10 fusion (cross-validated)"] < 0.5  # without one it is a guess
    fusion = engine.stages[0].run
    assert fusion.asked["words"] > fusion.asked["popular"]
    assert fusion.weights_for(Request("r", query="x")).tolist() != fusion.weights_for(Request("r")).tolist()


def test_an_explanation_of_a_search_adds_up(engine: Engine) -> None:
    told = engine.explain(request_id="r", query="folk39", k=3)

    first = told.items[0]
    parts = {part.source: part for part in first.sources}
    assert first.item_id == "a39"
    assert parts["words"].weight == pytest.approx(engine.stages[0].run.asked["words"])
    assert sum(part.adds for part in first.sources) == pytest.approx(first.fused, abs=1e-5)

    (stage,) = engine.stages  # with a query another source may count than without
    apart = replace(stage, run=Fusion(stage.run.config, {"popular": 1.0}, {"words": 2.0}))
    parts = replace(engine, stages=(apart,)).explain(request_id="r", query="folk39", k=1).items[0].sources
    assert {part.source: part.weight for part in parts} == {"popular": 0.0, "words": 2.0}


def test_a_model_that_is_opened_finds_the_same(engine: Engine, tmp_path: Path) -> None:
    engine.save(tmp_path / "model")
    again = Engine.open(tmp_path / "model")

    for query in ("folk3", "nick30 broken", "official5 guide"):
        asked = Request("r", query=query, k=10)
        before, after = engine.answer(asked).slate, again.answer(asked).slate
        assert after.item_ids.tolist() == before.item_ids.tolist()
        assert after.scores == pytest.approx(before.scores)
    assert again.sources[1].run.typed == engine.sources[1].run.typed


def test_a_set_weight_of_queries_is_not_learned(tmp_path: Path) -> None:
    fixed = SHORT.model_copy(update={"stage": (Step(name="fusion", settings={"query": 2.0}),)})

    engine = fit(desk(typed=True), fixed, settings=Settings(cache=tmp_path, threads=1))

    assert "ndcg@10 with a query (cross-validated)" not in engine.manifest["metrics"]["fusion"]
    assert engine.stages[0].run.typed is None


def test_who_searches_finds_what_they_had(engine: Engine) -> None:
    had = desk(typed=True).events.filter(user_id="u005")["item_id"].to_list()
    own = f"folk{int(had[0][1:])}"
    hiding = replace(engine, config=engine.config.model_copy(update={"exclude_seen": True}))

    assert first(hiding, own, user_id="u005") == had[0]
    assert first(hiding, own, user_id="u005", exclude_seen=True) != had[0]
    shown = hiding.answer(Request("r", user_id="u005", k=ARTICLES)).slate.item_ids
    assert not {*had} & {*shown}


def test_the_default_pipeline_knows_the_words_of_queries_where_there_are_enough() -> None:
    def config_of(data: Dataset, config: PipelineConfig) -> tuple[str, ...]:
        catalogue = _catalogue(data)
        found = with_words(config, Interactions.of(data.events, catalogue, ("query",)))
        return tuple(step.name for step in found.retrieve)

    usual = tuple(step.name for step in PipelineConfig().retrieve)
    whole = desk(typed=True)
    assert config_of(whole, PipelineConfig()) == (*usual, "words")
    assert config_of(whole, PipelineConfig(max_history=50)) == (*usual, "words")
    assert config_of(desk(typed=False), PipelineConfig()) == usual
    few = whole.with_events(whole.events.head(LEAST_EVENTS - 1))
    assert config_of(few, PipelineConfig()) == usual
    blank = whole.with_events(whole.events.with_columns(query=pl.lit("  ")))
    assert config_of(blank, PipelineConfig()) == usual
    own = PipelineConfig(retrieve=(Step(name="popular", k=10),))
    assert config_of(whole, own) == ("popular",)


def test_a_later_fit_on_events_without_queries_keeps_what_was_typed(engine: Engine) -> None:
    data, run = desk(typed=False), engine.sources[1].run
    assert isinstance(run, Words)
    catalogue = _catalogue(data)
    log = Interactions.of(data.events, catalogue)

    kept = Words.fit(WordsConfig(), Training(log, catalogue, 0, memo={TYPED_WORDS: run.typed}))
    lost = Words.fit(WordsConfig(), Training(log, catalogue, 0))

    assert kept.typed == run.typed
    assert lost.typed == {}
    assert kept(Request("r", query="folk35"), 1).item_ids.tolist() == ["a35"]
    assert len(lost(Request("r", query="folk35"), 1)) == 0


def test_what_was_typed_stays_while_a_model_learns_on(engine: Engine) -> None:
    fresh = desk(typed=False).events.tail(200).with_columns(pl.col("time") + 1e7)
    whole = together(events_of(engine.people, engine.catalogue), plain_events(fresh), engine.catalogue)
    held = fresh_cases(whole, 50, exclude_seen=False)
    known = len(engine.catalogue)
    lesson = Lesson(engine, whole, held, Replay(("popular", "words")), Counts(), 0, 1, None, known)

    runs = relearn._sources(lesson, lesson.training(None, held_out=False), None, None)

    assert runs["words"] is not engine.sources[1].run  # fitted anew
    assert runs["words"].typed == engine.sources[1].run.typed


def _catalogue(data: Dataset) -> Catalogue:
    counts = np.zeros(data.items.height, np.float32)
    return Catalogue(data.items, popularity=counts, recent=counts, vectors=counts[:, None], tail_cut=0.2)
