"""Optimisers, the rate from step to step, and bfloat16."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs torch: pip install 'tailwise[train]'")

from tailwise.learn import optimise  # noqa: E402  after the package that may be absent
from tailwise.learn.optimise import fast_bfloat16, learning_rate, lowered, optimizer_of  # noqa: E402
from tailwise.nets.settings import LoopConfig  # noqa: E402
from tailwise.nets.settings_language import TextLoop  # noqa: E402

KINDS = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
    "adafactor": torch.optim.Adafactor,
}


def layer() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.LayerNorm(3), torch.nn.Linear(3, 1))


@pytest.mark.parametrize("name", KINDS)
def test_the_name_decides_the_optimiser(name: Any) -> None:
    made = optimizer_of(layer(), LoopConfig(optimizer=name, learning_rate=0.01, momentum=0.8))

    assert type(made) is KINDS[name]
    assert [group["lr"] for group in made.param_groups] == [0.01]
    assert name != "sgd" or made.param_groups[0]["momentum"] == 0.8


@pytest.mark.parametrize("name", KINDS)
def test_biases_and_norms_are_never_decayed(name: Any) -> None:
    net = layer()
    made = optimizer_of(net, LoopConfig(optimizer=name, weight_decay=0.1))

    decays = {id(p): group["weight_decay"] for group in made.param_groups for p in group["params"]}

    assert {decays[id(p)] for p in net.parameters() if p.ndim > 1} == {0.1}
    assert {decays[id(p)] for p in net.parameters() if p.ndim == 1} == {0.0}
    assert len(decays) == len(list(net.parameters()))


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_a_fresh_head_learns_at_a_multiple_of_the_rate(decay: float) -> None:
    net = torch.nn.ModuleDict({"model": layer(), "head": layer()})
    made = optimizer_of(net, TextLoop(weight_decay=decay, head_rate=5.0))

    times = {id(p): group["times"] for group in made.param_groups for p in group["params"]}

    assert {times[id(p)] for p in net["model"].parameters()} == {1.0}
    assert {times[id(p)] for p in net["head"].parameters()} == {5.0}
    assert len(times) == len(list(net.parameters()))


@pytest.mark.parametrize("name", KINDS)
def test_without_a_gradient_worth_the_name_decay_shrinks_matrices_alone(name: Any) -> None:
    net = layer()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(1.0)
    made = optimizer_of(net, LoopConfig(optimizer=name, weight_decay=0.5, learning_rate=0.1))
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)

    made.step()

    assert all((p < 1).all() for p in net.parameters() if p.ndim > 1)
    assert all((p == 1).all() for p in net.parameters() if p.ndim == 1)


def test_what_is_frozen_is_not_the_optimisers_business() -> None:
    net = layer()
    net[0].weight.requires_grad_(requires_grad=False)

    made = optimizer_of(net, LoopConfig())

    assert net[0].weight not in {p for group in made.param_groups for p in group["params"]}


def test_a_constant_rate_stays_after_the_warm_up() -> None:
    config = LoopConfig(learning_rate=0.8, warm_up_steps=4, epochs=10)

    found = [learning_rate(config, step, epoch) for step, epoch in ((1, 0), (3, 0), (4, 0), (5, 1), (99, 9))]

    assert found == pytest.approx([0.2, 0.6, 0.8, 0.8, 0.8])


def test_a_cosine_falls_slowly_then_fast_then_slowly() -> None:
    config = LoopConfig(learning_rate=1.0, warm_up_steps=0, schedule="cosine", epochs=4)

    found = [learning_rate(config, 50, epoch) for epoch in range(4)]

    assert found == pytest.approx([1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2])


@given(st.sampled_from(["constant", "cosine", "linear"]), st.integers(1, 50), st.integers(0, 30), st.integers(1, 20))
def test_no_rate_is_above_the_setting_or_below_zero_and_it_never_rises_after_the_warm_up(
    schedule: Any, epochs: int, warm_up: int, steps: int
) -> None:
    config = LoopConfig(learning_rate=0.5, schedule=schedule, epochs=epochs, warm_up_steps=warm_up)

    rates = [learning_rate(config, e * steps + s + 1, e) for e in range(epochs) for s in range(steps)]

    assert all(0 < rate <= 0.5 for rate in rates)
    assert all(one >= other for one, other in zip(rates[warm_up:], rates[warm_up + 1 :], strict=False))


class Telling(torch.nn.Module):
    """Answers in every form that a net may."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)
        self.met: list[torch.dtype] = []

    def forward(self, x: torch.Tensor) -> Any:
        y = self.layer(x)
        self.met.append(y.dtype)
        return {"pair": (y, [y]), "named": Pair(y, 3), "rows": torch.arange(2)}


class Pair(NamedTuple):
    y: torch.Tensor
    n: int


def test_in_bfloat16_products_are_narrow_and_answers_are_not() -> None:
    net = Telling()

    with lowered(net, "bfloat16"):
        answer = net(torch.ones(1, 2))
    after = net(torch.ones(1, 2))

    assert net.met == [torch.bfloat16, torch.float32]
    assert answer["pair"][0].dtype == answer["pair"][1][0].dtype == answer["named"].y.dtype == torch.float32
    assert answer["named"].n == 3
    assert answer["rows"].dtype == torch.int64
    torch.testing.assert_close(answer["pair"][0], after["pair"][0], rtol=0.02, atol=0.02)


def test_threads_do_not_get_into_each_others_way_in_bfloat16() -> None:
    net, x = Telling(), torch.ones(3, 2)

    with lowered(net, "bfloat16"), ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: net(x), range(200)))

    assert set(net.met) == {torch.bfloat16}
    assert not torch.is_autocast_enabled("cpu")


def test_a_net_is_as_it_was_after_an_error() -> None:
    net = Telling()

    with pytest.raises(RuntimeError), lowered(net, "bfloat16"):
        net(torch.ones(1, 5))

    assert "forward" not in vars(net)


def test_an_answer_with_names_keeps_them() -> None:
    from transformers.modeling_outputs import BaseModelOutput

    class Named(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> BaseModelOutput:
            return BaseModelOutput(last_hidden_state=super().forward(x))

    net = Named(5, 2)
    with lowered(net, "bfloat16"):
        answer = net(torch.ones(1, 5))

    assert isinstance(answer, BaseModelOutput)
    assert answer.last_hidden_state.dtype == torch.float32


def test_a_processor_that_would_be_slow_is_spoken_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(optimise, "FAST", ())

    with lowered(Telling(), "bfloat16"):
        pass

    assert not fast_bfloat16()
    assert [record.getMessage() for record in caplog.records] == [
        "slow arithmetic: precision=bfloat16 reason=this processor has no instructions for it"
    ]


class Tied(torch.nn.Module):
    """A table that is the last matrix as well, a matrix that rests and one that learns."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(7, 4)
        self.rests, self.learns, self.out = (torch.nn.Linear(4, n, bias=n == 4) for n in (4, 4, 7))
        self.out.weight = self.table.weight
        for part in (self.table, self.rests):
            part.requires_grad_(requires_grad=False)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.learns(torch.tanh(self.rests(self.table(rows))))))


def test_what_rests_is_lowered_once_to_the_same_answers_and_comes_back_as_it_was() -> None:
    net, rows = Tied(), torch.arange(7)
    before = {name: own.clone() for name, own in net.state_dict().items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        wanted = net(rows).float()

    with lowered(net, "bfloat16"):
        inside = {name: own.dtype for name, own in net.state_dict().items()}
        answers = net(rows)
        answers.sum().backward()

    low = {name for name, dtype in inside.items() if dtype == torch.bfloat16}
    assert low == {"rests.weight", "rests.bias"}
    assert torch.equal(answers, wanted)
    assert net.learns.weight.grad is not None
    assert net.learns.weight.grad.dtype == torch.float32
    after = net.state_dict()
    assert all(after[name].dtype == torch.float32 and torch.equal(after[name], own) for name, own in before.items())
