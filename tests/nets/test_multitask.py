"""The network of several heads: what it starts from, who may use which expert, and that a purchase needs a click."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")

from tailwise.nets.multitask import FACTS, MARKS, MultiTaskNet, task_losses, weigh  # noqa: E402  after what may be absent
from tailwise.nets.settings import MultiTaskShape  # noqa: E402
from tailwise.types import EVENT_KINDS  # noqa: E402

TASKS = ("click", "purchase", "rating")
SHAPE = MultiTaskShape(dim=4, expert_count=2, expert_dim=6, tower_dim=5, dropout=0.3)


def net(
    experts: str = "mmoe", *, tasks: tuple[str, ...] = TASKS, trained: bool = True, context: int = 0
) -> MultiTaskNet:
    """With ``trained``, its last layer says something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        made = MultiTaskNet(SHAPE.model_copy(update={"experts": experts}), tasks, 9, None, context=context)
        if trained:
            torch.nn.init.normal_(made.out)
    return made


def read(people: int = 3, events: int = 4, items: int = 5, context: int = 0) -> list[torch.Tensor]:
    """Any past and any items."""
    chance = torch.Generator().manual_seed(2)
    marks = torch.zeros(people, events, MARKS)
    marks[:, :, 0] = 1
    marks[:, -2:, 1] = 1
    marks[:, :, 2] = torch.randn(people, events, generator=chance)
    marks[:, :, 3 + EVENT_KINDS.index("rating")] = 1
    sizes = ((people, events, SHAPE.dim), (people, items, SHAPE.dim), (people, items, FACTS), (people, context))
    past, shown, facts, moment = (torch.randn(size, generator=chance) for size in sizes)
    return [past, marks, shown, facts, moment]


@pytest.mark.parametrize("experts", ["shared", "mmoe", "ple"])
def test_people_and_items_are_told_of_one_by_one_as_together(experts: str) -> None:
    own, given = net(experts), read()

    together = own(*given)

    assert together.shape == (3, 5, 3)
    for person in range(3):
        for item in range(5):
            past, marks, items, facts, context = (each[person : person + 1] for each in given)
            alone = own(past, marks, items[:, item : item + 1], facts[:, item : item + 1], context)
            torch.testing.assert_close(alone[0, 0], together[person, item], rtol=1e-4, atol=1e-5)


def test_what_is_not_there_changes_nothing() -> None:
    past, marks, *rest = read()
    longer = torch.cat([torch.randn(3, 2, SHAPE.dim), past], 1), torch.cat([torch.zeros(3, 2, MARKS), marks], 1)
    own = net()

    torch.testing.assert_close(own(*longer, *rest), own(past, marks, *rest), rtol=1e-4, atol=1e-5)


def test_a_person_without_a_past_is_told_of_too() -> None:
    past, marks, *rest = read()

    told = net()(past[:, :0], marks[:, :0], *rest)

    assert torch.isfinite(told).all()


def test_before_it_has_learned_every_head_says_its_bias() -> None:
    own = net(trained=False)
    with torch.no_grad():
        own.bias.copy_(torch.tensor([0.5, 20.0, -1.0]))

    told = own(*read())

    assert torch.allclose(told[..., 0], torch.tensor(0.5))
    assert torch.allclose(told[..., 2], torch.tensor(-1.0))


def test_a_purchase_is_a_click_and_what_follows_it() -> None:
    own = net(trained=False)
    with torch.no_grad():
        own.bias.copy_(torch.tensor([0.0, float(np.log(0.2 / 0.8)), 0.0]))

    chances = own(*read()).sigmoid()

    assert torch.allclose(chances[..., 0], torch.tensor(0.5))
    assert torch.allclose(chances[..., 1], torch.tensor(0.1), atol=1e-6)
    assert (net()(*read())[..., 1] <= net()(*read())[..., 0]).all()


def test_without_a_click_head_a_purchase_stands_alone() -> None:
    own = net(tasks=("purchase", "rating"), trained=False)
    with torch.no_grad():
        own.bias.copy_(torch.tensor([3.0, 0.0]))

    assert torch.allclose(own(*read())[..., 0], torch.tensor(3.0))


@pytest.mark.parametrize(("experts", "shared", "own"), [("shared", 1, 0), ("mmoe", 2, 0), ("ple", 2, 3)])
def test_experts_are_shared_or_a_task_s_own(experts: str, shared: int, own: int) -> None:
    made = net(experts, tasks=("rating", "dwell", "dislike"))

    for task in range(3):
        made.zero_grad()
        made(*read())[..., task].sum().backward()
        touched = made.experts.weight.grad.view(shared + own, SHAPE.expert_dim, -1).abs().sum((1, 2)) > 0
        assert touched.tolist() == [True] * shared + [place == task for place in range(own)]


def test_the_moment_counts_when_something_is_known_of_it() -> None:
    own, given = net(context=2), read(context=2)

    assert not torch.equal(own(*given), own(*given[:4], given[4] + 1))


def test_dropout_draws_from_its_own_stream() -> None:
    own, given = net(), read()

    first, second = (own(*given, torch.Generator().manual_seed(7)) for _ in range(2))

    assert torch.equal(first, second)
    assert not torch.equal(first, own(*given))


def test_losses_equal_plain_ones_and_leave_out_what_has_no_label() -> None:
    told = torch.tensor([[0.0, 2.0, 3.0], [1.0, -1.0, 0.5]])
    labels = torch.tensor([[1.0, float("nan"), 1.0], [0.0, 1.0, float("nan")]])

    losses = task_losses(told, labels, TASKS)

    expected = [[np.log(2), 0, 2.0], [np.log1p(np.e), np.log1p(np.e), 0]]
    np.testing.assert_allclose(losses.numpy(), expected, rtol=1e-5)


def test_a_label_that_is_missing_leaves_no_gradient() -> None:
    told = torch.zeros(1, 3, requires_grad=True)

    task_losses(told, torch.tensor([[float("nan"), 1.0, float("nan")]]), TASKS).sum().backward()

    assert told.grad.tolist() == [[0.0, -0.5, 0.0]]


def test_weights_are_learned_variances() -> None:
    losses, log_variance = torch.tensor([2.0, 0.5]), torch.tensor([0.0, np.log(2.0)])

    total = weigh(losses, log_variance, 0.5)

    assert float(total) == pytest.approx(2 + 0.25 + 0.25 * np.log(2), rel=1e-5)
    halves = weigh(losses / 2, log_variance, 0.5) + weigh(losses / 2, log_variance, 0.5)
    assert float(halves) == pytest.approx(float(weigh(losses, log_variance)), rel=1e-5)
