"""What a model keeps of its encoder: new texts and queries get vectors in the space that the items were given."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tailwise.config import EncodeConfig, settings_of
from tailwise.encode.cache import fingerprint_of
from tailwise.encode.exported import OnnxEncoder
from tailwise.encode.reduce import Whitening
from tailwise.encode.text import open_encoder
from tailwise.errors import ArtifactError, ConfigError
from tailwise.types import Encoder, Floats

CARD = "meaning.json"


@dataclass(frozen=True)
class Meaning:
    """An encoder and the whitening that was fitted on the items (``types.Encoder``)."""

    config: EncodeConfig
    encoder: Encoder
    whitening: Whitening

    @property
    def dim(self) -> int:
        """Width after whitening."""
        return self.whitening.dim

    @property
    def fingerprint(self) -> str:
        """Of the encoder."""
        return fingerprint_of(self.encoder)

    def encode(self, texts: Sequence[str]) -> Floats:
        """(N,) texts to (N, D) unit rows in the items' space; an empty text gives a zero row."""
        return self.whitening.transform(self.encoder.encode(texts))

    def save(self, folder: Path) -> None:
        """Write the whitening, and the encoder's files where it has any."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CARD).write_text(self.config.model_dump_json(indent=2), encoding="utf-8")
        self.whitening.save(folder)
        if isinstance(self.encoder, OnnxEncoder):
            shutil.copytree(self.encoder.folder, folder / "model")

    @classmethod
    def open(cls, folder: Path, *, threads: int = 1) -> Self:
        """
        Read what ``save`` wrote. The language model itself is loaded with the first text.

        Raises:
            ArtifactError: A file is missing or damaged.
        """
        try:
            raw = json.loads((folder / CARD).read_text(encoding="utf-8"))
            config = settings_of(EncodeConfig, raw, where=CARD)
        except (OSError, ValueError, ConfigError) as error:
            raise ArtifactError(f"{folder / CARD} cannot be read ({error}); fit the model again") from error
        model = str(folder / "model") if (folder / "model").is_dir() else config.model
        encoder = open_encoder(model, cache=folder, threads=threads, max_tokens=config.max_tokens, export=_no_export)
        return cls(config, encoder, Whitening.open(folder))


def _no_export(model: str, folder: Path) -> Path:
    raise ArtifactError(f"{folder.parents[1]} holds no copy of the encoder {model}; fit the model again")
