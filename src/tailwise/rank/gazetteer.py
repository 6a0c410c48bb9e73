"""Names that are known, found in texts: titles of the catalogue, entities of its graph. There is nothing to learn."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Self

from tailwise.data.labelled import Span
from tailwise.errors import ArtifactError

# Scripts without spaces between words: each sign is a word of its own.
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")
LEAST_SIGNS = 3
"""Characters of the shortest name of one word; shorter ones are words of the language more often than names."""
Key = tuple[str, ...]


class Gazetteer:
    """
    Finds the longest known names, from left to right.

    A name of several words is found however it is written; a name of one word only where its case is as it is known,
    and with a capital, because "Her" is a film and "her" is not. Scripts without case are found as they stand.

    Args:
        names: Name to label; of names that differ in case alone the first is kept.

    Cost: O(words of the text × longest name).

    >>> films = Gazetteer({"Toy Story": "film", "Her": "film"})
    >>> [span.start for span in films.find("toy story, and her liked Her")]
    [0, 25]
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = dict(names)
        self._known: dict[Key, tuple[str, str]] = {}
        self._lengths: dict[str, tuple[int, ...]] = {}
        for name, label in names.items():
            key = tuple(word.casefold() for word in WORD.findall(name))
            if key and not (len(key) == 1 and len(name.strip()) < LEAST_SIGNS):
                self._known.setdefault(key, (name.strip(), label))
        for key in self._known:
            lengths = {*self._lengths.get(key[0], ()), len(key)}
            self._lengths[key[0]] = tuple(sorted(lengths, reverse=True))

    @classmethod
    def of(cls, pairs: Iterable[tuple[str | None, str]]) -> Self:
        """Of names and labels as tables have them: empty ones are left out, and of twins the first counts."""
        names: dict[str, str] = {}
        for name, label in pairs:
            if name and name.strip():
                names.setdefault(name.strip(), label)
        return cls(names)

    @classmethod
    def open(cls, path: Path) -> Self:
        """
        Read what ``save`` wrote.

        Raises:
            ArtifactError: The file is missing or damaged.
        """
        try:
            names = json.loads(path.read_text(encoding="utf-8"))
            return cls({str(name): str(label) for name, label in names.items()})
        except (OSError, ValueError, AttributeError) as error:
            raise ArtifactError(f"{path} cannot be read ({error}); fit the classifier again") from error

    def save(self, path: Path) -> None:
        """Write the names as JSON."""
        path.write_text(json.dumps(self.names, ensure_ascii=False, indent=0), encoding="utf-8")

    def find(self, text: str) -> list[Span]:
        """The names in a text, none overlapping, in its order."""
        return list(self._find(text))

    def _find(self, text: str) -> Iterator[Span]:
        words = [(found[0], found.start(), found.end()) for found in WORD.finditer(text)]
        folded = [word.casefold() for word, _, _ in words]
        at = 0
        while at < len(words):
            for length in self._lengths.get(folded[at], ()):
                known = self._known.get(tuple(folded[at : at + length]))
                if (
                    known is None
                    or at + length > len(words)
                    or (length == 1 and not _as_written(words[at][0], known[0]))
                ):
                    continue
                yield Span(words[at][1], words[at + length - 1][2], known[1])
                at += length
                break
            else:
                at += 1


def _as_written(word: str, name: str) -> bool:
    """Whether a word is a name of one word, and not a word of the language: see ``Gazetteer``."""
    has_case = word.lower() != word.upper()
    return not has_case or (word == name and not word.islower())
