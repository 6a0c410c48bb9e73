"""Worlds in which it is known what a teacher is worth: a good one is learned from and used, a useless one is not."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from tailwise.data.interactions import Training
from tailwise.errors import ConfigError
from tailwise.learn.distil import fit_distilled, taught
from tailwise.learn.slates import Example
from tailwise.learn.teacher import Judgement
from tailwise.pipeline import Engine
from tailwise.rank.distilled import DistilledConfig, Pupils, table_of
from tailwise.types import Event, Floats, History, Request, Slate, ids_of

World = tuple[Training, Engine]
N = 12
QUICK = DistilledConfig(depth=N, steps=120, clicks=0.0)


def wise(signals: Floats) -> Floats:
    """What is taken, by signals: bent, so that no weighted sum gives its order."""
    return np.asarray(3 * np.abs(signals[:, 0]) + signals[:, 1], np.float32)


def examples(count: int, seed: int = 0) -> list[Example]:
    """Slates whose order says nothing, while signals say, to who knows how, what is taken."""
    rng = np.random.default_rng(seed)
    made = []
    for person in range(count):
        signals = rng.standard_normal((N, 3)).astype(np.float32)
        past = History.of([Event("", f"h{time}", time) for time in range(3 + 10 * (person % 3))])
        past = past.place(np.arange(len(past)))
        columns = {"signals": signals, "popularity": np.ones(N, np.float32), "row": np.arange(N)}
        slate = Slate(ids_of([f"i{n}" for n in range(N)]), np.linspace(1, 0, N, dtype=np.float32), columns)
        made.append(Example(person, Request("r", history=past), slate, np.arange(N) == wise(signals).argmax(), 1))
    return made


def training() -> Training:
    return Training(None, None, 3)  # type: ignore[arg-type]  # only the seed, the threads and no facts are looked at


def test_a_wise_teacher_is_learned_from_a_few_lists_and_used() -> None:
    cases = examples(150)
    judgements = [Judgement(case, wise(case.slate.columns["signals"]), 1.0) for case in cases[:90]]

    pupils, gate, notes = taught(QUICK, training(), cases, judgements)

    assert pupils is not None
    assert notes["decision"] == "used where it helps"
    assert float(notes["pupil on the teacher's order"]) > 0.85
    assert float(notes["ndcg@10 after (cross-fitted)"]) > float(notes["ndcg@10 before"]) + 0.2
    assert gate.query == 0
    assert gate.weights[0] == 0
    assert min(gate.weights[1:4]) > 0


@pytest.mark.parametrize("seed", range(3))
def test_a_teacher_that_knows_nothing_of_what_is_taken_is_not_used(seed: int) -> None:
    """What is taken follows the order that comes in, and what is learned of the teacher could only disturb it."""
    rng = np.random.default_rng(seed)
    cases = [replace(case, relevant=np.arange(N) == min(rng.geometric(0.3) - 1, N - 1)) for case in examples(300, seed)]
    judgements = [Judgement(case, wise(case.slate.columns["signals"]), 1.0) for case in cases[:90]]

    pupils, gate, notes = taught(QUICK, training(), cases, judgements)

    assert float(notes["pupil on the teacher's order"]) > 0.7
    assert notes["teacher on what was taken"] == pytest.approx(0.5, abs=0.1)
    assert max(gate.weights) <= 0.2
    assert (pupils is None) == (max(gate.weights) == 0)


def test_lists_that_the_teacher_left_half_open_teach_the_other_half() -> None:
    cases = examples(150)
    half = np.where(np.arange(N) % 2, np.float32("nan"), np.float32(0))
    judgements = [Judgement(case, wise(case.slate.columns["signals"]) + half, 1.0) for case in cases]

    pupils, _, notes = taught(QUICK, training(), cases, judgements)

    assert pupils is not None
    assert float(notes["pupil on the teacher's order"]) > 0.85


def test_a_network_is_judged_by_people_that_it_did_not_learn_from() -> None:
    """Of what is only noise a large network learns much by heart, and must not be praised for it."""
    cases, rng = examples(60), np.random.default_rng(1)
    judgements = [Judgement(case, rng.standard_normal(N).astype(np.float32), 1.0) for case in cases]
    large = QUICK.model_copy(update={"hidden": 64, "weight_decay": 0.0})

    _, _, notes = taught(large, training(), cases, judgements)

    assert notes["pupil on the teacher's order"] == pytest.approx(0.5, abs=0.05)


def test_the_same_seed_gives_the_same_networks_bit_by_bit() -> None:
    cases = examples(60)
    judgements = [Judgement(case, wise(case.slate.columns["signals"]), 1.0) for case in cases]

    (one, gate, _), (other, same, _) = (taught(QUICK, training(), cases, judgements) for _ in range(2))

    assert gate == same
    assert one is not None
    assert other is not None
    for part in fields(Pupils):
        assert np.array_equal(getattr(one, part.name), getattr(other, part.name))


def test_one_list_is_learned_by_heart() -> None:
    cases = examples(60)
    wanted = np.random.default_rng(0).permutation(N).astype(np.float32)
    one = cases[0]
    same = [replace(one, person=person) for person in range(3)]
    judgements = [Judgement(each, wanted, 1.0) for each in same]

    pupils, _, _ = taught(QUICK.model_copy(update={"hidden": 64, "weight_decay": 0.0}), training(), cases, judgements)

    if pupils is not None:
        found = pupils.opinions(table_of(one.slate)).mean(0)
        assert np.argsort(-found)[:4].tolist() == np.argsort(-wanted)[:4].tolist()


def test_with_few_cases_nobody_is_asked(long_histories: World) -> None:
    training_, engine = long_histories

    stage, notes = fit_distilled(DistilledConfig(judged=10, cases=10), training_, engine)

    assert stage.pupils is None
    assert str(notes["decision"]).endswith("cases could teach it, fewer than 40")


@pytest.mark.parametrize("name", ["popular", "distilled", "mmr"])
def test_the_teacher_must_be_another_stage_that_learns(long_histories: World, name: str) -> None:
    message = f"^distilled: the teacher is {name!r}, but it must be another stage that learns$"

    with pytest.raises(ConfigError, match=message):
        fit_distilled(DistilledConfig(teacher=name), *long_histories)


def test_a_wrong_setting_of_the_teacher_is_told_with_its_place(long_histories: World) -> None:
    config = DistilledConfig(teacher="fusion", of_teacher={"people": 0})
    message = r"^distilled: of_teacher: fusion: people is 0, but: Input should be greater than or equal to 1$"

    with pytest.raises(ConfigError, match=message):
        fit_distilled(config, *long_histories)
