"""Random generators: one for each step, and the global ones as a value, which only dropout needs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def step_generator(seed: int, step: int) -> torch.Generator:
    """Return a generator for the noise of one step, apart from every other step's and seed's."""
    words = np.random.SeedSequence([seed, step]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(words[0]) << 31 ^ int(words[1]))


def seed_everything(seed: int) -> None:
    """Seed the global generators, of devices too; torch.manual_seed would also seed GPUs that are first used later."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)
    np.random.seed(seed % 2**32)


@contextmanager
def kept_randomness() -> Iterator[None]:
    """Leave the generators as they were, whatever is seeded and drawn within."""
    before = randomness()
    try:
        yield
    finally:
        restore_randomness(before)


def randomness() -> dict[str, Any]:
    """Return the states of torch's generators (CPU, each CUDA device, MPS) and of numpy's, as tensors and numbers."""
    name, key, *rest = np.random.get_state(legacy=True)
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
        "numpy": (name, torch.from_numpy(np.asarray(key).astype(np.int64)), *rest),
    }


def restore_randomness(state: dict[str, Any]) -> None:
    """Set the generators to these states; those of devices that one of the two machines lacks stay as they are."""
    torch.set_rng_state(state["cpu"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    if state.get("mps") is not None and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])
    name, key, *rest = state["numpy"]
    np.random.set_state((name, key.numpy().astype(np.uint32), *rest))
