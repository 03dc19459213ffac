"""Plans in words and tables: what `kinoform plan` prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from kinoform.cli.window_options import windows_in_words
from kinoform.pipelines.fit import memory_of
from kinoform.plan.crossover import BLOCKS, Crossover, Crossovers, Length
from kinoform.plan.evaluations import Evaluations
from kinoform.plan.video_plan import VideoPlan
from kinoform.solvers.by_expert import expert_names

PARTS = ("text encoder", "image encoder", "transformer", "codec")
STAGES = ("text", "encode", "denoise", "decode")
LABELS = {
    "self_projections": "self q, k, v, o",
    "self_attention": "self-attention",
    "time_projections": "time q, k, v, o",
    "time_attention": "attention in time",
    "cross_projections": "cross q, o",
    "cross_attention": "cross-attention",
    "cross_keys": "cross k, v",
    "feed_forward": "feed-forward",
}
"""Names that people read for the parts of a block; another block's parts are read by their names."""


def report(name: str, plan: VideoPlan) -> str:
    """Return the whole plan as lines of text."""
    workload, forward = plan.workload, plan.transformer
    dtypes = (torch.float32, torch.bfloat16, plan.dtype)
    whole = max(1, sum(flops.executed for flops in plan.flops.values()))
    lines = [
        f"{name}: {workload.all_frames} frames of {workload.width}x{workload.height}, {workload.steps} steps, "
        f"guidance {workload.scales.written()}, {_dtype(plan.dtype)} on {plan.device}",
        *windows_in_words(plan),
        "",
        *_table(["tensor", "shape", "dtype"], [(t.name, "x".join(map(str, t.shape)), t.dtype) for t in plan.tensors]),
        "",
        *_table(
            ["part", "parameters", "float32 GB", "bfloat16 GB", f"here, {_dtype(plan.dtype)} GB"],
            [
                (part, _whole(count.parameters), *(_giga(count.bytes(dtype)) for dtype in dtypes))
                for part, count in plan.parameters.items()
            ],
        ),
        "",
        f"transformer, one forward: {_tera(forward.forward)} TFLOP for {_tokens(plan)}",
        *_table(
            ["  of it", "TFLOP", "share"],
            [(f"  {label}", _tera(value), f"{value / forward.forward:.1%}") for label, value in _forward(plan)],
        ),
        *_turns(plan),
        *_times(plan),
        "",
        *_table(
            ["stage", "official TFLOP", "here TFLOP", "share"],
            [
                (stage, _tera(flops.official), _tera(flops.executed), f"{flops.executed / whole:.1%}")
                for stage, flops in plan.flops.items()
            ],
        ),
        "",
        *_table(
            ["memory, GB", "weights", "work", "kernels", "process", "peak"],
            [
                (
                    peak.stage,
                    *map(_giga, (peak.weights, peak.activations, peak.kernels, peak.fixed, peak.total)),
                )
                for peak in plan.peaks
            ],
        ),
        "",
        *(f"not counted: {part}" for part in plan.uncounted),
        _verdict(plan),
    ]
    return "\n".join(lines)


def comparison(first: tuple[str, VideoPlan], second: tuple[str, VideoPlan]) -> str:
    """Return two plans side by side, with the ratio of the second to the first."""
    (left, one), (right, other) = first, second
    rows: list[tuple[str, Callable[[VideoPlan], int], Callable[[int], str]]] = [
        ("frames", lambda plan: plan.workload.all_frames, _whole),
        ("width", lambda plan: plan.workload.width, _whole),
        ("height", lambda plan: plan.workload.height, _whole),
        ("tokens", lambda plan: plan.tokens, _whole),
        *((f"{part}, parameters", lambda plan, part=part: _parameters(plan, part), _whole) for part in PARTS),
        ("one forward, TFLOP", lambda plan: plan.transformer.forward, _tera),
        *((f"{stage} here, TFLOP", lambda plan, stage=stage: _executed(plan, stage), _tera) for stage in STAGES),
        *((f"{stage} peak, GB", lambda plan, stage=stage: _peak(plan, stage), _giga) for stage in STAGES),
    ]
    cells = []
    for label, value, shown in rows:
        a, b = value(one), value(other)
        if a or b:
            cells.append((label, shown(a), shown(b), f"{b / a:.2f}" if a else ""))
    return "\n".join(_table(["", left, right, "ratio"], cells))


def crossing(head: Mapping[str, str], crossings: Crossovers) -> str:
    """Return a table for each size: lengths down, full and factorized attention across."""
    full, factorized = (_whole(crossings.parameters[name]) for name in ("full", "factorized"))
    lines = [
        f"{head['model']}: one forward by kind of attention, {head['dtype']} on {head['device']}",
        f"parameters of the transformer: full and alternating {full}, factorized {factorized}",
    ]
    columns = ["TFLOP: full", "factorized", "ratio", "alternating", "GB: full", "factorized"]
    for size in crossings.sizes:
        lines += ["", f"{size.name}, {size.width}x{size.height}: {_turn(size, crossings.fps)}"]
        lines += _table(["seconds", "frames", "tokens", *columns], [_row(length) for length in size.lengths])
    return "\n".join(lines)


def _turn(size: Crossover, fps: float) -> str:
    if size.cheaper_from is None:
        return "factorized is dearer at every length"
    return f"factorized is cheaper from {_whole(size.cheaper_from)} frames ({size.cheaper_from / fps:.1f} s)"


def _row(length: Length) -> list[str]:
    full, factorized, alternating = (length.forwards[name] for name in BLOCKS)
    return [
        f"{length.seconds:.1f}",
        _whole(length.num_frames),
        _whole(length.tokens),
        *(_tera(full.flops), _tera(factorized.flops), f"{factorized.flops / full.flops:.3f}", _tera(alternating.flops)),
        *(_giga(full.peak), _giga(factorized.peak)),
    ]


def _parameters(plan: VideoPlan, part: str) -> int:
    return plan.parameters[part].parameters if part in plan.parameters else 0


def _executed(plan: VideoPlan, stage: str) -> int:
    return plan.flops[stage].executed if stage in plan.flops else 0


def _peak(plan: VideoPlan, stage: str) -> int:
    return next((peak.total for peak in plan.peaks if peak.stage == stage), 0)


def _tokens(plan: VideoPlan) -> str:
    """Say how many tokens a video has, and how many stand beside them in context."""
    attended = next(tensor.shape[1] for tensor in plan.tensors if tensor.name == "q, k, v")
    beside = f" and {attended - plan.tokens:,} in context" if attended > plan.tokens else ""
    return f"{plan.tokens:,} tokens{beside}"


def _forwards(evaluations: Evaluations) -> str:
    """Say how often a solver asks for a velocity, and how many forwards that takes where it takes more."""
    more = f" in {evaluations.forwards} forwards" if evaluations.forwards != evaluations.nfe else ""
    return f"{evaluations.nfe} evaluations{more}"


def _turns(plan: VideoPlan) -> list[str]:
    """Say how often each of several transformers is evaluated, and which of them are in memory."""
    scales, names = plan.workload.scales, expert_names(len(plan.asked))
    if len(names) == 1:
        return []
    turns = [
        f"expert {names[index]}: {_forwards(evaluations.together)}, guidance "
        f"{scales.written_of(index)}, {_tera(run.executed(evaluations))} TFLOP here"
        for index, (run, evaluations) in enumerate(zip(plan.denoising, plan.asked, strict=True))
    ]
    together = plan.parameters["transformer"].bytes(plan.dtype)
    held = next(peak.weights for peak in plan.peaks if peak.stage == "denoise")
    if held < together and all(evaluations.together.nfe for evaluations in plan.asked):
        turns.append(
            f"one expert at a time is in memory, {_giga(held)} of {_giga(together)} GB; "
            "the next is read when its steps begin"
        )
    return turns


def _times(plan: VideoPlan) -> list[str]:
    """Say what is saved by computing the time of tokens once for each noise level among them."""
    if not plan.token_times:
        return []
    saved, number = plan.token_times, sum(2 * asked.together.nfe for asked in plan.asked)
    return [
        f"times of tokens: once for each noise level, which saves {_tera(saved)} TFLOP a forward, "
        f"{_tera(saved * number)} in all"
    ]


def _forward(plan: VideoPlan) -> list[tuple[str, int]]:
    """List the parts of all layers together, the largest first, branches and the rest behind them."""
    forward = plan.transformer
    parts = sorted(forward.parts.items(), key=lambda part: -part[1])
    return [
        *((LABELS.get(name, name.replace("_", " ")), value) for name, value in parts),
        *((f"branch {name}", branch.total) for name, branch in forward.branches.items()),
        ("outside the blocks", sum(forward.outside.values())),
    ]


def _verdict(plan: VideoPlan) -> str:
    worst = plan.worst
    text = f"the most memory: {_giga(worst.total)} GB in stage {worst.stage}"
    if plan.device == "cuda" and not torch.cuda.is_available():
        return text
    there = memory_of(torch.device(plan.device))
    text = text if there is None else f"{text}; this machine's {plan.device} has {_giga(there)} GB"
    return f"{text}; whether that is all is not known" if plan.uncounted else text


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows with two spaces between columns; the first is aligned left, the others right."""
    every = [heading, *rows]
    widths = [max(len(row[column]) for row in every) for column in range(len(heading))]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in every]


def _tera(flops: int) -> str:
    return f"{flops / 1e12:,.1f}" if flops >= 1e14 else f"{flops / 1e12:.4g}"


def _giga(size: int) -> str:
    return f"{size / 1e9:,.2f}"


def _whole(number: int) -> str:
    return f"{number:,.0f}"


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
