import pytest

from tailwise.errors import ArtifactError
from tailwise.nets.session import open_session


def test_what_is_no_network_is_told_by_name() -> None:
    with pytest.raises(ArtifactError, match=r"^the odd network cannot be run \(.*\); fit the model again$"):
        open_session(b"no network", "the odd network")
