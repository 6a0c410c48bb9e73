"""When a refused model is tried again."""

from pathlib import Path

import pytest

from tailwise.serve.refusals import LONGEST_S, Refusals

SHOP = Path("shop")


def test_each_refusal_doubles_the_wait_and_another_model_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    refusals = Refusals(5.0)

    first = refusals.add(SHOP, "a")
    waits = (refusals.waits(SHOP, "a"), refusals.waits(SHOP, "b"), refusals.waits(Path("other"), "a"))
    now[0] += 5
    over = refusals.waits(SHOP, "a")
    again = refusals.add(SHOP, "a")
    now[0] += 9
    still = refusals.waits(SHOP, "a")

    assert (first, again) == (True, False)
    assert waits == (True, False, False)
    assert (over, still) == (False, True)


def test_the_wait_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    refusals = Refusals(0.0)
    for _ in range(30):
        refusals.add(SHOP, None)

    now[0] += LONGEST_S

    assert not refusals.waits(SHOP, None)
