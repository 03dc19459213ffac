"""Damaged and hostile weight files from a seed, and a process that opens them.

`python -m tests.weights.fuzz_files FOLDER COUNT` prints one JSON object: how many files of each kind were opened and
refused, what was neither, the most processor time of one file, and by how much memory grew over all of them.
"""

import io
import json
import pickle
import random
import resource
import struct
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from kinoform.checkpoints.files import open_checkpoint, open_file
from kinoform.checkpoints.fp8 import plain
from kinoform.errors import WeightsError

EXTREMES = [0, 1, 2, 7, 255, 1 << 16, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
NAMES = ["", "é" * 2000, "\ud800", "\u202eweight", "a\nb", "\x00", "\x1b[31m", "__metadata__", "../../x", "𝔵.weight"]
ATOMS: list[Any] = [
    None,
    True,
    False,
    -1,
    0.5,
    1e308,
    float("nan"),
    float("inf"),
    10**400,
    "",
    "F32",
    [],
    {},
    *EXTREMES,
]

Case = tuple[str, bytes]
"""The suffix of a file and its content."""


def cases(count: int, canary: Path) -> Iterator[Case]:
    """A third of each format, always the same for the same count."""
    dice = random.Random(count)
    sources = safetensors_sources(), gguf_sources(), pickle_sources(canary)
    for number in range(count):
        if number % 3 == 0:
            yield ".safetensors", damaged_safetensors(dice, dice.choice(sources[0]))
        elif number % 3 == 1:
            yield ".gguf", damaged_gguf(dice, dice.choice(sources[1]))
        else:
            yield ".pth", damaged_pickle(dice, dice.choice(sources[2]), canary)


def safetensors_sources() -> list[bytes]:
    weight = torch.ones(4, 8).to(torch.float8_e4m3fn)
    wide = {"a.weight": torch.ones(4, 8), "b": torch.zeros(3, dtype=torch.bfloat16), "c": torch.ones(0)}
    text = json.dumps({"format": "float8_e4m3fn"}).encode()
    told = {"a.weight": weight, "a.weight_scale": torch.ones(1), "a.comfy_quant": torch.tensor(list(text)).byte()}
    layers = {"_quantization_metadata": json.dumps({"layers": {"a": {"format": "float8_e4m3fn"}}})}
    marked = {"a.weight": weight, "a.scale_weight": torch.ones(4, 2, 1), "scaled_fp8": torch.zeros(2)}
    return [
        save(wide),
        save(told),
        save({"a.weight": weight, "a.weight_scale": torch.ones(4, 1)}, layers),
        save(marked),
    ]


def gguf_sources() -> list[bytes]:
    from tests.weights.gguf_fixtures import pair, raw_gguf, text

    words = text("tokens") + struct.pack("<IIQ", 9, 8, 3) + text("a") * 3
    shape = pair("comfy.gguf.orig_shape.w", 9, "IQ5i", 5, 5, 2, 16, 1, 2, 1)
    name = text("general.architecture") + struct.pack("<I", 8) + text("wan")
    alignment = pair("general.alignment", 4, "I", 64)
    blocks = [("w", [32, 2], 8, 0), ("v", [256], 12, 96), ("u", [3], 0, 256)]
    return [
        raw_gguf(blocks, name + shape + words, pair_count=3, data=bytes(range(256)) + bytes(64)),
        raw_gguf([("enc.blk.0.attn_q.weight", [4, 2], 30, 0)], name, pair_count=1, data=bytes(16)),
        raw_gguf([("u", [3], 0, 0)], alignment, pair_count=1, data=bytes(128)),
    ]


def pickle_sources(canary: Path) -> list[bytes]:
    found = []
    for content in ({"a": torch.ones(4, 8), "b": torch.zeros(3).half()}, {"a": Payload(canary), "b": torch.ones(2)}):
        file = io.BytesIO()
        torch.save(content, file)
        found.append(file.getvalue())
    return found


class Payload:
    """Unpickling this writes the canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = str(canary)

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"open({self.canary!r}, 'w').close()",)


def damaged_safetensors(dice: random.Random, content: bytes) -> bytes:
    length = struct.unpack("<Q", content[:8])[0]
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    kind = dice.randrange(7)
    if kind == 0:
        return flipped(dice, content)
    if kind == 1:
        return cut(dice, content)
    if kind == 2:
        return struct.pack("<Q", dice.choice([*EXTREMES, length - 1, length + 1])) + content[8:]
    if kind == 3:
        deep = dice.choice([b"[", b'{"a":', b'{"a":{"shape":[']) * dice.choice([10, 1000, 100_000])
        return struct.pack("<Q", len(deep)) + deep + data
    if kind == 4:
        formats: dict[str, Any] = {"layers": {"a": {"format": "float8_e4m3fn"}, "b": {}}}
        edit(dice, formats)
        header["__metadata__"] = {"_quantization_metadata": json.dumps(formats)}
    for _ in range(0 if kind == 4 else dice.randrange(1, 4)):
        edit(dice, header)
    text = json.dumps(header)
    if kind == 5:  # a name twice
        text = text[:-1] + "," + json.dumps(dice.choice(list(header) or ["a"])) + ":{}}"
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


def edit(dice: random.Random, value: Any) -> None:
    """Change, remove, add or nest something at a random depth of a JSON value."""
    while isinstance(value, (dict, list)) and value:
        key = dice.choice(list(value)) if isinstance(value, dict) else dice.randrange(len(value))
        if isinstance(value[key], (dict, list)) and value[key] and dice.random() < 0.7:
            value = value[key]
            continue
        action = dice.randrange(4)
        if action == 0:
            value[key] = dice.choice(ATOMS)
        elif action == 1:
            del value[key]
        elif action == 2 and isinstance(value, dict):
            value[dice.choice(NAMES)] = value.pop(key)
        else:
            value[key] = [value[key]] * dice.choice([1, 2, 20])
        return


def damaged_gguf(dice: random.Random, content: bytes) -> bytes:
    kind = dice.randrange(4)
    if kind == 0:
        return flipped(dice, content)
    if kind == 1:
        return cut(dice, content)
    place = dice.randrange(4, len(content) - 8)
    if kind == 2:
        width = dice.choice("IQ")
        number = dice.choice(EXTREMES) & ((1 << (32 if width == "I" else 64)) - 1)
        return content[:place] + struct.pack(f"<{width}", number) + content[place + struct.calcsize(width) :]
    return content[:place] + dice.randbytes(dice.randrange(1, 40)) + content[place:]


def damaged_pickle(dice: random.Random, content: bytes, canary: Path) -> bytes:
    kind = dice.randrange(6)
    if kind == 0:
        return flipped(dice, content)
    if kind == 1:
        return cut(dice, content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        records = {record.filename: archive.read(record) for record in archive.infolist()}
    program = next(name for name in records if name.endswith("data.pkl"))
    compression = zipfile.ZIP_STORED
    if kind == 2:
        records[program] = flipped(dice, records[program])
    elif kind == 3:
        records[program] = hostile_program(dice, canary)
    elif kind == 4:  # a bomb
        records[dice.choice(list(records))] = bytes(dice.choice([1_000_000, 20_000_000]))
        compression = zipfile.ZIP_DEFLATED
    else:
        name = dice.choice(list(records))
        records[dice.choice([f"../{name}", name.upper(), "x", f"{name}/{name}"])] = records.pop(name)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in records.items():
            archive.writestr(name, data)
    return file.getvalue()


def hostile_program(dice: random.Random, canary: Path) -> bytes:
    """Pickles that would write the canary, or ask for more than they bring."""
    code = f"open({str(canary)!r}, 'w').close()".encode()
    return dice.choice(
        [
            pickle.dumps(Payload(canary), protocol=dice.randrange(5)),
            pickle.dumps({"a": [Payload(canary)]}, protocol=2),
            b"cbuiltins\nexec\n(V%b\ntR." % code,
            b"(V%b\nibuiltins\nexec\n." % code,
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(cbuiltins\nexec\n(V%b\ntRtR." % code,
            b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x7f\x85R.",
            b"\x80\x02" + b"(" * 100_000 + b".",
            b"\x80\x02" + b"]" + b"2a" * 1000 + b".",
            b"\x80\x02X\xff\xff\xff\x7fabc.",
            b"\x80\x04\x8c\x01ar\xff\xff\xff\x7f.",
        ]
    )


def flipped(dice: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(dice.randrange(1, 9)):
        changed[dice.randrange(min(len(changed), 4096))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def cut(dice: random.Random, content: bytes) -> bytes:
    if dice.random() < 0.3:
        return content + dice.randbytes(dice.randrange(1, 100))
    return content[: dice.randrange(len(content))]


def read_all(path: Path) -> None:
    gguf = path.suffix == ".gguf"
    found = open_file(path) if gguf else plain(open_checkpoint(path))
    for name in found.tensors:
        found.read(name)


def outcome(act: Callable[[Path], None], path: Path) -> str:
    """opened, refused, or what was wrong with the way it failed."""
    try:
        act(path)
    except WeightsError as error:
        sentence = str(error)
        if "\n" in sentence or "\x1b" in sentence or str(path) not in sentence or len(sentence) > 2000:
            return f"not one sentence: {sentence[:300]!r}"
        try:
            sentence.encode()
        except UnicodeEncodeError:
            return f"cannot be printed: {sentence[:300]!r}"
        return "refused"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:300]}"
    return "opened"


def main(folder: Path, count: int) -> None:
    canary = folder / "canary"
    seen: Counter[str] = Counter()
    faults: list[str] = []
    slowest = 0.0
    start = 0
    for number, (suffix, content) in enumerate(cases(count, canary)):
        path = folder / f"w{suffix}"
        path.write_bytes(content)
        if number == 3:  # whatever is imported lazily is there
            start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.process_time()
        result = outcome(read_all, path)
        if number >= 3:
            slowest = max(slowest, time.process_time() - began)
        seen[f"{suffix} {result}" if result in ("opened", "refused") else f"{suffix} fault"] += 1
        if result not in ("opened", "refused"):
            faults.append(f"file {number}: {result}")
        if canary.exists():
            faults.append(f"file {number}: its code was run")
            canary.unlink()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) * 1024
    print(json.dumps({"seen": seen, "faults": faults[:20], "slowest": slowest, "grown": grown}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), int(sys.argv[2]))
