"""What serves gives the numbers of what learned: one history, one slate, at every length and shape."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")

from tailwise.nets.attention import SlateNet  # noqa: E402  after the package that may be absent
from tailwise.nets.sequence import SequenceNet  # noqa: E402
from tailwise.nets.serving import Committee, LastPlace, LastPlaces  # noqa: E402
from tailwise.nets.settings import SequenceShape, SlateShape  # noqa: E402

SHAPES = [
    SequenceShape(dim=16, layers=1, heads=2, max_length=9),
    SequenceShape(dim=16, layers=3, heads=4, max_length=9),
    SequenceShape(dim=16, layers=2, heads=2, max_length=9, blocks="gated"),
    SequenceShape(dim=16, layers=2, heads=1, max_length=9, time_gaps=True),
]
TIMES = torch.tensor([[0, 0, 5, 80, 1e3, 1e5, 1e6, 1e6 + 1, 1e9]], dtype=torch.float64)


def sequence_net(shape: SequenceShape) -> SequenceNet:
    net = SequenceNet(shape, 5).eval()
    with torch.no_grad():
        for block in net.blocks:  # nothing is known of time where learning starts
            torch.nn.init.normal_(block.elapsed)
    return net


@pytest.mark.parametrize("shape", SHAPES, ids=["one block", "three blocks", "gated", "time gaps"])
@pytest.mark.parametrize("length", [1, 2, 9])
def test_the_last_place_is_that_of_the_whole_network(shape: SequenceShape, length: int) -> None:
    torch.manual_seed(0)
    net = sequence_net(shape)
    vectors = torch.randn(1, length, shape.dim)

    with torch.no_grad():
        last = LastPlace(net)(vectors, TIMES[:, :length])

        torch.testing.assert_close(last, net(vectors, times=TIMES[:, :length])[:, -1])


@pytest.mark.parametrize("shape", SHAPES, ids=["one block", "three blocks", "gated", "time gaps"])
def test_networks_side_by_side_read_each_its_own_part(shape: SequenceShape) -> None:
    torch.manual_seed(0)
    nets = [sequence_net(shape) for _ in range(3)]
    parts = [torch.randn(1, 4, shape.dim) for _ in nets]

    with torch.no_grad():
        together = LastPlaces(nets)(torch.cat(parts, dim=-1), TIMES[:, :4])

        each = [LastPlace(net)(part, TIMES[:, :4]) for net, part in zip(nets, parts, strict=True)]
    torch.testing.assert_close(together, torch.cat(each, dim=-1))


def slate_net(seed: int, shape: SlateShape) -> SlateNet:
    torch.manual_seed(seed)
    net = SlateNet(shape, torch.randn(5), torch.rand(5) + 0.5, 1.0 + seed)
    with torch.no_grad():
        for weight in net.parameters():  # norms begin as the identity, which would hide how they are folded in
            weight.add_(0.3 * torch.randn_like(weight))
    return net.eval()


@pytest.mark.parametrize("shape", [SlateShape(dim=8), SlateShape(dim=8, layers=2, heads=4)], ids=["one", "two blocks"])
@pytest.mark.parametrize("n", [1, 2, 30])
def test_a_committee_is_the_mean_of_its_members(shape: SlateShape, n: int) -> None:
    members = [slate_net(seed, shape) for seed in range(3)]
    signals, base = 5 * torch.randn(1, n, 5), torch.randn(1, n)

    with torch.no_grad():
        together = Committee(members)(signals, base)

        mean = sum(net(signals, base, torch.ones(1, n, dtype=torch.bool)) for net in members) / 3
    torch.testing.assert_close(together, mean, rtol=1e-4, atol=1e-5)
