"""Who judges what: from `golden.name` to a function that computes every recorded output with kinoform.

A judge returns one value per recorded tensor: the whole tensor, or, where samples of one batch have
different sizes, a list with the true rows of each sample.
"""

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase

from torch import Tensor

from tests.conformance import (
    judge_bernini,
    judge_dit,
    judge_experts,
    judge_factorized,
    judge_few_step,
    judge_guidance,
    judge_ops,
    judge_pipeline,
    judge_sampling,
    judge_solvers,
    judge_text,
    judge_ti2v,
    judge_vace,
    judge_vae,
    judge_vision,
)
from tests.conformance.golden import Golden

Judge = Callable[[Golden], Mapping[str, Tensor | list[Tensor]]]
JUDGES: dict[str, Judge] = {
    **judge_ops.JUDGES,
    **judge_text.JUDGES,
    **judge_vae.JUDGES,
    **judge_dit.JUDGES,
    **judge_vace.JUDGES,
    **judge_factorized.JUDGES,
    **judge_solvers.JUDGES,
    **judge_sampling.JUDGES,
    **judge_experts.JUDGES,
    **judge_guidance.JUDGES,
    **judge_pipeline.JUDGES,
    **judge_vision.JUDGES,
    **judge_ti2v.JUDGES,
    **judge_bernini.JUDGES,
    **judge_few_step.JUDGES,
}

NOT_BUILT: tuple[str, ...] = ()
"""Patterns of names of files whose models and rules kinoform does not have yet. Every other file is judged."""


def is_built(name: str) -> bool:
    """Whether files of this name are to be judged, which one of the judges must then know."""
    return not any(fnmatchcase(name, pattern) for pattern in NOT_BUILT)
