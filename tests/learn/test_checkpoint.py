"""Checkpoints: an interrupted run that is picked up equals an uninterrupted one, whatever happened to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")

from safetensors.torch import load_file  # noqa: E402

from tailwise.learn.checkpoint import Learner, Progress, resume, save_checkpoint  # noqa: E402  after torch
from tailwise.learn.loop import side_by_side, train  # noqa: E402
from tailwise.nets.adapting import learned  # noqa: E402
from tailwise.nets.sequence import dropped  # noqa: E402
from tailwise.nets.settings import LoopConfig  # noqa: E402

Optimizer = Literal["adamw", "adam", "sgd", "adafactor"]
OPTIMIZERS: tuple[Optimizer, ...] = ("adamw", "adam", "sgd", "adafactor")
CONFIG = LoopConfig(epochs=6, learning_rate=0.05, warm_up_steps=3, weight_decay=0.01, average=0.5, patience=6)
TRUTH = torch.tensor([[1.0], [-2.0], [0.5]])
STEPS = 4
"""Batches of an epoch."""


class Interrupted(Exception):  # noqa: N818  it stands for a power cut, which is no error
    """The power goes."""


class Net(torch.nn.Module):
    """A norm and two layers with dropout between them; every optimiser meets matrices and vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.one, self.two = torch.nn.LayerNorm(3), torch.nn.Linear(3, 8), torch.nn.Linear(8, 1)

    def forward(self, x: torch.Tensor, noise: torch.Generator | None = None) -> torch.Tensor:
        return self.two(dropped(self.one(self.norm(x)), 0.3, noise))


def fresh_net() -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Net()


def batches(epoch: int) -> Iterator[list[torch.Tensor]]:
    rng = np.random.default_rng((5, epoch))
    for _ in range(STEPS):
        yield list(torch.from_numpy(rng.standard_normal((16, 3)).astype(np.float32)).split([9, 7]))


def judge_of(net: torch.nn.Module) -> Callable[[], float]:
    x = torch.from_numpy(np.random.default_rng(9).standard_normal((64, 3)).astype(np.float32))
    return lambda: -float(torch.nn.functional.mse_loss(net(x), x @ TRUTH).detach())


def run(
    net: torch.nn.Module,
    *,
    config: LoopConfig = CONFIG,
    judge: Callable[[], float] | None = None,
    folder: Path | None = None,
    source: Callable[[int], Iterable[Sequence[torch.Tensor]]] = batches,
) -> Progress:
    with side_by_side(1) as pool:
        return train(
            net,
            config=config,
            seed=3,
            batches=source,
            loss=lambda x, noise: (net(x, noise) - x @ TRUTH).square().sum() / 16,
            judge=judge or judge_of(net),
            pool=pool,
            folder=folder,
        )


def interrupted_after(epoch: int, net: torch.nn.Module, folder: Path, config: LoopConfig = CONFIG) -> None:
    """The power goes while the epoch after so many is judged."""
    judge, calls = judge_of(net), iter(range(100))

    def judge_until() -> float:
        if next(calls) == epoch:
            raise Interrupted
        return judge()

    with pytest.raises(Interrupted):
        run(net, judge=judge_until, folder=folder, config=config)


def interrupted_within(epoch: int, net: torch.nn.Module, folder: Path, config: LoopConfig = CONFIG) -> None:
    """The power goes after two steps of the epoch after so many."""

    def batches_until(number: int) -> Iterator[list[torch.Tensor]]:
        for place, batch in enumerate(batches(number)):
            if (number, place) == (epoch, 2):
                raise Interrupted
            yield batch

    with pytest.raises(Interrupted):
        run(net, source=batches_until, folder=folder, config=config)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("interrupt", [interrupted_after, interrupted_within])
@pytest.mark.parametrize("epoch", range(6))
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_interrupted_anywhere_and_resumed_equals_an_uninterrupted_one_bitwise(
    optimizer: Optimizer, epoch: int, interrupt: Callable[..., None], tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"optimizer": optimizer, "schedule": "cosine", "accumulate": 2})
    whole, resumed = fresh_net(), fresh_net()
    expected = run(whole, config=config)
    interrupt(epoch, fresh_net(), tmp_path, config)
    asked: list[int] = []

    def counted(number: int) -> Iterator[list[torch.Tensor]]:
        asked.append(number)
        return batches(number)

    progress = run(resumed, folder=tmp_path, source=counted, config=config)

    assert asked == list(range(epoch, 6))  # what was done is not done again
    assert progress == expected
    assert same(whole, resumed)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_is_saved_comes_back(optimizer: Optimizer, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"optimizer": optimizer})
    learner, other = Learner.of(fresh_net(), config), Learner.of(fresh_net(), config)
    for _ in range(2):
        learner.net(torch.ones(2, 3)).sum().backward()
        learner.step()
    best = learned(learner.net)
    save_checkpoint(tmp_path, learner, Progress(epoch=2, step=2, losses=[2.0, 1.0]), best)

    progress, found = resume(tmp_path, other)

    assert progress == Progress(epoch=2, step=2, losses=[2.0, 1.0])
    assert all(torch.equal(found[name], tensor) for name, tensor in best.items())
    assert same(learner.net, other.net)
    assert same(learner.average, other.average)
    mine, its = (one.optimizer.state_dict()["state"] for one in (learner, other))
    assert mine.keys() == its.keys()
    for place, state in mine.items():
        assert len(state) > 0  # or there would be nothing to compare
        assert all(torch.equal(value, its[place][name]) for name, value in state.items() if torch.is_tensor(value))


def test_for_a_while_the_net_holds_the_average() -> None:
    learner = Learner.of(fresh_net(), CONFIG)
    before = learner.net.one.weight.detach().clone()
    with torch.no_grad():
        learner.net.one.weight.add_(1.0)
    moved = learner.net.one.weight.detach().clone()

    with learner.averaged():
        inside = learner.net.one.weight.detach().clone()

    assert torch.equal(inside, before)
    assert torch.equal(learner.net.one.weight, moved)


def test_a_finished_run_that_is_asked_for_again_gives_its_best_weights_without_an_epoch(tmp_path: Path) -> None:
    whole, again = fresh_net(), fresh_net()
    expected = run(whole, folder=tmp_path)

    progress = run(again, folder=tmp_path, source=lambda epoch: pytest.fail(f"epoch {epoch} was run again"))

    assert progress == expected
    assert same(whole, again)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 0xFF  # within the numbers: still a readable file
    path.write_bytes(bytes(data))


DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "weights cut short": ("checkpoint-*", cut),
    "weights changed": ("checkpoint-*", flip),
    "weights gone": ("checkpoint-*", Path.unlink),
    "weights of nothing": ("checkpoint-*", lambda path: path.write_bytes(b"")),
    "progress cut short": ("progress.json", cut),
    "progress of another form": ("progress.json", lambda path: path.write_text('{"epoch": 2}')),
    "progress no object": ("progress.json", lambda path: path.write_text("[1, 2]")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_starts_afresh(damage: str, tmp_path: Path) -> None:
    whole, resumed = fresh_net(), fresh_net()
    expected = run(whole)
    interrupted_after(3, fresh_net(), tmp_path)
    pattern, harm = DAMAGES[damage]
    for path in list(tmp_path.glob(pattern)):
        harm(path)

    progress = run(resumed, folder=tmp_path)

    assert progress == expected
    assert same(whole, resumed)


def test_a_crash_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path: Path) -> None:
    whole, resumed = fresh_net(), fresh_net()
    run(whole)
    interrupted_after(3, fresh_net(), tmp_path)
    epoch = json.loads((tmp_path / "progress.json").read_text())["epoch"]
    (tmp_path / f"checkpoint-{(epoch + 1) % 2}.safetensors").write_bytes(b"half of the ne")
    (tmp_path / "progress.json.new").write_text('{"epoch":')

    run(resumed, folder=tmp_path)

    assert epoch == 3
    assert same(whole, resumed)


def test_a_folder_that_cannot_be_written_to_costs_the_checkpoints_and_no_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole, net = fresh_net(), fresh_net()
    expected = run(whole)
    (tmp_path / "file").write_text("in the way")

    progress = run(net, folder=tmp_path / "file" / "checkpoints")

    assert progress == expected
    assert same(whole, net)
    assert {record.getMessage().split(":")[0] for record in caplog.records} == {"no checkpoint"}


def test_weights_that_rest_are_neither_averaged_nor_saved(tmp_path: Path) -> None:
    net = fresh_net()
    rests = next(iter(net.parameters())).requires_grad_(requires_grad=False)
    learner = Learner.of(net, CONFIG)

    save_checkpoint(tmp_path, learner, Progress(epoch=1), learned(net))

    kept = load_file(tmp_path / "checkpoint-1.safetensors")
    names = [name for name, own in net.named_parameters() if own.requires_grad]
    assert [name for name in kept if name.startswith("net.")] == sorted(f"net.{name}" for name in names)
    assert list(learner.averages()) == names
    assert all(own is not rests for own in learner.learning)


def test_a_checkpoint_of_other_weights_starts_afresh(tmp_path: Path) -> None:
    learner = Learner.of(fresh_net(), CONFIG)
    save_checkpoint(tmp_path, learner, Progress(epoch=1), learned(learner.net))
    other = fresh_net()
    next(iter(other.parameters())).requires_grad_(requires_grad=False)

    progress, _ = resume(tmp_path, Learner.of(other, CONFIG))

    assert progress == Progress()
