"""The embedded models, their training, and the world of their videos; `kinoform.api` has what any model is built with.

A name is imported when it is first asked for.
"""

from typing import TYPE_CHECKING

from kinoform.lazy import lazy_names

if TYPE_CHECKING:
    from kinoform.mini.factorized_recipe import mini_factorized as mini_factorized
    from kinoform.mini.recipe import mini as mini
    from kinoform.mini.training.autoencoder_stage import AutoencoderConfig as AutoencoderConfig
    from kinoform.mini.training.dataset import Videos as Videos
    from kinoform.mini.training.plan import Plan as Plan
    from kinoform.mini.training.plan import TransformerPlan as TransformerPlan
    from kinoform.mini.training.probe_loss import ProbeLoss as ProbeLoss
    from kinoform.mini.training.text_stage import TextConfig as TextConfig
    from kinoform.mini.training.transformer_stage import TransformerConfig as TransformerConfig
    from kinoform.world.caption import vocabulary as vocabulary
    from kinoform.world.parse import parse as parse
    from kinoform.world.portrait import portrait as portrait
    from kinoform.world.render import coverage as coverage
    from kinoform.world.render import render as render
    from kinoform.world.sampling import L1 as L1
    from kinoform.world.sampling import L2 as L2
    from kinoform.world.sampling import L3 as L3
    from kinoform.world.sampling import Difficulty as Difficulty
    from kinoform.world.sampling import place as place
    from kinoform.world.scene import Scene as Scene

PUBLIC: dict[str, dict[str, str]] = {
    "Models": {
        "kinoform.mini.recipe": "mini",
        "kinoform.mini.factorized_recipe": "mini_factorized",
    },
    "Training": {
        "kinoform.mini.training.plan": "Plan TransformerPlan",
        "kinoform.mini.training.dataset": "Videos",
        "kinoform.mini.training.autoencoder_stage": "AutoencoderConfig",
        "kinoform.mini.training.text_stage": "TextConfig",
        "kinoform.mini.training.transformer_stage": "TransformerConfig",
        "kinoform.mini.training.probe_loss": "ProbeLoss",
    },
    "World": {
        "kinoform.world.caption": "vocabulary",
        "kinoform.world.sampling": "Difficulty L1 L2 L3 place",
        "kinoform.world.scene": "Scene",
        "kinoform.world.parse": "parse",
        "kinoform.world.render": "render coverage",
        "kinoform.world.portrait": "portrait",
    },
}
"""Names by the module that defines them, in groups of one purpose."""

if not TYPE_CHECKING:
    __all__, __dir__, __getattr__ = lazy_names(__name__, PUBLIC)
