"""Identity of the parts in a file of weights."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One part of a model as its names and shapes tell, no number of it read.

    `part` is transformer, text_encoder, codec, image_encoder, lora, adapter, or checkpoint where several parts lie
    in one file, each under its prefix. `family` is the architecture: wan21-t2v, wan21-i2v, wan21-flf2v,
    wan21-vace, wan22-i2v, wan22-ti2v; vae21, vae22; umt5; clip; lora; adapter; or kinoform for one that only its
    recipe describes. `dialect` says whose names these are behind the `prefix`: official, diffusers,
    huggingface, openclip, kinoform, or a dialect of LoRAs (see lora_files.py). `storage` is plain, fp8 (a cast),
    fp8-scaled, fp8-mixed or gguf. `sizes` are what the shapes tell; `dtypes` count tensors; `parameters`
    are numbers without scales.

    `candidates` are the released models that fit, `chosen` the one that `evidence` points at: flag,
    structure, folder, file name, metadata; or manifest, which names the recipe of a folder of kinoform's
    own. Of an adapter, `chosen` is its recipe and `base` the name and the hash of the model that it is for.
    `notes` are sentences about settings and inputs that its names call for. Where `doubt` stands, names say that,
    which none of the candidates is, and nothing is chosen.
    `missing` are names that the file lacks, as it would spell them; `unknown`, names in the file that no
    such model has. `methods` are those in a LoRA that kinoform does not read, such as DoRA.
    """

    part: str
    family: str
    dialect: str
    prefix: str
    storage: str
    sizes: Mapping[str, int]
    dtypes: Mapping[str, int]
    tensors: int
    parameters: int
    bytes: int
    candidates: tuple[str, ...]
    chosen: str | None
    evidence: str
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    base: str = ""
    methods: tuple[str, ...] = ()
    doubt: str = ""
    notes: tuple[str, ...] = ()
