"""The error tree is what its drawing says."""

from __future__ import annotations

import re

import pytest

from tailwise import errors

TREE = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]


def drawn() -> list[tuple[str, str | None]]:
    """Each name of the drawing with the one that it hangs from."""
    found: list[tuple[str, str | None]] = []
    above: dict[int, str] = {}
    for line in str(errors.__doc__).splitlines():
        match = re.match(r"^    ([│├└─ ]*)(\w+Error|Abstain)\b", line)
        if match:
            depth = len(match[1]) // 4
            above[depth] = match[2]
            found.append((match[2], above.get(depth - 1)))
    return found


def test_the_drawing_shows_every_error_where_it_hangs() -> None:
    real = [(kind.__name__, kind.__base__.__name__ if kind is not errors.TailwiseError else None) for kind in TREE]

    assert sorted(drawn()) == sorted(real)


@pytest.mark.parametrize("kind", TREE)
def test_an_error_says_what_it_was_told(kind: type[Exception]) -> None:
    with pytest.raises(errors.TailwiseError, match=r"^scores has 3 rows, but vectors has 2$"):
        raise kind("scores has 3 rows, but vectors has 2")
