"""How mini is trained: each stage's optimizers hold what its plan says they hold."""

import torch

from kinoform.mini.plans import in_blocks, inner_convolutions, mini
from kinoform.mini.training.transformer_stage import ProbedModel
from tests.support.narrowing import some


def test_muon_has_the_matrices_of_the_blocks_and_nothing_else() -> None:
    config = mini().transformer
    with torch.device("meta"):
        pupil = ProbedModel(config.transformer, config.probe_loss, mini().recipe.codec.stride)
    taken = {name for name, parameter in pupil.named_parameters() if in_blocks(name, parameter)}
    matrices = {name for name, parameter in pupil.named_parameters() if parameter.ndim == 2 and ".blocks." in name}
    assert taken == matrices
    assert len(taken) == config.transformer.layers * len(("q", "k", "v", "o") * 2 + ("up", "down"))


def test_muon_has_the_inner_kernels_of_the_decoder() -> None:
    with torch.device("meta"):
        codec = some(mini().autoencoder).codec.build()
    taken = [name for name, parameter in codec.named_parameters() if inner_convolutions(name, parameter)]
    assert taken and all(name.startswith("decoder.") and ".conv_" not in name for name in taken)
