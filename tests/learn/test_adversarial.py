"""Attacks on embeddings: they raise the loss, stay within their size, and leave every weight bit for bit as it was."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")
from torch import Tensor, nn  # noqa: E402  after the package that may be absent

from tailwise.learn.adversarial import Probe, attack, hardened, projected, towards  # noqa: E402
from tailwise.nets.sequence import dropped  # noqa: E402
from tailwise.nets.settings_texts import Attack  # noqa: E402

FGM, PGD = Attack(kind="fgm", size=0.3), Attack(kind="pgd", size=0.3, steps=4)
WORDS = torch.tensor([[0, 1, 2], [3, 4, 5], [1, 1, 0], [5, 4, 3]])
WANTED = torch.tensor([0, 1, 0, 1])


class Net(nn.Module):
    """Words to one of two labels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.table = nn.Embedding(6, 4)
        self.head = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))

    def forward(self, words: Tensor, noise: torch.Generator | None = None) -> Tensor:
        return self.head(dropped(self.table(words).mean(1), 0.2, noise))


@pytest.fixture
def net() -> Net:
    return Net()


def loss_of(net: Net, noise: torch.Generator | None = None) -> Tensor:
    return nn.functional.cross_entropy(net(WORDS, noise), WANTED)


def attacked_loss(net: Net, config: Attack) -> tuple[float, float]:
    clean, attacked = attack(lambda: loss_of(net), Probe(net.table), config)
    return float(clean.detach()), float(attacked.detach())


def weights(net: nn.Module) -> list[bytes]:
    return [parameter.detach().numpy().tobytes() for parameter in net.parameters()]


@pytest.mark.parametrize("config", [FGM, PGD], ids=lambda config: config.kind)
def test_an_attack_raises_the_loss_and_leaves_the_weights(net: Net, config: Attack) -> None:
    before = weights(net)

    clean, attacked = attacked_loss(net, config)

    assert clean == float(loss_of(net).detach())
    assert attacked > clean
    assert weights(net) == before
    assert not net.table._forward_hooks


def test_several_steps_hurt_at_least_as_much_as_one(net: Net) -> None:
    one, several = (attacked_loss(net, config)[1] for config in (FGM, PGD))

    assert several >= one - 1e-4


def test_no_text_changes_by_more_than_the_size_and_fgm_goes_along_its_gradient(net: Net) -> None:
    with Probe(net.table).shifted(None) as added:
        gradient = torch.autograd.grad(loss_of(net), added)[0]

    shift = projected(FGM.size * towards(gradient), FGM.size)

    assert torch.allclose(shift.flatten(1).norm(dim=1), torch.full((4,), FGM.size))
    assert (torch.nn.functional.cosine_similarity(shift.flatten(1), gradient.flatten(1)) > 0.9999).all()


def test_lengths_by_hand() -> None:
    values = torch.tensor([[3.0, 4.0], [0.0, 0.0]])

    assert towards(values).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0.0, 0.0]]
    assert projected(values, 2.5).tolist() == [[1.5, 2.0], [0.0, 0.0]]
    assert projected(values, 9.0).tolist() == values.tolist()


def test_a_frozen_table_can_be_attacked(net: Net) -> None:
    net.table.weight.requires_grad_(requires_grad=False)

    clean, attacked = attacked_loss(net, FGM)

    assert attacked > clean


def test_both_losses_teach_and_dropout_is_the_same_in_both(net: Net) -> None:
    def plain(part: Any, noise: torch.Generator) -> Tensor:
        return loss_of(net, noise)

    tiny = Attack(kind="fgm", size=1e-6, weight=1.0)
    hard = hardened(plain, net.table, tiny)

    value = hard(None, torch.Generator().manual_seed(5))

    once = plain(None, torch.Generator().manual_seed(5))
    assert float(value.detach()) == pytest.approx(2 * float(once.detach()), abs=1e-4)
    gradients = torch.autograd.grad(value, list(net.parameters()))
    assert all(float(own.abs().sum()) > 0 for own in gradients)


def test_without_an_attack_the_loss_is_the_same_function(net: Net) -> None:
    def plain(part: Any, noise: torch.Generator) -> Tensor:
        return loss_of(net)

    assert hardened(plain, net.table, Attack()) is plain


def test_a_step_that_fails_leaves_no_hook(net: Net) -> None:
    def broken() -> Tensor:
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match=r"^no memory$"):
        attack(broken, Probe(net.table), FGM)

    assert not net.table._forward_hooks


def test_threads_attack_the_same_table_side_by_side(net: Net) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: attacked_loss(net, PGD), range(16)))

    assert set(found) == {attacked_loss(net, PGD)}


def trained(config: Attack) -> Net:
    net = Net()
    hard = hardened(lambda part, noise: loss_of(net), net.table, config)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.3)
    for step in range(60):
        optimiser.zero_grad()
        hard(None, torch.Generator().manual_seed(step)).backward()
        optimiser.step()
    return net


def test_an_attack_teaches_words_to_keep_their_distance() -> None:
    """After training against attacks, attacked texts are told right too; a clean training does not see to that."""
    strong = Attack(kind="fgm", size=1.0)

    hurt = {config.kind: attacked_loss(trained(config), strong)[1] for config in (Attack(), strong)}

    assert hurt["fgm"] < hurt["none"] / 2
