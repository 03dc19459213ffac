"""Names of solvers, samplers and guidance rules, as options and the parameters of a video write them."""

import ast
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast

from kinoform.errors import UsageError, nearest
from kinoform.numbers import plain
from kinoform.ops.layer_changes import BlockPart
from kinoform.solvers.base import Solver
from kinoform.solvers.dpmpp import DPMSolver, heun, midpoint
from kinoform.solvers.euler import Euler
from kinoform.solvers.flow_edit import FlowEdit
from kinoform.solvers.guidance import bernini
from kinoform.solvers.guidance.around import Around
from kinoform.solvers.guidance.interval import Interval
from kinoform.solvers.guidance.magnitude import MagnitudeAware
from kinoform.solvers.guidance.negative_attention import NormalizedAttention
from kinoform.solvers.guidance.perturbed import PerturbedAttention, SmoothedEnergy
from kinoform.solvers.guidance.plain import PlainGuidance
from kinoform.solvers.guidance.projected import APG, CHANNEL, FRAME, SAMPLE, X0, APGMix, V
from kinoform.solvers.guidance.rescale import Rescale
from kinoform.solvers.guidance.rule import CombiningRule, Guidance
from kinoform.solvers.guidance.skip_layers import SkipLayerGuidance, SkipNegativeLayers
from kinoform.solvers.guidance.tangential import Tangential
from kinoform.solvers.guidance.zero_star import ZeroStar
from kinoform.solvers.index_list import IndexList, IndexRenoise
from kinoform.solvers.level_grids import EvenToOne, LevelGrid, Listed, Nearest, Warped
from kinoform.solvers.rcm import RCM, TrigFlow
from kinoform.solvers.renoise import Renoise
from kinoform.solvers.sampler import Denoise, Sampler
from kinoform.solvers.unipc import UniPC

T = TypeVar("T")

SOLVERS: dict[str, Solver] = {"unipc": UniPC(), "dpm++": DPMSolver(), "euler": Euler()}
LEVEL_GRIDS: dict[str, LevelGrid] = {
    **SOLVERS, "warped": Warped(), "listed": Listed(), "nearest": Nearest(), "even-to-one": EvenToOne(),
    "trigflow": TrigFlow(), "index": IndexList(),
}  # fmt: skip
SAMPLERS: dict[str, Sampler] = {
    "denoise": Denoise(), "flow-edit": FlowEdit(), "renoise": Renoise(), "rcm": RCM(), "index-renoise": IndexRenoise(),
}  # fmt: skip
GUIDANCE: dict[str, Guidance] = {
    "cfg": PlainGuidance(), "apg": APG(), "apg-mix": APGMix(), "mambo-g": MagnitudeAware(),
    "nag": NormalizedAttention(), "slg": SkipLayerGuidance(), "slg-uncond": SkipNegativeLayers(),
    "pag": PerturbedAttention(), "seg": SmoothedEnergy(),
    "rv2v": bernini.RV2V, "v2v": bernini.V2V, "v2v-chain": bernini.V2V_CHAIN, "t2v": bernini.T2V,
    "v2v-apg": bernini.V2V_APG, "t2v-apg": bernini.T2V_APG, "r2v-apg": bernini.R2V_APG,
    "interval": Interval(), "zero-star": ZeroStar(), "tcfg": Tangential(), "rescale": Rescale(),
}  # fmt: skip
VALUES: dict[str, object] = {
    "midpoint": midpoint, "heun": heun, "v": V, "x0": X0, "sample": SAMPLE, "frame": FRAME, "channel": CHANNEL,
    "block": BlockPart.BLOCK, "attention": BlockPart.ATTENTION, "feed_forward": BlockPart.FEED_FORWARD,
}  # fmt: skip
"""Values that options may name."""

STRUCTURE = frozenset({"rule", "nested", "conditions"})
"""Fields that are no options: the rule inside, and what a rule with a name of its own consists of."""

MAX_LENGTH = 200
"""Largest length of options, in characters."""


def name_of(value: Solver | LevelGrid | Sampler | Guidance) -> str:
    """Return a name to be read again, such as `unipc` or `unipc(order=3)`; the repr of a value of another type."""
    if isinstance(value, Around) and value.rule != PlainGuidance():
        return f"{name_of(value.rule)}+{_name_alone(value)}"
    return _name_alone(value)


def name_in(value: object, table: Mapping[str, object]) -> str:
    """Return the name of a value in a table, without that of the rule inside: that with the fewest options."""
    names: list[tuple[int, str]] = []
    for name, known in table.items():
        if type(value) is type(known) and is_dataclass(value):
            values = {item.name: getattr(value, item.name) for item in fields(value) if item.name != "rule"}
            changes = {option: own for option, own in values.items() if own != getattr(known, option)}
            if changes.keys() & STRUCTURE:
                continue
            written = ", ".join(f"{option}={_written(own)}" for option, own in changes.items())
            names.append((len(changes), f"{name}({written})" if written else name))
    return min(names, key=lambda item: item[0], default=(0, repr(value)))[1]


def _name_alone(value: object) -> str:
    return name_in(value, {**LEVEL_GRIDS, **SAMPLERS, **GUIDANCE})


def solver_of(name: str) -> Solver:
    """Return the solver of a name as `name_of` writes it. The text is not trusted: only values are read from it.

    Raises UsageError for an unknown name, and for an option that the solver has not or that is of another kind.
    """
    return value_named(name, "solver", SOLVERS, "unipc(order=3)")


def levels_of(name: str) -> LevelGrid:
    """Return the grid of levels of a name, also that of a solver's; read and refused as by `solver_of`."""
    return value_named(name, "grid of levels", LEVEL_GRIDS, "warped(entries=(1000, 750, 500, 250))")


def sampler_of(name: str) -> Sampler:
    """Return the sampler of a name; read and refused as by `solver_of`."""
    return value_named(name, "sampler", SAMPLERS, "flow-edit(averages=2)")


def guidance_of(name: str) -> Guidance:
    """Return the guidance rule of a name such as `apg:eta=0.5+rescale:share=0.7`: each stands around those before it.

    Read and refused as by `solver_of`. Raises UsageError for rules whose combination is not defined.
    """
    first, *others = re.split(r"\+(?=[a-z])", name)
    example = "interval(low=0.2, high=0.9)" if first.startswith("interval") else "apg:eta=0.5+rescale:share=0.7"
    rule = value_named(first, "guidance rule", GUIDANCE, example)
    for piece in others:
        outside = value_named(piece, "guidance rule", GUIDANCE, example)
        if not isinstance(outside, Around) or not isinstance(rule, CombiningRule):
            raise _conflict(piece, name)
        try:
            rule = cast("CombiningRule", replace(cast("Any", outside), rule=rule))
        except UsageError as error:
            raise (_conflict(piece, name) if error.code == "rules_conflict" else error) from error
    return rule


def _conflict(piece: str, name: str) -> UsageError:
    around = ", ".join(known for known, rule in GUIDANCE.items() if isinstance(rule, Around))
    return UsageError(
        f"the guidance rule {piece[:MAX_LENGTH]!r} cannot stand where it does in {name[:MAX_LENGTH]!r}, since no "
        f"source defines that; behind a + stand {around}, each once, and not around every rule",
        code="rules_conflict",
    )


def value_named(name: str, what: str, table: Mapping[str, T], example: str, *, owner: str = "a recipe") -> T:
    """Return the value of a name in a table, with the options that follow it: `name`, `name:a=1` or `name(a=1)`.

    The text is not trusted: only literals are read from it. An option whose default is None takes a number. Raises
    UsageError for an unknown name, and for an option that the value has not or that is of another kind.
    """
    match = re.fullmatch(r"([^():]*)(?:\((.*)\)|:(.*))?", name, re.DOTALL)
    known = table.get(match[1]) if match else None
    if match is None or known is None:
        own = f"; a {what} of your own is an argument of {owner} ({what.replace(' ', '_')}=)" if ":" in name else ""
        raise UsageError(
            f"no {what} {name[:MAX_LENGTH]!r}; {nearest(name[:MAX_LENGTH], table)}{own}",
            code="unknown_solver" if table is SOLVERS else "unknown_name",
        )
    try:
        changes = _options(match[2] or match[3] or "")
    except (ValueError, TypeError, KeyError, SyntaxError, RecursionError, MemoryError) as error:
        raise UsageError(
            f"the options of {what} {name[:MAX_LENGTH]!r} cannot be read; write for example {example}", code="bad_value"
        ) from error
    options = {
        item.name: getattr(known, item.name)
        for item in fields(known)  # type: ignore[arg-type]
        if item.name not in STRUCTURE
    }
    for option, value in changes.items():
        number = isinstance(options.get(option), float) or (option in options and options[option] is None)
        if number and type(value) in (int, float):
            changes[option] = float(cast("float", value))
        elif isinstance(options.get(option), float) and isinstance(value, tuple):
            changes[option] = tuple(
                map(plain, cast("tuple[object, ...]", value))
            )  # the rule refuses what it cannot take
        elif option not in options or type(value) is not type(options[option]):
            raise UsageError(
                f"the {what} {match[1]!r} has no option {option}={_written(value)}; write for example {example}",
                code="unknown_option",
            )
    return replace(known, **changes)  # type: ignore[type-var]


def _written(value: object) -> str:
    for name, known in VALUES.items():
        if type(value) is type(known) and value == known:
            return name
    return repr(set(cast("frozenset[object]", value))) if isinstance(value, frozenset) else repr(value)


def _options(text: str) -> dict[str, object]:
    """Parse keyword arguments whose values are literals or names in VALUES."""
    if len(text) > MAX_LENGTH:
        raise ValueError
    call = ast.parse(f"options({text})", mode="eval").body
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
        raise ValueError
    options = {str(keyword.arg): _value(keyword.value) for keyword in call.keywords}
    if len(options) < len(call.keywords):
        raise ValueError
    return options


def _value(node: ast.expr) -> object:
    if isinstance(node, ast.Name):
        return VALUES[node.id]
    value = ast.literal_eval(node)
    if isinstance(value, list):
        return tuple(cast("list[object]", value))
    return frozenset(cast("set[object]", value)) if isinstance(value, set) else value
