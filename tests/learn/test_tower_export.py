"""What serves of networks with chance weights: that it says what torch says, and how people are folded in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")

from tailwise.data.catalogue import Catalogue  # noqa: E402  after the package that may be absent
from tailwise.data.interactions import Interactions, Training  # noqa: E402
from tailwise.data.load import Dataset  # noqa: E402
from tailwise.learn.tower_export import towers_of  # noqa: E402
from tailwise.nets.towers import TowerNet  # noqa: E402
from tailwise.rank.towers import TowersConfig, TowerScorer  # noqa: E402
from tailwise.types import Event, History, Request  # noqa: E402

ITEMS, PEOPLE, DIM = 15, 40, 6
COLD = [13, 14]
"""In the catalogue only."""
KINDS = ["mf", "pooled", "dnn", "attention", "gru", "lstm"]


def training() -> Training:
    rng = np.random.default_rng(3)
    events = pl.DataFrame(
        [
            (f"u{p:02d}", f"i{row:02d}", float(t), "skip" if p == 0 or t == 9 else "click")  # u00 likes nothing
            for p in range(PEOPLE)
            for t, row in enumerate(rng.integers(13, size=10))
        ],
        schema=["user_id", "item_id", "time", "event"],
        orient="row",
    )
    text = rng.standard_normal((ITEMS, 4)).astype(np.float32)
    nothing = np.zeros(ITEMS, np.float32)
    frame = pl.DataFrame({"item_id": [f"i{row:02d}" for row in range(ITEMS)]})
    catalogue = Catalogue(frame, popularity=nothing, recent=nothing, vectors=text, tail_cut=0.2)
    return Training(Interactions.of(Dataset.of("chance", events=events).events, catalogue), catalogue, 5)


def made(person: str, *, text: bool = True) -> tuple[TowerNet, TowerScorer, Training]:
    learned, config = training(), TowersConfig(person=person, dim=DIM, max_length=8)
    torch.manual_seed(2)
    net = TowerNet(
        person,
        dim=DIM,
        n_items=ITEMS,
        n_people=PEOPLE,
        text=torch.from_numpy(learned.catalogue.vectors) if text else None,
        temperature=config.temperature,
    ).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return net, TowerScorer(config, towers_of(net, config, learned), learned.catalogue.item_ids), learned


def asked(rows: list[int], user_id: str | None = None) -> Request:
    past = History.of([Event("u", f"i{row:02d}", float(t)) for t, row in enumerate(rows)])
    return Request("r", user_id=user_id, history=past.place(np.array(rows, np.int64)))


@pytest.mark.parametrize("person", KINDS)
def test_it_scores_as_torch_does_at_every_length(person: str) -> None:
    net, scorer, _ = made(person)

    for length in range(1, 9):
        rows = np.random.default_rng(length).integers(13, size=length)
        found = scorer.scores(asked(rows.tolist()), np.arange(13))
        with torch.no_grad():
            items = net.offered(net.table())[:13]
            who = torch.from_numpy(scorer.person(asked(rows.tolist())))[None]
            if person != "mf":
                who = net(net.vectors(torch.from_numpy(rows)[None]))[:, -1]
            bias = 0.0 if person == "dnn" else float(net.bias)  # the same for all
            expected = (net.compare(who, items)[0].numpy() - bias) / net.scale

        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("person", KINDS)
def test_an_item_that_training_never_saw_keeps_its_text_alone(person: str) -> None:
    net, scorer, learned = made(person)
    _, without, _ = made(person, text=False)
    assert net.adapter is not None

    with torch.no_grad():
        of_text = net.adapter(torch.from_numpy(learned.catalogue.vectors))
        offered = net.offered(of_text)

    np.testing.assert_allclose(scorer.towers.read[COLD], of_text[COLD], atol=1e-6)
    np.testing.assert_allclose(scorer.towers.offered[COLD], offered[COLD], atol=1e-6)
    np.testing.assert_allclose(scorer.towers.read[:13], net.table().detach()[:13], atol=1e-6)
    assert not without.towers.read[COLD].any()
    assert np.isnan(without.scores(asked([1, 2]), np.array(COLD))).all()


def test_only_the_plain_network_compares_and_only_mf_knows_people() -> None:
    for person in KINDS:
        _, scorer, _ = made(person)

        assert (scorer.towers.comparison is not None) == (person == "dnn")
        assert (scorer.towers.known_people is not None) == (person == "mf")


def test_people_of_mf_have_the_vector_that_was_learned_while_they_did_nothing_new() -> None:
    net, scorer, learned = made("mf")
    assert net.people is not None

    for place in range(1, PEOPLE):
        request = Request("r", user_id=f"u{place:02d}", history=learned.past(place))
        own = net.people.weight[place].detach().numpy()

        np.testing.assert_allclose(scorer.person(request), own, rtol=1e-4, atol=1e-5)
        assert not np.allclose(scorer.person(replace(request, user_id="stranger", cache={})), own, atol=1e-3)


def test_who_liked_nothing_has_no_vector_to_come_back_to() -> None:
    _, scorer, learned = made("mf")
    known = scorer.towers.known_people
    assert known is not None

    stranger, disliker = (scorer.person(asked([3, 4], user_id)) for user_id in (None, "u00"))

    assert known.rows[0] == -1
    assert np.isnan(known.times[0])
    np.testing.assert_array_equal(stranger, disliker)
    assert not scorer.person(Request("r", user_id="u00", history=learned.past(0))).any()


def test_folding_in_is_the_ridge_regression_of_people_on_the_mean_of_their_items() -> None:
    net, scorer, learned = made("mf")
    assert net.people is not None
    sequences = [rows[-8:] for rows in learned.interactions.liked_sequences()]
    means = np.array([scorer.towers.read[rows].mean(0) if len(rows) else np.zeros(DIM) for rows in sequences])
    penalty = np.sqrt(0.01 * np.square(means).sum() / DIM)

    # The same as plain least squares with a row of its own for each unit of the penalty.
    stacked = np.vstack([means, penalty * np.eye(DIM)])
    wanted = np.vstack([net.people.weight.detach().numpy(), np.zeros((DIM, DIM))])
    weights = np.linalg.lstsq(stacked, wanted, rcond=None)[0]

    for rows in ([1], [4, 9, 2], [7, 7, 1, 0]):
        expected = scorer.towers.read[rows].mean(0) @ weights
        np.testing.assert_allclose(scorer.person(asked(rows)), expected, rtol=1e-3, atol=1e-4)
