from pathlib import Path

import pytest

from tailwise.errors import ConfigError
from tailwise.serve.places import common_state, models_of, services_of
from tailwise.serve.service import Service


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two folders that look like models, and some that do not."""
    for name in ("shop", "shop.previous", "library", ".hidden"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text("{}")
    (tmp_path / "no-model").mkdir()
    (tmp_path / "shop.state.sqlite").touch()
    return tmp_path


def test_each_folder_with_a_model_is_a_tenant(folder: Path) -> None:
    assert models_of(folder) == {"library": folder / "library", "shop": folder / "shop"}


def test_a_folder_without_models_or_with_a_strange_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^.* holds no model folder; fit one with: tailwise fit DATA --out .*/TENANT$"
    ):
        models_of(tmp_path)
    (tmp_path / "My Shop").mkdir()
    (tmp_path / "My Shop" / "manifest.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"^.* holds a model in 'My Shop', but a tenant's name is small letters, .*$"):
        models_of(tmp_path)


def test_one_state_for_all_is_refused(folder: Path) -> None:
    service = Service(model=folder, tenants=folder, state="sqlite:////tmp/all.sqlite")

    message = (
        r"^state is 'sqlite:////tmp/all\.sqlite', but tenants share no state: write \{tenant\} where the name goes$"
    )
    with pytest.raises(ConfigError, match=message):
        services_of(service)


def test_states_lie_beside_the_models_or_where_a_pattern_says(folder: Path) -> None:
    beside = services_of(Service(model=folder, tenants=folder))
    service = Service(model=folder, tenants=folder, state="sqlite:////tmp/{tenant}.sqlite")

    assert {name: own.state for name, own in beside.items()} == {
        "library": f"sqlite:///{folder}/library.state.sqlite",
        "shop": f"sqlite:///{folder}/shop.state.sqlite",
    }
    assert {name: own.state for name, own in services_of(service).items()} == {
        "library": "sqlite:////tmp/library.sqlite",
        "shop": "sqlite:////tmp/shop.sqlite",
    }
    assert common_state(service) == "sqlite:////tmp/{tenant}.sqlite"


def test_each_tenant_has_a_log_of_its_own(folder: Path) -> None:
    service = Service(model=folder, tenants=folder, log=folder / "log")

    assert {name: own.log for name, own in services_of(service).items()} == {
        "library": folder / "log" / "library",
        "shop": folder / "log" / "shop",
    }
