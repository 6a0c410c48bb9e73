"""The slate network: where it starts, that padding tells nothing, and that places do not matter."""

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")

import torch

from tailwise.nets.attention import FAR, SlateNet
from tailwise.nets.settings import SlateShape

F = 6


def slate_net(seed: int = 0, **shape: float) -> SlateNet:
    torch.manual_seed(seed)
    return SlateNet(SlateShape(dim=8, layers=2, **shape), torch.zeros(F), torch.ones(F), 2.0).eval()


def slate(n: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    noise = torch.Generator().manual_seed(seed)
    return torch.randn(1, n, F, generator=noise), torch.randn(1, n, generator=noise), torch.ones(1, n, dtype=torch.bool)


def test_with_a_closed_gate_the_scores_that_come_in_stand() -> None:
    signals, base, mask = slate(9)

    scores = slate_net(gate=0.0)(signals, base, mask)

    assert torch.equal(scores, 2.0 * base)


def test_a_straight_weight_counts_its_signal_up_to_where_signals_are_cut() -> None:
    signals, base, mask = slate(9)
    signals[0, 0, 2] = 100.0
    net = slate_net(gate=0.0)
    with torch.no_grad():
        net.straight[2] = 0.5

        scores = net(signals, base, mask)

    torch.testing.assert_close(scores, 2.0 * base + 0.5 * signals[..., 2].clamp(-FAR, FAR))


def test_untrained_it_moves_little() -> None:
    signals, base, mask = slate(50)

    moved = slate_net()(signals, base, mask) - 2.0 * base

    assert 0 < moved.abs().max() < 0.3


def test_padding_changes_nothing() -> None:
    signals, base, mask = slate(7)
    wider = [torch.cat([part, torch.full_like(part[:, :3], 5.0)], 1) for part in (signals, base)]
    wider_mask = torch.cat([mask, torch.zeros(1, 3, dtype=torch.bool)], 1)

    alone = slate_net()(signals, base, mask)
    among = slate_net()(*wider, wider_mask)

    torch.testing.assert_close(among[:, :7], alone)


def test_candidates_in_another_order_get_the_same_scores() -> None:
    signals, base, mask = slate(11)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(4))

    scores = slate_net()(signals, base, mask)
    shuffled = slate_net()(signals[:, order], base[:, order], mask)

    torch.testing.assert_close(shuffled, scores[:, order])


def test_a_candidate_is_judged_by_the_others_too() -> None:
    signals, base, mask = slate(5)
    others = signals.clone()
    others[:, 1:] += 1.0

    first = slate_net()(signals, base, mask)[0, 0]
    among_others = slate_net()(others, base, mask)[0, 0]

    assert first != among_others


def test_an_odd_signal_is_cut() -> None:
    signals, base, mask = slate(4)
    odd, odder = signals.clone(), signals.clone()
    odd[0, 0, 0], odder[0, 0, 0] = 100.0, 1e9

    assert torch.equal(slate_net()(odd, base, mask), slate_net()(odder, base, mask))


def test_dropout_draws_from_the_generator_that_it_is_given() -> None:
    signals, base, mask = slate(6)
    net = slate_net(dropout=0.5)

    first, again, other = (net(signals, base, mask, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)
