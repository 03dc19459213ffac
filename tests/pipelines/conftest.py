"""One tiny model for all tests here."""

from pathlib import Path

import pytest

from kinoform.pipelines.pipeline import Pipeline
from tests.support.tiny_recipe import tiny_pipeline, write_tiny_folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def pipe(folder: Path) -> Pipeline:
    return tiny_pipeline(folder)
