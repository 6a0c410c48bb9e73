"""What people call things."""

import numpy as np

from tailwise.pipeline import Engine
from tailwise.pipeline.explained import titles
from tailwise.types import ids_of


def test_an_unknown_item_is_called_by_its_id(tiny_engine: Engine) -> None:
    catalogue = tiny_engine.catalogue

    assert titles(catalogue, ids_of(["i01", "new"]), np.array([1, -1])) == [catalogue.title(1), "new"]
