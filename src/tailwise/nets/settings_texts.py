"""Settings of what learns from texts: more texts, harder texts, continued pretraining, heads. Free of torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tailwise.config import Closed
from tailwise.nets.questions import BackendConfig
from tailwise.nets.settings_language import TextLoop, Tuning

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Way = Literal["synonyms", "delete", "mask", "swap", "back_translation"]


class Augmentation(Closed):
    """Copies of texts in other words. Off, because no way helped where it was measured."""

    ways: tuple[Way, ...] = ()
    """How copies differ: ``synonyms``, a span of words left out (``delete``) or hidden (``mask``), words that change
    places (``swap``), or ``back_translation``; none makes no copies."""
    copies: Annotated[int, Field(ge=1, le=20)] = 1
    """Of each text and way."""
    share: Share = 0.2
    """Of a text's words that change."""
    table: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Synonyms by word; words that are not in it take the nearest of the encoder's own words."""
    neighbours: Annotated[int, Field(ge=0, le=20)] = 3
    """Nearest words of the encoder that may stand for a word; 0 takes those of ``table`` alone."""
    least_cosine: Annotated[float, Field(ge=-1, le=1)] = 0.5
    """How near the encoder's words must be to stand for each other."""
    translator: BackendConfig | None = None
    """Who is asked for ``back_translation``; None: nobody."""
    through: str = "German"
    """The language that ``back_translation`` takes, as the model calls it."""
    home: str = "English"
    """The language of the texts."""


class Attack(Closed):
    """Training against the worst small change of the embeddings."""

    kind: Literal["none", "fgm", "pgd"] = "none"
    """``fgm``: one step in the direction that hurts most; ``pgd``: several smaller ones, within the same distance."""
    size: Annotated[float, Field(gt=0)] = 0.05
    """Largest change of one text's embeddings, as Euclidean length over all its tokens. A row of MiniLM's table is
    about 1 long, and a change of 0.1 already turns its answers around."""
    steps: Annotated[int, Field(ge=1, le=10)] = 3
    """Of ``pgd``."""
    stride: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Length of a step of ``pgd``, as a share of ``size``."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Of the attacked texts' loss beside the clean ones'."""


class Pretraining(Closed):
    """Continued pretraining of an encoder on texts without labels."""

    task: Literal["mlm", "simcse"] = "mlm"
    """``mlm``: tell hidden tokens; ``simcse``: find a text's own vector again under other dropout, among a batch."""
    epochs: Annotated[int, Field(ge=1)] = 1
    """Passes over the texts."""
    texts: Annotated[int, Field(ge=2)] = 5_000
    """At most so many are drawn to learn from."""
    batch: Annotated[int, Field(ge=2)] = 32
    """Texts of one step; ``simcse`` tells a text from the others of its batch."""
    max_tokens: Annotated[int, Field(ge=8, le=8192)] = 64
    """Longer texts are cut, in tokens."""
    learning_rate: Annotated[float, Field(gt=0)] = 3e-5
    """At its highest; it rises over a tenth of the steps and falls to zero."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Of matrices and tables."""
    masked: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of tokens that ``mlm`` hides."""
    temperature: Annotated[float, Field(gt=0)] = 0.05
    """Of ``simcse``: lower looks at the nearest wrong texts alone."""


class HeadLoop(TextLoop):
    """How heads learn, and the encoder under them where it does."""

    epochs: Annotated[int, Field(ge=1)] = 60
    """At most; left out: 60 for a frozen encoder, 5 for one that learns."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-3
    """After the warm-up; left out: 5e-3 for a frozen encoder, 1e-3 beside its weights, 1e-4 for its own."""
    warm_up_steps: Annotated[int, Field(ge=0)] = 10
    """Steps over which the rate rises from zero."""
    patience: Annotated[int, Field(ge=1)] = 5
    """Epochs without a better validation value before it stops."""


class HeadWeights(Closed):
    """What each head's loss weighs in the sum."""

    sentiment: Weight = 1.0
    """How a text judges what it speaks of: one label."""
    intent: Weight = 1.0
    """What somebody wants who writes it: one label."""
    topic: Weight = 1.0
    """What it is about: any number of labels."""
    entities: Weight = 1.0
    """Which parts of it are names, and of what."""


class ClassifierConfig(Closed):
    """Settings of ``tailwise fit-classifier``."""

    model: str = "auto"
    """The encoder: a Hugging Face name or folder; while it is frozen also ``multilingual`` (16 languages, Chinese among
    them) or ``hash`` (no model). ``auto`` looks at the texts' letters, as for a catalogue."""
    max_tokens: Annotated[int, Field(ge=8, le=8192)] = 128
    """Longer texts are cut, in tokens."""
    int8: bool = True
    """Whether the encoder is quantised; what is measured is what serves."""
    tuning: Tuning = Tuning(method="frozen")
    """What of the encoder learns."""
    train: HeadLoop = HeadLoop()
    """How."""
    batch: Annotated[int, Field(ge=2)] = 32
    """Texts of one step; pairs of one step, where the order of items is learned too."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of a vector that is dropped before the heads while they learn."""
    weights: HeadWeights = HeadWeights()
    """What each head's loss weighs; 0 leaves the head out."""
    ranking: Annotated[float, Field(ge=0)] = 0.0
    """What it weighs that items which the same people liked lie near each other; needs ``--catalogue``."""
    temperature: Annotated[float, Field(gt=0)] = 0.05
    """Of that loss: lower looks at the nearest wrong items alone."""
    held_out: Annotated[float, Field(ge=0, le=0.5)] = 0.2
    """Share of the texts that nothing is learned from: one half stops the training, makes the chances true and chooses
    thresholds, the other says how good the model is. 0 learns from all and measures nothing."""
    augment: Augmentation = Augmentation()
    """Copies of the texts in other words."""
    attack: Attack = Attack()
    """Training against the worst small change of the embeddings, where the encoder learns."""
    pretrain: Pretraining | None = None
    """Continued pretraining on the texts first; None: none."""

    def loop(self) -> HeadLoop:
        """How to train, with what was left out."""
        method = self.tuning.method
        rate = 1e-4 if method in {"full", "top_layers"} else 1e-3
        fill: dict[str, float | str] = {"epochs": 5, "learning_rate": rate}
        if method == "frozen":
            fill = {"epochs": 60, "learning_rate": 5e-3, "precision": "float32"}
        return self.train.model_copy(
            update={name: value for name, value in fill.items() if name not in self.train.model_fields_set}
        )
