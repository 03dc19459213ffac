"""Options of commands: how one is declared, how groups of them become a signature, and what completes them."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import wraps
from typing import Annotated, Any, TypeAlias, get_args, get_origin, get_type_hints

import typer
from typer.models import OptionInfo

# Help and completion read this file, which therefore repeats these names rather than import PyTorch.
VARIANTS = (
    "t2v-1.3b",
    "t2v-14b",
    "t2i-14b",
    "i2v-14b-480p",
    "i2v-14b-720p",
    "flf2v-14b",
    "vace-1.3b",
    "vace-14b",
    "t2v-a14b",
    "i2v-a14b",
    "ti2v-5b",
    "vace-a14b",
    "bernini-1.3b",
    "bernini-a14b",
)
ADAPTERS = ("mini:fast", "mini:frames", "mini:vace", "mini:context", "mini:reference")
MODELS = ("mini", "mini-factorized", *ADAPTERS, *VARIANTS)
FEW_STEP = (
    "lightx2v-4step",
    "lightx2v-4step-flf2v",
    "fastwan-3step",
    "fastwan-3step-mlx",
    "rcm",
    "rcm-i2v",
    "rcm-i2v-ode",
    "self-forcing-4step",
    "self-forcing-index",
    "causal-wan22",
)
EXPERTS = ("high", "low")
DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = ("auto", "float32", "bfloat16", "float16")
SOLVERS = ("unipc", "dpm++", "euler")
SAMPLERS = ("denoise", "flow-edit", "renoise", "rcm", "index-renoise")
GUIDANCE_RULES = (
    "cfg", "apg", "apg-mix", "mambo-g", "nag", "slg", "slg-uncond", "pag", "seg", "rv2v", "v2v", "v2v-chain", "t2v",
    "v2v-apg", "t2v-apg", "r2v-apg", "interval", "zero-star", "tcfg", "rescale",
)  # fmt: skip
CODECS = ("h264", "vp9", "av1", "ffv1")

MODEL, VIDEO, STEPS, LONG, OUTPUT = "Model", "Video", "Steps and guidance", "Long videos", "Output"
"""The headings under which options stand in the help."""

OF_RECIPE = "the recipe's"
"""Shown as the default of what the recipe has a value for."""

WEIGHTS = (".safetensors", ".gguf", ".pth", ".pt")
"""Files that are offered where a model is completed."""

Completion: TypeAlias = Callable[[str], list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Mark of an option that the environment and a settings file may set: of a user or a machine, not of one video.

    With `in_file` False no file may set it: a file may lie in a stranger's folder, and the option runs code or writes
    elsewhere. `from_recipe` tells that the recipe has a value where nobody says one, `path` that a ~ stands for the
    user's home, `private` that it holds words of the user, which no event repeats, `numbers` that its text is a number,
    or several by name, so that a file may have a number for it.
    """

    in_file: bool = True
    from_recipe: bool = False
    path: bool = False
    private: bool = False
    numbers: bool = False


SETTING, RECIPE_SETTING, PATH_SETTING = Setting(), Setting(from_recipe=True), Setting(path=True)
"""A setting; one that the recipe has a value for; one that is a path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Varied:
    """A command's own view of a group: `only` these options or all, some left out, other defaults, other help.

    Of its settings the command heeds those in `settings`, None for all.
    """

    only: Collection[str] | None
    without: Collection[str]
    default: Mapping[str, object]
    help: Mapping[str, str]
    settings: Collection[str] | None


def varied(
    *,
    only: Collection[str] | None = None,
    without: Collection[str] = (),
    default: Mapping[str, object] | None = None,
    help: Mapping[str, str] | None = None,
    settings: Collection[str] | None = None,
) -> Varied:
    """Vary a group of options for one command: `model: Annotated[ModelOptions, varied(only=("variant",))]`."""
    return Varied(only=only, without=without, default=default or {}, help=help or {}, settings=settings)


def option(panel: str | None, help: str, *names: str, complete: Completion | None = None, eager: bool = False) -> Any:
    """Declare an option under the heading `panel`; without `names` it is called like its parameter or field.

    `complete` offers values while one is typed; an `eager` option is read before all others.
    """
    return typer.Option(*names, help=help, rich_help_panel=panel, autocompletion=complete, is_eager=eager)


def command(function: Callable[..., object]) -> Callable[..., object]:
    """Make a command of a function whose parameters are options, arguments, or groups of options.

    A group is a dataclass each of whose fields is an option, declared as a parameter would be:
    `steps: Annotated[int | None, option(VIDEO, "Denoising steps.")] = None`, or another group. The command's signature
    has the fields in the place of the group; when it runs, the function gets the filled dataclass, in which options
    that `varied` leaves out have the group's defaults. Raises TypeError where two options have one name.
    """
    hints, signature = get_type_hints(function, include_extras=True), inspect.signature(function)
    groups = {name: group for name in signature.parameters if (group := _group(hints[name])) is not None}
    shown = {name: list(_options(*group)) for name, group in groups.items()}
    parameters = [
        parameter
        for name, own in signature.parameters.items()
        for parameter in shown.get(name, [own.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)])
    ]
    names = [parameter.name for parameter in parameters]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise TypeError(f"{function.__name__} has two options of the name {twice[0]}")

    defaults = {
        parameter.name: parameter.default for parameter in parameters if parameter.default is not parameter.empty
    }

    @wraps(function)
    def run(**values: Any) -> object:
        given = defaults | values
        own = {name: given[name] for name in signature.parameters if name not in groups}
        filled = {
            name: _filled(group, {parameter.name: given[parameter.name] for parameter in shown[name]})
            for name, (group, _) in groups.items()
        }
        return function(**own, **filled)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": None}
    return run


def options_of(group: type) -> Iterator[inspect.Parameter]:
    """Yield the options of a group and of the groups in it, as parameters with their annotations."""
    hints = get_type_hints(group, include_extras=True)
    for field in fields(group):
        if (inner := _group(hints[field.name])) is not None:
            yield from _options(*inner)
            continue
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        yield inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[field.name]
        )


def settings_of(parameters: Iterable[inspect.Parameter]) -> dict[str, tuple[type, Setting]]:
    """Return the settings among options: the type of each, without None, and its mark."""
    settings = {}
    for parameter in parameters:
        for mark in get_args(parameter.annotation)[1:]:
            if isinstance(mark, Setting):
                kind = get_args(parameter.annotation)[0]
                settings[parameter.name] = (
                    next((part for part in get_args(kind) if part is not type(None)), kind),
                    mark,
                )
    return settings


def words_of(
    group: object,
    *,
    without: Collection[str] = (),
    spell: Callable[[str, object], str] = lambda name, value: str(value),
) -> Iterator[str]:
    """Yield the words of the command line that fill a group in this way; values that are None or the default need none.

    `spell` writes a value, given the name of its option.
    """
    assert is_dataclass(group)
    for field in fields(group):
        value = getattr(group, field.name)
        if is_dataclass(value):
            yield from words_of(value, without=without, spell=spell)
        elif field.name not in without and value is not None and value != field.default:
            flag = f"--{field.name.replace('_', '-')}"
            for item in value if isinstance(value, list | tuple) else [value]:
                yield from (flag,) if item is True else (flag, spell(field.name, item))


def _group(hint: Any) -> tuple[type, Varied] | None:
    """Return the group that an annotation names, and how it is varied; None for an option."""
    kind, *marks = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    if not (isinstance(kind, type) and is_dataclass(kind)):
        return None
    return kind, next((mark for mark in marks if isinstance(mark, Varied)), varied())


def _filled(group: Callable[..., object], values: Mapping[str, object]) -> object:
    """Fill a group, and the groups in it, with those of the values that are theirs."""
    hints, own = get_type_hints(group, include_extras=True), {}
    for field in fields(group):  # type: ignore[arg-type]
        if (inner := _group(hints[field.name])) is not None:
            own[field.name] = _filled(inner[0], values)
        elif field.name in values:
            own[field.name] = values[field.name]
    return group(**own)


def _options(group: type, view: Varied) -> Iterator[inspect.Parameter]:
    """Yield the options of a group that a view shows. Raises TypeError for a name that the group does not have."""
    every = {parameter.name: parameter for parameter in options_of(group)}
    if unknown := {*(view.only or ()), *view.without, *view.default, *view.help} - every.keys():
        raise TypeError(f"{group.__name__} has no option {sorted(unknown)[0]}")
    for name, parameter in every.items():
        if name in view.without or (view.only is not None and name not in view.only):
            continue
        heeded = view.settings is None or name in view.settings
        yield parameter.replace(
            default=view.default.get(name, parameter.default),
            annotation=_marked(parameter.annotation, help=view.help.get(name), setting=heeded),
        )


def _marked(annotation: Any, *, help: str | None, setting: bool) -> Any:
    """Return the option with another help, if one is given, and without its mark where it is not a setting.

    The default is shown as the recipe's where the recipe has a value.
    """
    kind, *marks = get_args(annotation)
    info = copy(next(mark for mark in marks if isinstance(mark, OptionInfo)))
    others = [mark for mark in marks if not isinstance(mark, OptionInfo) and (setting or not isinstance(mark, Setting))]
    if help is not None:
        info.help = help
    if any(isinstance(mark, Setting) and mark.from_recipe for mark in others):
        info.show_default = OF_RECIPE
    return Annotated[(kind, info, *others)]


AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="As one JSON object.")]
"""The option of commands that give one result and write no file."""


def one_of(names: tuple[str, ...]) -> Completion:
    """Complete what begins like one of these names."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return complete


def model_names(incomplete: str) -> list[str]:
    """Complete the name of a model, or the path of weights, also behind the name of an expert."""
    expert, equals, path = incomplete.partition("=")
    if equals and expert in EXPERTS:
        return [f"{expert}={found}" for found in _paths(path, WEIGHTS)]
    return [*one_of(MODELS)(incomplete), *_paths(incomplete, WEIGHTS)]


def _paths(incomplete: str, suffixes: tuple[str, ...]) -> list[str]:
    """List folders, with a slash behind them, and files of these kinds; empty where a folder cannot be read."""
    folder, start = os.path.split(incomplete)
    try:
        entries = sorted(os.scandir(folder or "."), key=lambda entry: entry.name)
    except OSError:
        return []
    fitting = [entry for entry in entries if entry.name.startswith(start) and (start or entry.name[0] != ".")]
    return [
        os.path.join(folder, entry.name) + ("/" if entry.is_dir() else "")
        for entry in fitting
        if entry.is_dir() or entry.name.endswith(suffixes)
    ]
