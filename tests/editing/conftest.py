"""One tiny model for all tests here."""

from pathlib import Path

import pytest

from tests.support.tiny_recipe import write_tiny_folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_folder(tmp_path_factory.mktemp("models") / "tiny")
