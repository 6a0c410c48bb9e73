"""A tiny world and a quick fit of it; one thread for torch, because these nets are too small to share out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tailwise.config import PipelineConfig, Settings, Step
from tailwise.data.catalogue import Catalogue
from tailwise.data.interactions import Interactions, Training
from tailwise.data.load import Dataset
from tailwise.data.synthetic import make_world
from tailwise.learn.search import Search
from tailwise.learn.space import space_of
from tailwise.pipeline import Engine
from tailwise.pipeline.binding import Bound
from tailwise.types import Floats, Request, Rows, Slate

ITEMS, PEOPLE = 30, 400
World = tuple[Training, Engine]


@pytest.fixture(scope="module")
def data() -> Dataset:
    return make_world(users=40, items=48, events_per_user=10, groups=4, requests=1, seed=3).dataset


@pytest.fixture
def fitted(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Engine]:
    """``fit`` with a cache of its own and one thread; by default the pipeline ``QUICK`` of the test's module."""
    from tailwise.learn.fit import fit

    settings, quick = Settings(cache=tmp_path / "cache", threads=1), request.module.QUICK
    return lambda data, config=quick, **more: fit(data, config, settings=settings, **more)


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    torch = pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Opinion:
    """A source with an opinion of every item for every person, told apart by the time of their only event."""

    def __init__(self, catalogue: Catalogue, scores_of: Floats) -> None:
        self.catalogue, self.scores_of = catalogue, scores_of

    def __call__(self, request: Request, k: int) -> Slate:
        scores = self.scores(request, np.arange(ITEMS))
        rows = np.argsort(-scores, kind="stable")[:k]
        return Slate(self.catalogue.item_ids[rows], scores[rows], {"row": rows})

    def scores(self, request: Request, rows: Rows) -> Floats:
        return np.where(rows >= 0, self.scores_of[int(request.past.times[0])][rows], np.float32("nan"))


def world(opinions: list[Floats], targets: Rows) -> World:
    """Everybody had item 0 at a time of their own; what they take next is given."""
    events = pl.DataFrame(
        {"user_id": [f"u{p:04d}" for p in range(PEOPLE)], "item_id": "i00", "time": np.arange(PEOPLE, dtype=np.float64)}
    )
    nothing = np.zeros(ITEMS, np.float32)
    frame = pl.DataFrame({"item_id": [f"i{row:02d}" for row in range(ITEMS)]})
    catalogue = Catalogue(frame, popularity=nothing, recent=nothing, vectors=np.zeros((ITEMS, 1)), tail_cut=0.2)
    interactions = Interactions.of(Dataset.of("people", events=events).events, catalogue)
    config = PipelineConfig(retrieve=tuple(Step(name=f"s{n}", k=ITEMS) for n in range(len(opinions))), stage=())
    sources = tuple(
        Bound(step.name, step, Opinion(catalogue, own)) for step, own in zip(config.retrieve, opinions, strict=True)
    )
    training = Training(interactions, catalogue, 0, exclude_seen=False, targets=targets)
    return training, Engine(config, catalogue, interactions, sources, (), {})


def opinions(seed: int = 0) -> list[Floats]:
    random = np.random.default_rng(seed)
    return [random.standard_normal((PEOPLE, ITEMS)).astype(np.float32) for _ in range(2)]


@pytest.fixture
def where_they_differ() -> World:
    """People take what the first likes and the second does not: no order by a sum of both gives that."""
    first, second = opinions()
    return world([first, second], (first - second).argmax(1))


@pytest.fixture
def where_the_order_says_all() -> World:
    """People take each item with the chance that the only source gives it."""
    first, _ = opinions()
    chance = np.exp(2 * first) / np.exp(2 * first).sum(1, keepdims=True)
    drawn = np.random.default_rng(5)
    return world([first], np.array([drawn.choice(ITEMS, p=own) for own in chance]))


@pytest.fixture
def where_the_first_is_right() -> World:
    """People take what the only source finds best."""
    first, _ = opinions()
    return world([first], first.argmax(1))


@pytest.fixture
def where_nothing_tells() -> World:
    """What people take has nothing to do with what the only source says."""
    first, _ = opinions()
    return world([first], np.random.default_rng(1).integers(0, ITEMS, PEOPLE))


@pytest.fixture
def long_histories() -> World:
    """30 people with 60 events each, the last ones held out, and what is popular as the only source."""
    from tailwise.data.holdout import hold_out
    from tailwise.retrieve.popular import Popular, PopularConfig

    dataset = make_world(users=30, items=150, events_per_user=60, groups=4, requests=1, seed=3).dataset
    frame, nothing = dataset.items.select("item_id"), np.zeros(dataset.items.height, np.float32)
    catalogue = Catalogue(frame, popularity=nothing, recent=nothing, vectors=nothing[:, None], tail_cut=0.2)
    inner, held = hold_out(Interactions.of(dataset.events, catalogue), seed=0)
    training = Training(inner, catalogue, 0, held=held)
    step = Step(name="popular", k=80)
    source = Bound("popular", step, Popular.fit(PopularConfig(), training))
    return training, Engine(PipelineConfig(retrieve=(step,), stage=()), catalogue, inner, (source,), (), {})


SAID = ("great", "lovely", "awful", "poor", "film", "shoe", "find", "compare", "the", "a", "is", "toy", "story", "heat")


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of two layers that knows the words ``SAID``, as a folder."""
    torch = pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")
    transformers = pytest.importorskip("transformers", reason="needs transformers: pip install 'tailwise[language]'")
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *SAID)
    raw = Tokenizer(models.WordLevel({word: code for code, word in enumerate(words)}, unk_token="[UNK]"))
    raw.normalizer, raw.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    raw.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = {name: f"[{name[:-6].upper()}]" for name in ("pad_token", "unk_token", "cls_token", "sep_token")}
    folder = tmp_path_factory.mktemp("models") / "bert"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        config = transformers.BertConfig(
            vocab_size=len(words),
            pad_token_id=0,
            max_position_embeddings=40,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=48,
        )
        transformers.BertModel(config).save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(tokenizer_object=raw, mask_token="[MASK]", **names).save_pretrained(folder)
    return folder


@pytest.fixture
def search(data: Dataset, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Search]:
    """A search on the tiny world; by default of the pipeline ``QUICK`` of the test's module."""
    settings = Settings(cache=tmp_path / "cache", threads=1)

    def make(config: PipelineConfig = request.module.QUICK) -> Search:
        space = space_of(config)
        return Search(data, config, space, tmp_path / "out" / "best.sqlite", tmp_path / "best.toml", 0, settings)

    return make
