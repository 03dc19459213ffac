"""Rules of guidance on given velocities: the files of diffusers' guiders, of NAG, and of Bernini-R's sampler."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from kinoform.models.block import CrossAttention
from kinoform.models.changed import NEGATIVE_TEXT, NegatedCrossAttention, normalized_attention
from kinoform.models.context import TextContext
from kinoform.ops.layer_changes import NegativeAttention
from kinoform.solvers.guidance import bernini
from kinoform.solvers.guidance.magnitude import MagnitudeAware
from kinoform.solvers.guidance.plain import PlainGuidance
from kinoform.solvers.guidance.projected import APG, APGMix
from kinoform.solvers.guidance.rescale import Rescale
from kinoform.solvers.guidance.rule import CombiningRule, text_scale
from kinoform.solvers.guidance.skip_layers import SkipLayerGuidance
from kinoform.solvers.guidance.tangential import Tangential
from kinoform.solvers.guidance.zero_star import ZeroStar
from kinoform.solvers.levels import level_at
from kinoform.solvers.predictions import NEGATIVE, POSITIVE, Prediction
from kinoform.types import CLEAN, Latents, Level
from tests.conformance.golden import Golden

HEADS = 2

BRANCHES = {
    "none": bernini.UNCONDITIONED,
    "V": bernini.FIRST_VIDEO,
    "VI": NEGATIVE,
    "VTI": POSITIVE,
    "I": Prediction(prompt=False, without=bernini.ONLY_IMAGES),
    "TI": Prediction(without=bernini.ONLY_IMAGES),
    "TN": Prediction(without=bernini.NONE),
}


def along(
    rule: CombiningRule,
    scales: dict[str, float],
    velocities: dict[Prediction, Tensor],
    xs: Tensor,
    levels: tuple[Level, ...],
) -> tuple[Tensor, list[tuple[Tensor, ...] | None]]:
    """The velocities of all steps in turn, and the buffers after each; `velocities` are [step, b, ...]."""
    step = 0

    def predict(x: Latents, level: Level, asked: Sequence[Prediction]) -> list[Tensor]:
        return [velocities[each][step] for each in asked]

    field = rule.guide(predict, {name: lambda level, s=scale: s for name, scale in scales.items()}, levels)
    state, made, buffers = None, [], []
    for step in range(len(levels) - 1):
        velocity, state = field.evaluate(xs[step], levels[step], state)
        made.append(velocity)
        buffers.append(state[1])
    return torch.stack(made), buffers


def judge_rules(golden: Golden) -> dict[str, Tensor | list[Tensor]]:
    c, inputs = golden.config, golden.inputs
    steps, scale = c["steps"], c["scale"]
    slg = SkipLayerGuidance(scale=c["slg"]["scale"], start=c["slg"]["start"], stop=c["slg"]["stop"])
    velocities = {POSITIVE: inputs["cond"], NEGATIVE: inputs["uncond"], slg.third(): inputs["skip"]}
    levels = (*(level_at(1 - step / steps) for step in range(steps)), CLEAN)
    xs = torch.zeros_like(inputs["cond"])

    def of(rule: CombiningRule, s: float = scale) -> Tensor:
        return along(rule, {"text": s}, velocities, xs, levels)[0]

    found: dict[str, Tensor | list[Tensor]] = {
        "out.cfg": of(PlainGuidance()),
        "out.cfg_original": of(PlainGuidance(original=True)),
        "out.cfg_rescaled": of(Rescale(share=c["rescale"])),
        "out.zero_star": of(ZeroStar(zero_steps=c["zero_steps"])),
        "out.slg": of(slg),
        "out.tcfg": of(Tangential()),
        "out.mambo": of(MagnitudeAware(alpha=c["mambo_alpha"])),
        "out.slg.active": _active(slg, c["slg"]["table_steps"]),
    }
    for name, (s, momentum, threshold, eta) in c["apg"].items():
        found[f"out.apg.{name}"] = of(APG(momentum=momentum or 0.0, threshold=threshold, eta=eta), s)
    for name, (s, apg_scale, momentum, threshold, eta, first) in c["apg_mix"].items():
        mix = APGMix(scale=apg_scale, momentum=momentum, threshold=threshold, eta=eta, first=first)
        found[f"out.apg_mix.{name}"] = of(mix, s)
    return found | _attention(golden)


def _active(rule: SkipLayerGuidance, steps: int) -> Tensor:
    """Steps in which the third prediction is asked for."""
    levels = tuple(level_at(1 - step / steps) for step in range(steps + 1))
    active: list[int] = []

    def predict(x: Latents, level: Level, asked: Sequence[Prediction]) -> list[Tensor]:
        active.append(int(rule.third() in asked))
        return [x for _ in asked]

    field = rule.guide(predict, text_scale(4.0), levels)
    for level in levels[:-1]:
        field(torch.zeros(1, 1, 1, 1, 1), level)
    return torch.tensor(active)


def _attention(golden: Golden) -> dict[str, Tensor | list[Tensor]]:
    inputs, found = golden.inputs, {}
    width = inputs["nag.x"].shape[-1]
    attention = CrossAttention(width, HEADS, 1e-6, (TextContext(width=width, length=1),))
    attention.load_state_dict(_own_names(golden.weights))
    context = {"text": inputs["nag.context"], NEGATIVE_TEXT: inputs["nag.context_neg"]}
    for name, (scale, tau, alpha) in golden.config["nag"].items():
        change = NegativeAttention(scale=scale, tau=tau, alpha=alpha)
        for kind, own in (("nag", change), ("nag_l2", replace(change, norm=2))):
            found[f"out.{kind}.{name}"] = normalized_attention(inputs["nag.pos"], inputs["nag.neg"], own)
        negated = NegatedCrossAttention(attention, change)
        with torch.no_grad():
            found[f"out.nag_attn.{name}"] = negated(inputs["nag.x"], negated.keys(context))
    return found


def _own_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys, values and the keys' norm belong to a source of context."""
    names = {key: key.removeprefix("cross_attn.") for key in weights}
    of_source = ("k.", "v.", "norm_k.")
    return {f"streams.text.{name}" if name.startswith(of_source) else name: weights[key] for key, name in names.items()}


def judge_bernini(golden: Golden) -> dict[str, Tensor | list[Tensor]]:
    c, inputs = golden.config, golden.inputs
    levels = (*(level_at(float(sigma)) for sigma in inputs["sigmas"]), CLEAN)
    named = dict(BRANCHES)
    velocities = {each: inputs[f"v.{name}"][:, None] for name, each in named.items() if f"v.{name}" in inputs}
    velocities[BRANCHES["TN"]] = inputs["v.VTI"][:, None]
    xs = inputs["x"][:, None]
    video, images, text = c["omega_vid_img_txt"]
    scales = {"video": video, "images": images, "text": text}
    found: dict[str, Tensor | list[Tensor]] = {}
    wapg, towards = APG(threshold=0.0, eta=0.2), velocities[POSITIVE]
    steps = zip(towards, velocities[NEGATIVE], strict=True)
    found["out.delta.out"] = torch.stack([wapg.projected(c - u, c, 0.0)[0] for c, u in steps])
    plain = {"rv2v": bernini.RV2V, "v2v": bernini.V2V, "v2v_chain": bernini.V2V_CHAIN, "t2v": bernini.T2V}
    for name, rule in plain.items():
        found[f"out.telescope.{name}"] = along(rule, scales, velocities, xs, levels)[0][:, 0]
    for name, (omega, eta, threshold, momentum) in c["rules"].items():
        rule = replace(bernini.V2V_APG, eta=eta, threshold=threshold, momentum=momentum)
        made, buffers = along(rule, {"text": omega}, velocities, xs, levels)
        found[f"out.apg.{name}.v"] = made[:, 0]
        found[f"mid.apg.{name}.diff"] = torch.stack([each[0][0] for each in buffers if each is not None])
    for name, (image, own_text, eta, first, second, momentum) in c["chain"].items():
        rule = replace(bernini.R2V_APG, eta=eta, threshold=(first, second), momentum=momentum)
        made, _ = along(rule, {"images": image, "text": own_text}, velocities, xs, levels)
        found[f"out.chain.{name}.v"] = made[:, 0]
    return found


JUDGES = {"guidance_rules": judge_rules, "bernini_guidance": judge_bernini}
