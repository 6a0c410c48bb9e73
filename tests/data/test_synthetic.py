"""The world keeps its word: what is drawn follows the truth that it tells."""

import numpy as np
import polars as pl
import pytest

from tailwise.data.schema import check_across, check_events, check_graph, check_items
from tailwise.data.synthetic import EXPLORE, FOLLOW, SLOTS, World, make_world
from tailwise.errors import ConfigError
from tailwise.fakes import HashEncoder


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(users=400, items=60, events_per_user=25, groups=4, requests=20_000, seed=3)


def test_the_same_seed_gives_identical_frames_and_another_does_not() -> None:
    one, two, other = (make_world(seed=seed) for seed in (5, 5, 6))

    assert one.logs.equals(two.logs)
    for kind, frame in one.dataset.tables().items():
        assert frame.equals(two.dataset.tables()[kind])
        assert kind == "graph" or not frame.equals(other.dataset.tables()[kind])


def test_without_text_all_else_is_the_same() -> None:
    full, bare = make_world(seed=1), make_world(seed=1, text=False)

    assert bare.dataset.events.equals(full.dataset.events)
    assert bare.logs.equals(full.logs)
    assert bare.dataset.items.equals(full.dataset.items.drop("title", "description"))


def test_its_data_pass_every_check(world: World) -> None:
    tables = world.dataset.tables()

    findings = [
        *check_events(tables["events"]),
        *check_items(tables["items"]),
        *check_graph(tables["graph"]),
        *check_across(tables, {kind: kind for kind in tables}),
    ]

    assert {finding.level for finding in findings} == {"PASS"}
    assert world.dataset.items["item_id"].to_list() == world.item_ids
    assert world.dataset.events.height == 400 * 25


def test_chances_sum_to_one_and_lie_in_range(world: World) -> None:
    for chances in (world.affinity("u007"), world.following("u007", "i03")):
        assert chances.sum() == pytest.approx(1)
        assert (chances > 0).all()
    assert 0 < world.relevance("u007").min() < world.relevance("u007").max() < 1
    assert np.array_equal(np.sort(world.truth.sequel), np.arange(60))


def test_a_ring_holds_one_group_and_returns_after_all_of_it(world: World) -> None:
    start = item = 0
    seen = []
    while not seen or item != start:
        seen.append(item)
        item = int(world.truth.sequel[item])

    assert set(seen) == set(np.flatnonzero(world.truth.group == world.truth.group[start]))


def test_affinity_equals_one_step_after_another_by_hand() -> None:
    world = make_world(users=3, items=8, groups=2, events_per_user=4, requests=1, seed=0)
    follow = np.array([world.following("u1", item) for item in world.item_ids])  # (M, M) transitions
    first = (follow[0] - FOLLOW * np.eye(8)[world.truth.sequel[0]]) / (1 - FOLLOW)

    steps = [first @ np.linalg.matrix_power(follow, n) for n in range(4)]

    assert world.affinity("u1") == pytest.approx(np.mean(steps, axis=0))


def test_events_follow_affinity_and_sequels(world: World) -> None:
    expected = sum(world.affinity(user) for user in world.user_ids) * world.steps
    counts = dict(world.dataset.events.group_by("item_id").len().iter_rows())
    drawn = np.array([counts.get(item, 0) for item in world.item_ids])
    row = {item: n for n, item in enumerate(world.item_ids)}
    ordered = world.dataset.events.sort("user_id", "time")
    rows = ordered["item_id"].replace_strict(row).to_numpy().reshape(400, 25)
    followed = (world.truth.sequel[rows[:, :-1]] == rows[:, 1:]).mean()
    by_chance = np.mean(
        [
            world.following(user, world.item_ids[a])[world.truth.sequel[a]]
            for user, a in zip(world.user_ids, rows[:, 3], strict=True)
        ]
    )

    # Five standard deviations, widened for acts that depend on the one before.
    assert np.abs(drawn - expected).max() < 5 * np.sqrt(1.5 * expected.max())
    assert np.corrcoef(drawn, expected)[0, 1] > 0.98
    assert followed == pytest.approx(by_chance, abs=0.03)


def test_order_beats_taste_and_taste_beats_popularity(world: World) -> None:
    ordered = world.dataset.events.sort("user_id", "time")
    row = {item: n for n, item in enumerate(world.item_ids)}
    rows = ordered["item_id"].replace_strict(row).to_numpy().reshape(400, 25)
    popularity = np.bincount(rows[:, :-1].ravel(), minlength=60)
    by_order = by_taste = by_popularity = 0
    for user, acts in zip(world.user_ids, rows, strict=True):
        by_order += acts[-1] in np.argsort(-world.following(user, world.item_ids[acts[-2]]))[:5]
        by_taste += acts[-1] in np.argsort(-world.affinity(user))[:5]
        by_popularity += acts[-1] in np.argsort(-popularity)[:5]

    assert by_order > 1.2 * by_taste > 1.3 * by_popularity


def test_logged_propensities_are_how_often_an_item_stands_there(world: World) -> None:
    appeal = dict(zip(world.item_ids, world.truth.appeal, strict=True))
    logs = world.logs.with_columns(appeal=pl.col("item_id").replace_strict(appeal))
    rank = pl.col("appeal").rank("ordinal", descending=True).over("request_id")
    counts = (
        logs.with_columns(home=rank == pl.col("position")).group_by("home").agg(pl.len(), pl.col("propensity").mean())
    )
    at_home = {home: (count, propensity) for home, count, propensity in counts.iter_rows()}

    assert at_home[True][1] == pytest.approx(EXPLORE / SLOTS + 1 - EXPLORE)
    assert at_home[False][1] == pytest.approx(EXPLORE / SLOTS)
    assert at_home[True][0] / logs.height == pytest.approx(EXPLORE / SLOTS + 1 - EXPLORE, abs=0.01)
    assert world.logs.group_by("request_id").agg(pl.col("item_id").n_unique())["item_id"].unique().to_list() == [SLOTS]


def test_clicks_fall_with_the_position_as_examination_says(world: World) -> None:
    relevance = np.array([world.relevance(user) for user in world.user_ids])
    users = world.logs["user_id"].replace_strict({user: n for n, user in enumerate(world.user_ids)}).to_numpy()
    items = world.logs["item_id"].replace_strict({item: n for n, item in enumerate(world.item_ids)}).to_numpy()
    expected = (world.truth.examination[world.logs["position"].to_numpy() - 1] * relevance[users, items]).reshape(
        -1, SLOTS
    )

    assert world.logs["click"].to_numpy().reshape(-1, SLOTS).mean(axis=0) == pytest.approx(
        expected.mean(axis=0), abs=0.012
    )


def test_inverse_propensities_tell_the_value_of_another_policy(world: World) -> None:
    """The list by worst appeal, never logged on purpose, from the lists that were."""
    appeal = dict(zip(world.item_ids, world.truth.appeal, strict=True))
    logs = world.logs.with_columns(appeal=pl.col("item_id").replace_strict(appeal))
    worst = logs.with_columns(place=pl.col("appeal").rank("ordinal").over("request_id"))
    matched = worst.filter(pl.col("place") == pl.col("position"))
    estimate = (matched["click"] / matched["propensity"]).sum() / 20_000
    lists = worst.sort("request_id", "place").group_by("request_id", maintain_order=True)
    truth = np.mean(
        [
            world.clicks(user, items)
            for user, items in lists.agg(pl.col("user_id").first(), "item_id").head(2000)[:, 1:].iter_rows()
        ]
    )

    assert estimate == pytest.approx(truth, rel=0.08)
    assert truth < 0.9 * world.logs["click"].sum() / 20_000


def test_words_tell_the_group(world: World) -> None:
    texts = world.dataset.items.select(pl.concat_str("title", "description", separator=" ")).to_series().to_list()
    vectors = HashEncoder(256).encode(texts)
    cosine = vectors @ vectors.T
    same = world.truth.group[:, None] == world.truth.group[None, :]
    np.fill_diagonal(cosine, np.nan)

    assert np.nanmean(cosine[same]) > np.nanmean(cosine[~same]) + 0.3


@pytest.mark.parametrize(
    ("dials", "message"),
    [
        ({"users": 0}, r"^users is 0, but it must be at least 1$"),
        ({"items": 7}, r"^items is 7, but it must be at least 12$"),
        ({"items": 7, "groups": 1}, r"^items is 7, but it must be at least 8$"),
        ({"events_per_user": -1}, r"^events_per_user is -1, but it must be at least 1$"),
    ],
)
def test_a_world_that_is_too_small_is_refused(dials: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_world(**dials, seed=0)
