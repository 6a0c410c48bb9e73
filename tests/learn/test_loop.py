"""The loop on a small regression: repeatable, resumable, stopped in time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")

from tailwise.learn.loop import Progress, side_by_side, train  # noqa: E402  after the package that may be absent
from tailwise.learn.track import Watched  # noqa: E402
from tailwise.nets.sequence import dropped  # noqa: E402
from tailwise.nets.settings import LoopConfig  # noqa: E402
from tailwise.nets.settings_language import TextLoop  # noqa: E402

CONFIG = LoopConfig(epochs=6, learning_rate=0.05, warm_up_steps=3, weight_decay=0.01, clip=1.0, average=0.5, patience=6)
TRUTH = torch.tensor([[1.0], [-2.0], [0.5]])
ROWS = 16
"""Of a batch."""


@pytest.fixture
def pool() -> Iterator[Executor]:
    with side_by_side(1) as pool:
        yield pool


class Net(torch.nn.Module):
    """Two layers with dropout between them."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = torch.nn.Linear(3, 8), torch.nn.Linear(8, 1)

    def forward(self, x: torch.Tensor, noise: torch.Generator | None = None) -> torch.Tensor:
        return self.two(dropped(self.one(x), 0.3, noise))


def fresh_net(seed: int = 1) -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Net()


def batches(epoch: int) -> Iterator[list[torch.Tensor]]:
    """Batches in three parts of different sizes."""
    rng = np.random.default_rng((5, epoch))
    for _ in range(4):
        yield list(torch.from_numpy(rng.standard_normal((ROWS, 3)).astype(np.float32)).split([9, 6, 1]))


def loss_of(net: torch.nn.Module) -> Callable[[torch.Tensor, torch.Generator], torch.Tensor]:
    return lambda x, noise: (net(x, noise) - x @ TRUTH).square().sum() / ROWS


def plain(net: torch.nn.Module) -> Callable[[torch.Tensor, torch.Generator], torch.Tensor]:
    """A loss that wants the net's output as large as it gets."""
    return lambda x, _: -net(x).sum()


def judge_of(net: torch.nn.Module) -> Callable[[], float]:
    x = torch.from_numpy(np.random.default_rng(9).standard_normal((64, 3)).astype(np.float32))
    return lambda: -float(torch.nn.functional.mse_loss(net(x), x @ TRUTH).detach())


@dataclass
class Scripted:
    """A judge that says what it is told to, and keeps the weights that it saw."""

    net: torch.nn.Module
    values: list[float]
    seen: list[dict[str, torch.Tensor]] = field(default_factory=list)

    def __call__(self) -> float:
        self.seen.append({name: tensor.clone() for name, tensor in self.net.state_dict().items()})
        return self.values[len(self.seen) - 1]


def run(
    net: torch.nn.Module,
    *,
    config: LoopConfig = CONFIG,
    seed: int = 3,
    judge: Callable[[], float] | None = None,
    folder: Path | None = None,
    source: Callable[[int], Iterable[Sequence[torch.Tensor]]] = batches,
    threads: int = 1,
) -> Progress:
    judge = judge or judge_of(net)
    with side_by_side(threads) as pool:
        return train(
            net, config=config, seed=seed, batches=source, loss=loss_of(net), judge=judge, pool=pool, folder=folder
        )


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_the_same_seed_gives_the_same_weights_bitwise_and_another_seed_does_not() -> None:
    one, again, other = fresh_net(), fresh_net(), fresh_net()

    first, second, third = run(one), run(again), run(other, seed=4)

    assert same(one, again)
    assert first == second
    assert not same(one, other)
    assert first.losses != third.losses


def test_the_number_of_threads_changes_nothing() -> None:
    alone, shared = fresh_net(), fresh_net()

    first, second = run(alone), run(shared, threads=3)

    assert same(alone, shared)
    assert first == second


def test_every_part_of_every_step_has_a_stream_of_chance_of_its_own(pool: Executor) -> None:
    seeds: dict[int, list[int]] = {3: [], 4: []}
    for seed, drawn in seeds.items():
        net = fresh_net()

        def loss(x: torch.Tensor, noise: torch.Generator, net: Net = net, drawn: list[int] = drawn) -> torch.Tensor:
            drawn.append(noise.initial_seed())
            return net(x).sum()

        train(net, config=CONFIG, seed=seed, batches=batches, loss=loss, pool=pool)

    every = seeds[3] + seeds[4]
    assert len(every) == len(set(every)) == 2 * 6 * 4 * 3


def test_parts_of_a_batch_add_up_to_the_batch() -> None:
    def still(net: torch.nn.Module) -> Callable[[torch.Tensor, torch.Generator], torch.Tensor]:
        return lambda x, _: loss_of(net)(x, None)

    parted, whole = fresh_net(), fresh_net()
    with side_by_side(2) as pool:
        found = train(parted, config=CONFIG, seed=3, batches=batches, loss=still(parted), pool=pool)
        joined = lambda epoch: ([torch.cat(parts)] for parts in batches(epoch))  # noqa: E731  used at once
        wanted = train(whole, config=CONFIG, seed=3, batches=joined, loss=still(whole), pool=pool)

    assert found.losses == pytest.approx(wanted.losses, rel=1e-4)
    for one, other in zip(parted.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_it_learns() -> None:
    net = fresh_net()
    before = judge_of(net.eval())()

    progress = run(net)

    assert judge_of(net)() > before / 2  # half the error gone at least
    assert progress.losses[-1] < progress.losses[0]
    assert progress.step == 6 * 4


def test_it_stops_when_patience_runs_out_and_ends_with_the_best_weights() -> None:
    net = fresh_net()
    judge = Scripted(net, [0.1, 0.5, 0.4, 0.5, 0.3])

    progress = run(net, config=CONFIG.model_copy(update={"epochs": 50, "patience": 3}), judge=judge)

    assert (progress.epoch, progress.best_epoch, progress.best_value) == (5, 2, 0.5)  # an equal value is no better one
    assert progress.values == [0.1, 0.5, 0.4, 0.5, 0.3]
    assert all(torch.equal(tensor, judge.seen[1][name]) for name, tensor in net.state_dict().items())


def test_epochs_before_the_first_judged_one_are_never_the_best_and_do_not_use_up_patience() -> None:
    net = fresh_net()
    judge = Scripted(net, [0.3, 0.2, 0.1])

    progress = run(net, config=CONFIG.model_copy(update={"epochs": 50, "patience": 2, "judge_from": 4}), judge=judge)

    assert progress.best_epoch == 4
    assert progress.epoch == 6
    assert len(progress.values) == 3


@pytest.mark.parametrize("values", [[], [float("nan")] * 6])
def test_a_run_that_no_judge_found_good_keeps_its_last_weights(values: list[float], pool: Executor) -> None:
    net, unjudged = fresh_net(), fresh_net()
    judged_from = 1 if values else 7  # later than the last epoch

    progress = run(net, config=CONFIG.model_copy(update={"judge_from": judged_from}), judge=Scripted(net, values))

    train(unjudged, config=CONFIG, seed=3, batches=batches, loss=loss_of(unjudged), pool=pool)
    assert progress.best_epoch == 0
    assert progress.epoch == 6
    assert same(net, unjudged)
    assert not same(net, fresh_net())


def test_without_a_judge_it_runs_all_epochs(pool: Executor) -> None:
    net = fresh_net()

    progress = train(net, config=CONFIG, seed=3, batches=batches, loss=loss_of(net), pool=pool)

    assert progress.epoch == 6
    assert progress.values == []
    assert not net.training


def test_the_rate_rises_over_the_warm_up_steps(pool: Executor) -> None:
    net = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(net.weight)
    weights = [0.0]

    def ones(epoch: int) -> Iterator[list[torch.Tensor]]:
        for _ in range(6):
            yield [torch.ones(1, 1)]
            weights.append(float(net.weight.detach()))

    config = LoopConfig(epochs=1, learning_rate=0.1, warm_up_steps=4)
    train(net, config=config, seed=0, batches=ones, loss=plain(net), pool=pool)

    # Adam's step on a gradient that never changes is the rate itself.
    assert np.diff(weights) == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1], rel=1e-4)


def test_with_the_steps_of_an_epoch_a_falling_rate_falls_from_step_to_step(pool: Executor) -> None:
    net = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(net.weight)
    weights = [0.0]

    def ones(epoch: int) -> Iterator[list[torch.Tensor]]:
        for _ in range(5):  # one more than was said: the rate stays at what the epoch ends with
            yield [torch.ones(1, 1)]
            weights.append(float(net.weight.detach()))

    config = LoopConfig(epochs=2, learning_rate=0.8, warm_up_steps=0, schedule="linear")
    train(net, config=config, seed=0, batches=ones, loss=plain(net), pool=pool, steps=4)

    assert np.diff(weights) == pytest.approx([0.8, 0.7, 0.6, 0.5, 0.4, 0.4, 0.3, 0.2, 0.1, 0.0], rel=1e-3, abs=1e-6)


def test_a_fresh_head_moves_at_a_multiple_of_the_rate(pool: Executor) -> None:
    net = torch.nn.ModuleDict({name: torch.nn.Linear(1, 1, bias=False) for name in ("model", "head")})
    for parameter in net.parameters():
        torch.nn.init.zeros_(parameter)

    def loss(part: Any, noise: torch.Generator) -> torch.Tensor:
        return net["model"](part).sum() + net["head"](part).sum()

    config = TextLoop(epochs=1, learning_rate=0.1, head_rate=3.0, warm_up_steps=0, average=0.0)
    train(net, config=config, seed=0, batches=lambda epoch: [[torch.ones(1, 1)]], loss=loss, pool=pool)

    assert [float(net[name].weight.detach()) for name in ("model", "head")] == pytest.approx([-0.1, -0.3], rel=1e-4)


def test_what_is_judged_and_kept_is_the_moving_average_of_the_weights(pool: Executor) -> None:
    net = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(net.weight)
    passed: list[float] = []
    seen: list[float] = []

    def ones(epoch: int) -> Iterator[list[torch.Tensor]]:
        for _ in range(15):
            yield [torch.ones(1, 1)]
            passed.append(float(net.weight.detach()))

    def judge() -> float:
        seen.append(float(net.weight.detach()))
        return float(len(seen))

    config = LoopConfig(epochs=2, learning_rate=0.1, warm_up_steps=0, average=0.6)
    train(net, config=config, seed=0, batches=ones, loss=plain(net), pool=pool, judge=judge)

    by_hand = [passed[0]]  # the first step is where it begins
    for steps, weight in enumerate(passed[1:], start=1):
        stays = min(0.6, (1 + steps) / (10 + steps))  # 2/11, 3/12, … 0.6
        by_hand.append(stays * by_hand[-1] + (1 - stays) * weight)
    assert passed == pytest.approx(np.arange(1, 31) / 10, rel=1e-4)  # judging left the moving weights alone
    assert seen == pytest.approx([by_hand[14], by_hand[29]], rel=1e-5)
    assert float(net.weight.detach()) == pytest.approx(by_hand[29], rel=1e-5)


def test_gradients_are_clipped(pool: Executor) -> None:
    net = torch.nn.Linear(1, 1, bias=False)
    norms: list[float] = []

    def one(epoch: int) -> Iterator[list[torch.Tensor]]:
        yield [torch.full((1, 1), 1e6)]
        assert net.weight.grad is not None
        norms.append(float(net.weight.grad.norm()))

    train(net, config=LoopConfig(epochs=1, clip=0.5), seed=0, batches=one, loss=plain(net), pool=pool)

    assert norms == pytest.approx([0.5], rel=1e-4)


def test_a_parameter_that_a_batch_does_not_touch_stays_where_it_is(pool: Executor) -> None:
    net = torch.nn.ModuleList([torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)])
    before = net[1].weight.detach().clone()

    train(
        net,
        config=LoopConfig(epochs=2),
        seed=0,
        batches=lambda epoch: [[torch.ones(1, 1)] * 2],
        loss=plain(net[0]),
        pool=pool,
    )

    assert torch.equal(net[1].weight, before)


def test_the_global_randomness_of_torch_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(77)
    expected = torch.rand(4)
    torch.manual_seed(77)

    run(fresh_net(), folder=tmp_path)

    assert torch.equal(torch.rand(4), expected)


def test_an_epoch_without_batches_costs_nothing() -> None:
    net = fresh_net()

    progress = run(net, source=lambda epoch: ())

    assert progress.losses == [0.0] * 6


def test_progress_is_reported_to_the_end(pool: Executor) -> None:
    net, told = fresh_net(), []
    loss = loss_of(net)

    train(net, config=CONFIG, seed=0, batches=batches, loss=loss, pool=pool, report=lambda *what: told.append(what))

    assert told == [*(("sequence", epoch, 6) for epoch in range(6)), ("sequence", 6, 6)]


def test_it_says_what_is_trained(pool: Executor) -> None:
    net, told = fresh_net(), set()

    train(
        net,
        config=CONFIG,
        seed=0,
        batches=batches,
        loss=loss_of(net),
        pool=pool,
        report=lambda what, *_: told.add(what),
        name="tasks",
    )

    assert told == {"tasks"}


def test_the_figures_of_every_epoch_are_told_to_who_watches(pool: Executor) -> None:
    net, told = fresh_net(), []
    watched = Watched(lambda *_: None, listen=lambda *what: told.append(what))
    config = CONFIG.model_copy(update={"schedule": "linear", "judge_from": 2})

    progress = train(
        net,
        config=config,
        seed=0,
        batches=batches,
        loss=loss_of(net),
        judge=judge_of(net),
        pool=pool,
        report=watched,
        name="tasks",
    )

    assert [(name, epoch) for name, epoch, _ in told] == [("tasks", epoch) for epoch in range(1, 7)]
    figures = [figures for *_, figures in told]
    assert [one["loss"] for one in figures] == progress.losses
    assert [one["validation"] for one in figures if "validation" in one] == progress.values
    assert "validation" not in figures[0]
    assert [one["learning_rate"] for one in figures] == pytest.approx([0.05 * (1 - e / 6) for e in range(6)])
    assert all(one["seconds"] > 0 for one in figures)


def still(net: torch.nn.Module) -> Callable[[torch.Tensor, torch.Generator], torch.Tensor]:
    """The loss without dropout."""
    return lambda x, _: loss_of(net)(x, None)


def test_batches_that_are_gathered_move_the_weights_as_their_mean_does(pool: Executor) -> None:
    gathered, whole = fresh_net(), fresh_net()

    def joined(epoch: int) -> Iterator[list[torch.Tensor]]:
        """Two batches as one that is twice as large: the mean of its losses is theirs."""
        rest = iter(batches(epoch))
        for parts in rest:
            yield [torch.cat([*parts, *next(rest)])]

    config = CONFIG.model_copy(update={"accumulate": 2})
    found = train(gathered, config=config, seed=3, batches=batches, loss=still(gathered), pool=pool)
    half = lambda x, noise: still(whole)(x, noise) / 2  # noqa: E731  of 32 rows, where the loss divides by 16
    wanted = train(whole, config=CONFIG, seed=3, batches=joined, loss=half, pool=pool)

    assert found.step == wanted.step == 12
    assert found.losses == pytest.approx(wanted.losses, rel=1e-4)
    for one, other in zip(gathered.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_what_remains_of_an_epoch_makes_a_step_of_its_own(pool: Executor) -> None:
    net, alone = fresh_net(), fresh_net()
    config = CONFIG.model_copy(update={"accumulate": 3, "epochs": 1})  # of four batches, one remains

    progress = train(net, config=config, seed=3, batches=batches, loss=loss_of(net), pool=pool)

    assert progress.step == 2
    assert len(progress.losses) == 1
    first = next(iter(batches(0)))
    told: list[int] = []

    def loss(x: torch.Tensor, noise: torch.Generator) -> torch.Tensor:
        told.append(noise.initial_seed())
        return loss_of(alone)(x, noise)

    train(alone, config=config, seed=3, batches=lambda _: [first] * 3, loss=loss, pool=pool)
    assert len(set(told)) == 9  # gathered batches do not share a stream of chance


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", "adafactor"])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
def test_every_optimiser_learns_with_every_schedule(optimizer: str, schedule: str) -> None:
    net = fresh_net()
    before = judge_of(net.eval())()
    rate = 0.3 if optimizer == "adafactor" else 0.05
    how = {"optimizer": optimizer, "schedule": schedule, "learning_rate": rate, "epochs": 12, "patience": 12}

    run(net, config=CONFIG.model_copy(update=how))

    assert judge_of(net)() > before / 2


def test_in_bfloat16_it_learns_too_and_keeps_its_weights_in_full() -> None:
    net, exact = fresh_net(), fresh_net()
    before = judge_of(net.eval())()

    first = run(net, config=CONFIG.model_copy(update={"precision": "bfloat16"}))
    second = run(exact)

    assert judge_of(net)() > before / 2
    assert first.losses != second.losses  # it was used
    assert first.losses == pytest.approx(second.losses, rel=0.1)
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}


def test_what_is_frozen_stays_as_it_is_and_the_rest_learns() -> None:
    net = fresh_net()
    net.two.weight.requires_grad_(requires_grad=False)
    before = net.two.weight.clone()

    progress = run(net)

    assert torch.equal(net.two.weight, before)
    assert progress.losses[-1] < progress.losses[0]
