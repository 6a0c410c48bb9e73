"""The changing world is what it says: the same twice, other wishes after half-time, and chances that are the truth."""

from __future__ import annotations

import numpy as np
import pytest

from tailwise.data.changing import make_changing_world


def test_the_same_arguments_make_the_same_world() -> None:
    first, second = (make_changing_world(users=10, items=20, days=6, groups=2, seed=4) for _ in range(2))

    assert first.dataset.events.equals(second.dataset.events)
    assert first.dataset.items.equals(second.dataset.items)


def test_everybody_acts_once_a_day_and_the_change_comes_in_the_middle() -> None:
    world = make_changing_world(users=10, items=20, days=6, groups=2, seed=4)

    assert np.sort(world.people.reshape(6, 10), axis=1).tolist() == [list(range(10))] * 6
    assert (world.dataset.events["time"].to_numpy() < world.at).sum() == 30


@pytest.mark.parametrize("part", ["taste", "appeal", "sequel"])
def test_only_what_is_named_is_drawn_anew(part: str) -> None:
    before, after = make_changing_world(users=10, items=20, days=6, groups=2, seed=4, parts=(part,)).truths  # type: ignore[arg-type]  # parametrize gives str

    same = {name: np.array_equal(getattr(before, name), getattr(after, name)) for name in ("taste", "appeal", "sequel")}
    assert same == {name: name != part for name in same}
    assert (after.group[after.sequel] == after.group).all()


def test_chances_are_how_often_items_are_taken() -> None:
    world = make_changing_world(users=400, items=12, days=20, groups=2, seed=1)
    acts = np.arange(len(world.people))[::4]

    expected = np.sum([world.chances(int(act)) for act in acts], axis=0)

    found = np.bincount(world.items[acts], minlength=12)
    assert np.abs(found - expected).max() < 4 * np.sqrt(expected.max())
    assert expected.sum() == pytest.approx(len(acts))


def test_what_follows_what_changes_with_the_truth() -> None:
    world = make_changing_world(users=1, items=20, days=40, groups=2, seed=2)

    before, first, after = (world.chances(act) for act in (19, 20, 39))

    assert before[world.truths[0].sequel[world.items[18]]] > 0.4
    assert first.max() < 0.4  # the first act of a truth follows nothing
    assert after[world.truths[1].sequel[world.items[38]]] > 0.4


def test_a_list_is_worth_what_it_earns_on_average() -> None:
    world = make_changing_world(users=300, items=12, days=20, groups=2, seed=1)
    shown = world.item_ids[:5]
    places = {world.item_ids.index(item_id): 1 / np.log2(place + 2) for place, item_id in enumerate(shown)}
    acts = range(0, len(world.people), 3)

    expected = [world.worth(act, shown) for act in acts]

    found = [places.get(int(world.items[act]), 0.0) for act in acts]
    assert np.mean(found) == pytest.approx(np.mean(expected), abs=4 * np.std(found) / np.sqrt(len(found)))


def test_the_past_of_an_act_is_what_the_person_did_before_it() -> None:
    world = make_changing_world(users=3, items=20, days=8, groups=2, seed=2)

    past = world.past(22)

    own = [world.item_ids[i] for p, i in zip(world.people[:22], world.items[:22], strict=True) if p == world.people[22]]
    assert past.item_ids.tolist() == own
    assert len(own) == 7
