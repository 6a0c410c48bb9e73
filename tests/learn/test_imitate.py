"""What a student pays: the cross-entropy against what its teachers think and what came next."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")

from tailwise.learn.imitate import imitation_loss  # noqa: E402  after the package that may be absent
from tailwise.learn.losses import softmax_loss  # noqa: E402


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def test_the_loss_is_the_cross_entropy_against_the_mixture() -> None:
    hidden, table = numbers(700, 4).requires_grad_(), numbers(9, 4, seed=1).requires_grad_()  # more than one block
    targets = torch.arange(700) % 9
    told = [(numbers(700, 3, seed=2), numbers(9, 3, seed=3)), (numbers(700, 5, seed=4), numbers(9, 5, seed=5))]

    loss = imitation_loss(hidden, table, targets, told, imitate=0.3)
    found = torch.autograd.grad(loss, (hidden, table))

    chance = torch.stack([(vectors @ items.T).softmax(1) for vectors, items in told]).mean(0)
    wanted = 0.3 * chance + 0.7 * torch.nn.functional.one_hot(targets, 9)
    plain = -(wanted * (hidden @ table.T).log_softmax(1)).sum(1).mean()
    assert float(loss.detach()) == pytest.approx(float(plain.detach()), rel=1e-5)
    for one, other in zip(found, torch.autograd.grad(plain, (hidden, table)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_who_imitates_nobody_learns_as_usual() -> None:
    hidden, table, targets = numbers(20, 4), numbers(9, 4, seed=1), torch.arange(20) % 9

    loss = imitation_loss(hidden, table, targets, [(hidden * 3, table)], imitate=0.0, of=40)

    assert float(loss) == pytest.approx(float(softmax_loss(hidden, table, targets, of=40)), rel=1e-5)
