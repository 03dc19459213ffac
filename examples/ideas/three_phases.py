"""A few-step recipe in one file: eight steps of Euler, for LoRA files that were distilled to few steps.

    kinoform plan --model t2v-a14b --recipe three_phases:recipe

From this folder; from the root of the repository it is `--recipe examples.ideas.three_phases:recipe`. With the files,
and with a first step of the high expert that is guided and has no LoRA, so that things move fast:

    kinoform generate "a dancer jumps" --model t2v-a14b --recipe three_phases:recipe \\
        --lora high=HIGH.safetensors:0@0-0.125,1@0.125-1 --lora low=LOW.safetensors \\
        --guidance high=3.5@0-0.125,high=1@0.125-1,low=1

A few-step recipe is a value: levels, step rule, number of steps, and where the experts take turns. On a model that it
was not made for it is refused. docs/few_step.md has those of the package.
"""

from kinoform.api import AtStep, EvenToOne, FewStep


def recipe() -> FewStep:
    """Return eight evenly spaced steps, shifted by 5; the low expert begins with the fifth."""
    return FewStep(
        name="three-phases",
        models=("t2v-a14b", "i2v-a14b"),
        steps=8,
        shift=5.0,
        level_grid=EvenToOne(),
        boundaries=(AtStep(step=4),),
    )
