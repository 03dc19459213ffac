"""Who judges what: from `golden.name` to a function that computes every recorded output with kinoform.

A judge returns one value per recorded tensor: the whole tensor, or, where samples of one batch have
different sizes, a list with the true rows of each sample.
"""

from collections.abc import Callable, Mapping

from torch import Tensor

from tests.conformance import (
    judge_dit,
    judge_factorized,
    judge_ops,
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
    **judge_vision.JUDGES,
    **judge_ti2v.JUDGES,
}
