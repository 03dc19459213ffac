"""Released kinds of model parts as values: how files of one are known, named, sized, described and released."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from kinoform.checkpoints.headers import read_json
from kinoform.errors import WeightsError
from kinoform.families.names import Names
from kinoform.solvers.by_expert import expert_names

if TYPE_CHECKING:  # PyTorch takes seconds, which help, completion and downloads do without
    from kinoform.checkpoints.files import Checkpoint
    from kinoform.checkpoints.write import Outgoing

MAX_LAYERS = 1000
MAX_SIZE = 1 << 18
"""Above every width and vocabulary of the families; what claims more is damaged."""

SHOWN = 60

TRANSFORMER, CODEC, TEXT_ENCODER, IMAGE_ENCODER = "transformer", "codec", "text_encoder", "image_encoder"
LORA, ADAPTER, MODULE = "lora", "adapter", "module"

AVERAGE = "ema."
"""Prefix of weights that are an average over the steps of a training, beside the last ones; the average is read."""

UNREAD = ("*spiece_model", "*logit_scale")
"""Shell patterns of tensors that ComfyUI adds to text encoders: the tokenizer, and a number that only CLIP uses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """The shapes of one part's tensors under kinoform's own names, and the path to name in errors.

    `own` says that the file itself has these names. Without `strict` what the shapes leave open is guessed rather
    than refused: enough to list what a file lacks, not to run it. `spelled` gives the file's own names for errors.
    """

    path: Path
    by_name: Mapping[str, tuple[int, ...]]
    own: bool = False
    strict: bool = True
    spelled: Callable[[str], str] = str

    def length(self, *axes: tuple[str, int], otherwise: int | None = None) -> int:
        """The length of the first of these (name, axis) that is there; `#` in a name is the number of any layer.

        Raises WeightsError when none is there and nothing stands in `otherwise`, or for a length out of range.
        """
        for name, axis in axes:
            shape = self._shape(name)
            if shape is not None and len(shape) > axis:
                if 1 <= shape[axis] <= MAX_SIZE:
                    return shape[axis]
                break
        else:
            if otherwise is not None:
                return otherwise
        raise WeightsError(
            f"{self.path} has no usable tensor for {self.spelled(axes[0][0])!r}; these are weights of another model",
            code="weights_incomplete",
        )

    def has(self, start: str) -> bool:
        """Return whether any name begins with `start`."""
        return any(name.startswith(start) for name in self.by_name)

    def layers(self, under: str = "blocks") -> int:
        """One more than the highest number behind `under.`, 0 without any. Raises WeightsError above MAX_LAYERS."""
        pattern = re.compile(rf"{re.escape(under)}\.(\d{{1,9}})\.")
        numbers = (int(match[1]) for name in self.by_name if (match := pattern.match(name)))
        count = 1 + max(numbers, default=-1)
        if count > MAX_LAYERS:
            raise WeightsError(
                f"{self.path} claims {count} layers; it is not a model of this family", code="weights_wrong_model"
            )
        return count

    def _shape(self, name: str) -> tuple[int, ...] | None:
        if "#" not in name:
            return self.by_name.get(name)
        pattern = re.compile(re.escape(name).replace(r"\#", r"\d+"))
        return next((shape for key, shape in self.by_name.items() if pattern.fullmatch(key)), None)


def unchanged(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint itself, for dialects whose tensors are those of the module."""
    return checkpoint


def as_written(tensors: tuple[Outgoing, ...]) -> tuple[Outgoing, ...]:
    """The tensors themselves, for dialects whose tensors are those of the module."""
    return tensors


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dialect:
    """The spelling of a part in the files of one program.

    A file is of this dialect when it holds `needed` of the `signatures`, behind any common prefix. `table` leads from
    its names to kinoform's own; where it depends on how many blocks there are, `table_of` makes it from the names in
    the file or from a spec. Names that begin as one of `unused` are read by nobody. `prepare` makes the tensors of an
    opened file those of the module, `restore` the other way round. `prefix` is what the dialect's own files write
    before every name.
    """

    name: str
    signatures: frozenset[str]
    needed: int
    table: Names | None = None
    table_of: Callable[[Iterable[str]], Names] | None = None
    table_for: Callable[[Any], Names] | None = None
    unused: tuple[str, ...] = ()
    prepare: Callable[[Checkpoint], Checkpoint] = unchanged
    restore: Callable[[tuple[Outgoing, ...]], tuple[Outgoing, ...]] = as_written
    prefix: str = ""

    @property
    def own(self) -> bool:
        """Return whether its names are kinoform's own."""
        return self.table is OWN_NAMES

    def names(self, held: Iterable[str]) -> Names:
        """The table for a file with these names."""
        if self.table is not None:
            return self.table
        assert self.table_of is not None
        return self.table_of(held)

    def names_for(self, spec: Any) -> Names:
        """The table for a part of these sizes."""
        if self.table is not None:
            return self.table
        assert self.table_for is not None
        return self.table_for(spec)


OWN_NAMES = Names(rows=(("*", "*"),))


def _unbuilt(shapes: Shapes) -> Any:
    raise AssertionError(f"{shapes.path} is no part of a model")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The object in the file at `path`."""

    path: Path
    values: Mapping[str, Any]

    def number(self, key: str) -> int:
        """Raises WeightsError unless it is a whole number of a size that this family has."""
        value = self.values.get(key)
        if type(value) is not int or not 1 <= value <= MAX_SIZE:
            raise WeightsError(
                f"{self.path}: {key} is {shown(value)}, not a number from 1 to {MAX_SIZE}; fetch the file again",
                code="config_damaged",
            )
        return value

    def small(self, key: str, default: float) -> float:
        """Raises WeightsError unless it is a number between 0 and 1."""
        value = self.values.get(key, default)
        if not isinstance(value, float) or not 0 < value < 1:
            raise WeightsError(
                f"{self.path}: {key} is {shown(value)}, which is no small positive number; fetch the file again",
                code="config_damaged",
            )
        return value

    def numbers(self, key: str, length: int) -> tuple[float, ...]:
        """Raises WeightsError unless it is a list of so many finite numbers."""
        values = self._list(key)
        if len(values) != length or not all(map(_finite, values)):
            raise WeightsError(
                f"{self.path}: {key} is no list of {length} numbers; fetch the file again", code="config_damaged"
            )
        return tuple(map(float, values))

    def rising(self, key: str, below: int) -> tuple[int, ...] | None:
        """Return a list of rising numbers from 0 and less than `below`, None where the file has none.

        Raises WeightsError for any other value.
        """
        if self.values.get(key) is None:
            return None
        values = self._list(key)
        if not all(type(item) is int and 0 <= item < below for item in values) or values != sorted(set(values)):
            raise WeightsError(
                f"{self.path}: {key} is {shown(values)}, not a list of rising numbers below {below}; fetch the file "
                "again",
                code="config_damaged",
            )
        return tuple(values)

    def _list(self, key: str) -> list[Any]:
        value = self.values.get(key)
        if not isinstance(value, list):
            raise WeightsError(
                f"{self.path}: {key} is {shown(value)}, not a list; fetch the file again", code="config_damaged"
            )
        return cast("list[Any]", value)

    def check(self, found: Mapping[str, object]) -> None:
        """Raises WeightsError naming both values where the file says otherwise; what it leaves out it may."""
        for key, value in found.items():
            said = self.values.get(key, value)
            if said != value or isinstance(said, bool) is not isinstance(value, bool):
                raise WeightsError(
                    f"{self.path}: {key} is {shown(said)}, the weights have {shown(value)}; they do not belong "
                    "together",
                    code="config_contradicts_weights",
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigForm:
    """The config.json of one dialect: `stated` are the values that follow from a spec, `constant` all others.

    A file is of this form when it has `key`. `facts` reads what no shape tells, as arguments of `Family.spec`; all that
    is `stated` but the `unchecked` keys must agree with the weights.
    """

    dialect: str
    key: str
    stated: Callable[[Any], Mapping[str, object]]
    facts: Callable[[Config, Shapes], Mapping[str, Any]] = lambda config, shapes: {}
    constant: Mapping[str, object] = field(default_factory=dict[str, object])
    unchecked: frozenset[str] = frozenset()

    def written(self, spec: Any) -> dict[str, object]:
        """The whole file, keys in alphabetical order."""
        return dict(sorted({**self.constant, **self.stated(spec)}.items()))

    def check(self, config: Config, spec: Any) -> None:
        """Raises WeightsError naming both values where the file contradicts the weights."""
        stated = self.stated(spec)
        config.check({key: value for key, value in stated.items() if key not in self.unchecked})


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """One released model: its sizes, its repository on the hub, and facts that no structure tells.

    `recipes` are the names under which kinoform makes videos with it, none where it cannot. `noise` is high or low for
    the experts of Wan 2.2, `height` the size in pixels that a model was trained for, `shift` the flow shift, and
    `boundary` the share of the timesteps from which on the expert for high noise makes a step. `base` is the released
    model that it is with a module on. `tuning` is what a model of Wan's structure was trained further as: only names
    and settings tell it, and where they do not it is Wan's own.
    """

    name: str
    dim: int
    layers: int
    hub: str = ""
    recipes: tuple[str, ...] = ()
    version: str = "2.1"
    noise: str = ""
    height: int = 0
    shift: float = 5.0
    boundary: float | None = None
    base: str = ""
    tuning: str = ""

    @property
    def model(self) -> str:
        """The model that it is, or is an expert of: t2v-a14b of t2v-a14b-high."""
        return self.name.removesuffix(f"-{self.noise}") if self.noise else self.name

    @property
    def token_times(self) -> bool:
        """Return whether its own code computes the time of each token by itself, as that of Wan 2.2 does."""
        return self.version == "2.2" and not self.tuning

    @property
    def task(self) -> str:
        """The task, such as i2v."""
        return self.name.partition("-")[0]

    @property
    def size(self) -> str:
        """The size, such as 14b; of two experts, that of one."""
        return self.name.split("-")[1].removeprefix("a")


NOISES = expert_names(2)
"""Noise that the two experts of a model are for, in the order in which they make the steps."""


def expert_pair(model: str, *, base: str = "", **facts: Any) -> tuple[Released, ...]:
    """Return the two experts of a released model of Wan 2.2, which differ in the noise that they are for.

    `base` is the model of two experts that these are made of, `facts` are fields that both share.
    """
    return tuple(
        Released(
            name=f"{model}-{noise}",
            recipes=(model,),
            version="2.2",
            noise=noise,
            base=f"{base}-{noise}" if base else "",
            **facts,
        )
        for noise in NOISES
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Family:
    """One kind of a part: everything that kinoform knows about files of it.

    `fits` tells it from families of the same dialects. `spec` reads the sizes off the shapes, with facts that only a
    config.json tells as further arguments; `sizes` are those that `kinoform inspect` shows. `unread` are shell
    patterns, by own names, of tensors that no model reads. `model_type` is what the official config.json calls a
    transformer, `saved_by` its classes there and `pipelines` the classes of diffusers with such a transformer, the one
    that is written first, and `index` what their model_index.json says of it besides. `channels` are those that a
    transformer or a codec reads and makes. `files` are the names, without suffix, that the file of another part has in
    the folders of a layout: official, comfy.
    """

    name: str
    part: str
    description: str
    dialects: tuple[Dialect, ...] = ()
    spec: Callable[..., Any] = field(default=_unbuilt)
    sizes: Callable[[Any], Mapping[str, int]] = lambda spec: {}
    fits: Callable[[Shapes], bool] = lambda shapes: True
    unread: Callable[[Any], tuple[str, ...]] = lambda spec: ()
    configs: tuple[ConfigForm, ...] = ()
    released: tuple[Released, ...] = ()
    reads_images: bool = False
    model_type: str = ""
    saved_by: tuple[str, ...] = ("WanModel",)
    pipelines: tuple[str, ...] = ()
    index: Mapping[str, object] = field(default_factory=lambda: {"expand_timesteps": False})
    channels: tuple[int, int] = (0, 0)
    files: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def supported(self) -> bool:
        """Return whether kinoform makes videos with it; of transformers, whether any released one has a recipe."""
        return bool(self.dialects) and (self.part != TRANSFORMER or any(model.recipes for model in self.released))

    def tuning_of(self, model: str | None) -> str:
        """Return what the released model of that name, or the model that it is an expert of, was trained further as."""
        return next((item.tuning for item in self.released if model in (item.name, item.model)), "")

    def dialect(self, name: str) -> Dialect:
        """The dialect of that name, which must be one of `dialects`."""
        return next(dialect for dialect in self.dialects if dialect.name == name)

    def read(self, shapes: Shapes, config: Config | None) -> Any:
        """The spec of a part from its shapes and the config.json beside it.

        Raises WeightsError when the shapes are of no such model, or config.json contradicts them.
        """
        if config is None or not self.configs:
            return self.spec(shapes)
        form = next((each for each in self.configs if each.key in config.values), self.configs[-1])
        spec = self.spec(shapes, **form.facts(config, shapes))
        form.check(config, spec)
        return spec

    def config(self, dialect: str, spec: Any) -> dict[str, object] | None:
        """The config.json that a dialect wants beside such a part; None where it wants none."""
        form = next((form for form in self.configs if form.dialect == dialect), None)
        return None if form is None else form.written(spec)


def read_config(path: Path) -> Config:
    """Raises WeightsError when the file is missing or no JSON object."""
    return Config(path=path, values=read_json(path))


def shown(value: object) -> str:
    """A value from a file, short enough for a sentence."""
    text = (
        f"a number of {value.bit_length()} bits" if isinstance(value, int) and value.bit_length() > 64 else repr(value)
    )
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
