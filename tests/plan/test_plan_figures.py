"""Figures of released and embedded models, as they were worked out by hand, layer by layer, before modules were run."""

from collections.abc import Mapping
from typing import NamedTuple

import pytest
import torch

from kinoform.mini.factorized_recipe import mini_factorized
from kinoform.mini.recipe import mini
from kinoform.pipelines.fit import workload_of
from kinoform.pipelines.request import request
from kinoform.plan.modules import vision_run
from kinoform.plan.video_plan import VideoPlan, plan_video
from kinoform.recipes.catalogue import RELEASED
from tests.plan.planned_videos import PLAIN_KERNELS, sizes_of


class Figures(NamedTuple):
    """Operations of one forward of the transformer, of a prompt, an image, a video's encoding and decoding, and of
    denoising, as executed and as the official code does it. `parameters` by part; `history` of the codec and `peaks` of
    stages in bytes, without weights.
    """

    parameters: tuple[int, ...]
    forward: int
    text: int
    vision: int | None
    encode: int
    decode: int
    denoise: int
    official: int
    history: int
    peaks: Mapping[str, int]


FIGURES = {
    "mini": Figures(
        parameters=(338560, 3994336, 878955),
        forward=577474560, text=22020096, vision=None,
        encode=15728640, decode=3282370560,
        denoise=16982999040, official=18479185920, history=2301952,
        peaks={'denoise': 1230848, 'decode': 4595712},
    ),
    "mini-factorized": Figures(
        parameters=(338560, 4700646, 878955),
        forward=555945984, text=22020096, vision=None,
        encode=15728640, decode=3282370560,
        denoise=16353460224, official=17790271488, history=2301952,
        peaks={'denoise': 1261568, 'decode': 4595712},
    ),
    "t2v-1.3b": Figures(
        parameters=(5680910336, 1418996800, 126892531),
        forward=283001787777024, text=4844723109888, vision=None,
        encode=163749702205440, decode=275352205639680,
        denoise=27924172656869376, official=28300178777702400, history=3777146880,
        peaks={'denoise': 2473033728, 'decode': 6249984000},
    ),
    "t2v-14b": Figures(
        parameters=(5680910336, 14288491584, 126892531),
        forward=6523436592005120, text=4844723109888, vision=None,
        encode=381674137190400, decode=639218375884800,
        denoise=645480722763612160, official=652343659200512000, history=8716492800,
        peaks={'denoise': 13467893760, 'decode': 14423040000},
    ),
    "i2v-14b-480p": Figures(
        parameters=(5680910336, 611086080, 16394878784, 126892531),
        forward=1686376373944320, text=4844723109888, vision=324143836160,
        encode=163749702205440, decode=275352205639680,
        denoise=133497472395509760, official=134910109915545600, history=3777146880,
        peaks={'encode': 4715642880, 'denoise': 8096048640, 'decode': 6249984000},
    ),
    "vace-1.3b": Figures(
        parameters=(5680910336, 2153972032, 126892531),
        forward=427003737145344, text=4844723109888, vision=None,
        encode=163749702205440, decode=275352205639680,
        denoise=42659261006217216, official=42700373714534400, history=3777146880,
        peaks={'encode': 4715642880, 'denoise': 4026667008, 'decode': 6249984000},
    ),
}  # fmt: skip


def planned(name: str) -> VideoPlan:
    """In bfloat16 on an accelerator, at the recipe's own size and length."""
    made = {"mini": mini, "mini-factorized": mini_factorized, **RELEASED}[name]()
    return plan_video(sizes_of(made), workload_of(request(made, "a", 1)), dtype=torch.bfloat16, device="cuda")


@pytest.mark.parametrize("name", FIGURES)
def test_operations_and_parameters_are_equal_and_peaks_alike(name: str) -> None:
    """Peaks by hand left out tensors of some megabytes, and in bfloat16 the float32 input of the feed-forward."""
    figures, plan = FIGURES[name], planned(name)
    assert tuple(count.parameters for count in plan.parameters.values()) == figures.parameters
    assert plan.transformer.forward == figures.forward
    assert (plan.text, plan.encode.flops, plan.decode.flops) == (figures.text, figures.encode, figures.decode)
    assert plan.flops["denoise"].executed == figures.denoise
    assert plan.flops["denoise"].official == figures.official
    assert plan.decode.history == figures.history
    for peak in plan.peaks:
        if peak.stage in figures.peaks:
            assert peak.activations == pytest.approx(figures.peaks[peak.stage], rel=0.15)


def test_an_image_in_the_image_encoder() -> None:
    spec = RELEASED["i2v-14b-480p"]().image
    assert spec is not None
    assert vision_run(spec, torch.bfloat16, PLAIN_KERNELS).flops == FIGURES["i2v-14b-480p"].vision
