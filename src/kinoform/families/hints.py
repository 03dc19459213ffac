"""Hints that names give and no structure does: models made for few steps, and relatives with inputs of their own.

They load as the model that they were made from, and a note says which settings fit. Sources: the pages of the models.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FewSteps:
    """A way to make videos in few steps, by its name; never with classifier-free guidance."""

    pattern: str
    name: str
    steps: int
    shift: int

    def text(self, steps: int) -> str:
        return f"made for few steps ({self.name}); use --steps {steps} --guidance-scale 1 --shift {self.shift}"


FEW_STEPS = (
    FewSteps(pattern=r"fast[ _-]?wan", name="FastWan", steps=3, shift=8),
    FewSteps(pattern=r"self[ _.-]?forcing", name="Self-Forcing", steps=4, shift=5),
    FewSteps(pattern=r"caus[ _-]?vid", name="CausVid", steps=4, shift=5),
    FewSteps(pattern=r"light[ _-]?x2v|wan[^/]*lightning", name="LightX2V", steps=4, shift=5),
    FewSteps(pattern=r"turbo[ _-]?diffusion|turbo[ _-]?wan|(?<![a-z])rcm(?![a-z])", name="rCM", steps=4, shift=5),
    FewSteps(pattern=r"(?<![a-z])dmd2?(?![a-z])", name="DMD", steps=4, shift=5),
    FewSteps(pattern=r"fusion[ _-]?i?x(?![a-z])", name="FusionX", steps=8, shift=5),
    FewSteps(pattern=r"distill", name="a distilled model", steps=4, shift=5),
)
STEPS = re.compile(r"(?<![a-z\d])(\d{1,2})[ _.-]?steps?(?![a-z])(?![ _.-]?\d)")
"""A number of steps in a name, but not that of a training: step_4000."""

FEWEST, MOST = 1, 16

RELATIVES = {
    r"phantom": "Phantom, which takes images of its subjects; here it is a text-to-video model without them",
    r"wan.*fun.*inp(?![a-z])": "Wan-Fun InP, trained on frames anywhere; here it is used as Wan's own",
    r"magref": "MAGREF, which takes images of several subjects; here it is an image-to-video model of one",
    r"sky[ _-]?reels": "SkyReels, made for 24 frames a second: --fps 24",
    r"bind[ _-]?weave": "BindWeave, which takes images of its subjects; here it is used without them",
    r"echo[ _-]?shot": "EchoShot, which takes a prompt a shot; here it is used with one",
    r"(?<![a-z])ati(?![a-z])": "ATI, which takes paths of points; here it is an image-to-video model without them",
    r"wan[ _-]?move": "Wan-Move, which takes paths of points; here it is an image-to-video model without them",
    r"re[ _-]?cam[ _-]?master": "ReCamMaster, which takes a video and a camera; here it is used without them",
    r"uni[ _-]?animate": "UniAnimate, which takes poses; here it is used without them",
}
"""Patterns of names -> what the model is, where its structure is that of a released one."""


def hints(names: Iterable[str]) -> tuple[str, ...]:
    """Sentences about settings and inputs, for what a model's or a LoRA's names say; none for most."""
    text = " ".join(names).lower()
    found = [f"by its name this is {few}" for few in _few_steps(text)]
    return (*found, *(f"by its name this is {what}" for pattern, what in RELATIVES.items() if re.search(pattern, text)))


def _few_steps(text: str) -> list[str]:
    told = [int(number) for number in STEPS.findall(text)]
    number = next((number for number in told if FEWEST <= number <= MOST), None)
    known = next((each for each in FEW_STEPS if re.search(each.pattern, text)), None)
    if known is not None:
        return [known.text(number or known.steps)]
    if number is None:
        return []
    return [FewSteps(pattern="", name=f"{number} steps", steps=number, shift=5).text(number)]
