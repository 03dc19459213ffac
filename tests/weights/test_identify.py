"""Every family in every dialect is told from names and shapes; what they cannot tell is asked for, not guessed."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from kinoform.checkpoints.headers import Entry, read_header
from kinoform.families.identify import Identity, detect, inspect_path
from kinoform.mini.recipe import mini
from kinoform.models.meta import on_meta
from kinoform.recipes.catalogue import ASSETS
from tests.support.refusals import refused
from tests.weights.tiny_files import (
    CHANNELS,
    FAMILIES,
    TO_DIFFUSERS,
    TO_HUGGINGFACE,
    Shapes,
    clip,
    codec21,
    codec22,
    diffusers_codec21,
    diffusers_codec22,
    huggingface_clip,
    linear,
    lora,
    openclip,
    prefixed,
    renamed,
    text_encoder,
    transformer,
    write_header,
)

GOLDEN = Path(__file__).parents[1] / "golden"
NOTHING: Mapping[str, str] = MappingProxyType({})
PREFIXES = ("", "model.", "diffusion_model.", "model.diffusion_model.", "some.other.wrapper.")
BIG: dict[str, Any] = {"dim": 5120, "ffn": 13824, "layers": 40, "text": 4096, "image": 1280, "frequencies": 256}
SMALL = BIG | {"dim": 1536, "ffn": 8960, "layers": 30}


def entries(shapes: Shapes, dtypes: Mapping[str, str] = NOTHING) -> dict[str, Entry]:
    return {name: Entry(shape, dtypes.get(name, "BF16"), 0, 0) for name, shape in shapes.items()}


def told(
    shapes: Shapes, path: Path | str = "w.safetensors", *, flag: str | None = None,
    metadata: Mapping[str, str] = NOTHING, dtypes: Mapping[str, str] = NOTHING,
) -> Identity:  # fmt: skip
    return detect(entries(shapes, dtypes), path=Path(path), metadata=metadata, flag=flag)[0].identity


def refusal(code: str, shapes: Shapes, path: str = "w.safetensors", *, flag: str | None = None) -> str:
    with refused(code) as caught:
        told(shapes, path, flag=flag)
    sentence = str(caught.value)
    assert "\n" not in sentence and len(sentence) < 400
    return sentence


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_of_all_families_behind_any_prefix(family: str, prefix: str) -> None:
    for dialect, shapes in (
        ("official", transformer(family)),
        ("diffusers", renamed(transformer(family), TO_DIFFUSERS)),
    ):
        found = told(prefixed(shapes, prefix))
        assert (found.part, found.family, found.dialect, found.prefix) == ("transformer", family, dialect, prefix)
        assert found.missing == found.unknown == ()
        sizes = {"dim": 24, "ffn_dim": 40, "layers": 3, "text_width": 20, "frequency_width": 16}
        assert found.sizes.items() >= sizes.items()
        assert (found.sizes["in_channels"], found.sizes["out_channels"]) == CHANNELS[family]
        assert found.tensors == len(shapes) and found.storage == "plain"


PARTS = {
    "official codec": (codec21(), "codec", "vae21", "official"),
    "diffusers codec": (diffusers_codec21(), "codec", "vae21", "diffusers"),
    "codec of single blocks": (diffusers_codec21(blocks=1), "codec", "vae21", "diffusers"),
    "official codec 2.2": (codec22(), "codec", "vae22", "official"),
    "diffusers codec 2.2": (diffusers_codec22(), "codec", "vae22", "diffusers"),
    "official text encoder": (text_encoder(layers=3), "text_encoder", "umt5", "official"),
    "transformers' text encoder": (renamed(text_encoder(), TO_HUGGINGFACE), "text_encoder", "umt5", "huggingface"),
    "official image encoder": (clip(), "image_encoder", "clip", "official"),
    "transformers' image encoder": (huggingface_clip(), "image_encoder", "clip", "huggingface"),
    "OpenCLIP's image encoder": (openclip(), "image_encoder", "clip", "openclip"),
}


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("prefix", PREFIXES[:2])
def test_other_parts_in_their_dialects(name: str, prefix: str) -> None:
    shapes, part, family, dialect = PARTS[name]
    found = told(prefixed(shapes, prefix))
    assert (found.part, found.family, found.dialect) == (part, family, dialect)
    assert found.prefix.startswith(prefix) and all(n.startswith(found.prefix) for n in prefixed(shapes, prefix))
    assert found.missing == found.unknown == () and found.tensors == len(shapes)
    assert found.candidates == () and found.chosen is None


@pytest.mark.parametrize(
    "name",
    ["official codec", "official codec 2.2", "official text encoder", "transformers' image encoder", "transformer"],
)
def test_what_is_missing_and_what_is_too_much_is_listed_as_the_file_spells_it(name: str) -> None:
    shapes = prefixed(transformer() if name == "transformer" else PARTS[name][0], "x.")
    vital = ("patch_embedding.weight", "head.head.weight", "blocks.0.ffn.0.weight")
    unread = ("x.vision_model.post_layernorm.", "x.vision_model.encoder.layers.1.")
    for gone in [each for each in shapes if not each.endswith(vital) and not each.startswith(unread)][::5]:
        held = {each: shape for each, shape in shapes.items() if each != gone}
        found = told(held | {"x.blocks.0.surplus": (3,), "elsewhere": (1,)})
        assert gone in found.missing, gone
        assert found.unknown[-1] == "elsewhere" and "x.blocks.0.surplus" in found.unknown


def test_missing_names_are_spelled_in_the_dialect_of_the_file() -> None:
    shapes = renamed(transformer(), TO_DIFFUSERS)
    del shapes["blocks.1.norm2.bias"], shapes["condition_embedder.time_embedder.linear_2.bias"]
    assert set(told(shapes).missing) == {"blocks.1.norm2.bias", "condition_embedder.time_embedder.linear_2.bias"}
    shapes = transformer(layers=4)
    shapes = {name: shape for name, shape in shapes.items() if not name.startswith("blocks.1.")}
    assert len(told(shapes).missing) == 27 and told(shapes).unknown == ()
    shapes = diffusers_codec21() | {"decoder.up_blocks.0.resnets.7.conv1.weight": (1,)}
    assert len(told(shapes).missing) > 0 and "decoder.up_blocks.0.resnets.7.conv1.weight" in told(shapes).unknown
    assert "'patch_embedding.weight'" in refusal("weights_incomplete", transformer() | {"patch_embedding.weight": ()})


@pytest.mark.parametrize(
    "name",
    ["dit_t2v", "dit_i2v", "dit_flf2v", "dit_vace", "dit22_i2v", "dit22_ti2v_token_times", "t5_encoder", "clip_visual"],
)
def test_the_lists_of_names_are_those_of_the_official_code(name: str) -> None:
    found = detect(golden(name), path=GOLDEN, metadata={})[0].identity
    assert found.missing == found.unknown == ()


def test_the_list_of_the_autoencoder_is_that_of_the_official_code() -> None:
    found = detect(golden("vae21_encode") | golden("vae21_decode"), path=GOLDEN, metadata={})[0].identity
    assert (found.family, found.missing, found.unknown) == ("vae21", (), ())


def golden(name: str) -> dict[str, Entry]:
    held = read_header(GOLDEN / f"{name}.safetensors").entries
    return {each.removeprefix("weights."): entry for each, entry in held.items() if each.startswith("weights.")}


def test_the_token_embedding_counts_under_both_of_its_names() -> None:
    shapes = renamed(text_encoder(), TO_HUGGINGFACE)
    alias = shapes | {"encoder.embed_tokens.weight": shapes["shared.weight"]}
    assert told(alias).unknown == ()
    del alias["shared.weight"]
    assert told(alias).missing == () and told(alias).sizes["vocab"] == 50
    del alias["encoder.embed_tokens.weight"]
    assert told(alias).missing == ("shared.weight",)


def test_a_whole_checkpoint_is_told_part_by_part() -> None:
    text = "text_encoders.umt5xxl.transformer."
    shapes = prefixed(transformer(), "model.diffusion_model.") | prefixed(codec21(), "vae.")
    shapes |= prefixed(renamed(text_encoder(), TO_HUGGINGFACE), text)
    shapes |= {f"{text}spiece_model": (1000,), "model.diffusion_model.scaled_fp8": (0,)}
    shapes |= {"model.diffusion_model.blocks.0.self_attn.q.scale_weight": ()}
    parts = [part.identity for part in detect(entries(shapes), path=Path("w"), metadata={})]
    assert {part.part: part.prefix for part in parts} == {
        "transformer": "model.diffusion_model.", "text_encoder": text, "codec": "vae.",
    }  # fmt: skip
    assert [part.storage for part in parts] == ["fp8-scaled", "plain", "plain"]
    assert all(part.missing == part.unknown == () for part in parts)
    refusal("weights_ambiguous", shapes | prefixed(transformer(), "ema."))


def test_the_text_tower_of_the_official_clip_file_is_known_to_be_unused() -> None:
    textual = prefixed(
        linear("blocks.0.attn.q", 4, 4) | {"token_embedding.weight": (9, 4), "norm.weight": (4,)}, "textual."
    )
    found = told(clip() | textual | {"log_scale": ()})
    assert (found.part, found.prefix, found.unknown) == ("image_encoder", "visual.", ())


Q = "blocks.0.self_attn.q"
STORAGES = {
    "plain": ({}, {}, {}),
    "fp8": ({}, {f"{Q}.weight": "F8_E4M3"}, {}),
    "fp8-scaled": (
        {"scaled_fp8": (0,), f"{Q}.scale_weight": (), f"{Q}.scale_input": ()},
        {f"{Q}.weight": "F8_E5M2"},
        {},
    ),
    "fp8-mixed": (
        {f"{Q}.weight_scale": (), f"{Q}.input_scale": (), f"{Q}.comfy_quant": (9,)},
        {f"{Q}.weight": "I8"},
        {},
    ),
    "fp8-mixed by metadata": ({}, {f"{Q}.weight": "F8_E4M3"}, {"_quantization_metadata": "{}"}),
    "gguf": ({}, {f"{Q}.weight": "Q4_K"}, {}),
}


@pytest.mark.parametrize("name", STORAGES)
def test_storage_is_told_and_what_belongs_to_it_is_no_parameter(name: str) -> None:
    extra, dtypes, metadata = STORAGES[name]
    plain = told(transformer())
    found = told(transformer() | extra, dtypes=dtypes, metadata=metadata)
    assert found.storage == name.split()[0] and found.unknown == ()
    assert found.parameters == plain.parameters and found.tensors == plain.tensors + len(extra)
    assert told(transformer(), "w.gguf").storage == "gguf"


LORAS = ("diffusers", "peft", "comfy", "kohya", "diffsynth", "lycoris", "full-delta")


@pytest.mark.parametrize("dialect", LORAS)
def test_loras_are_named_by_their_dialect(dialect: str) -> None:
    found = told(lora(dialect, dim=1536))
    assert (found.part, found.dialect, found.unknown) == ("lora", dialect, ())
    assert found.sizes["layers"] == 2
    if dialect != "lycoris":
        assert found.sizes["rank"] == 4 and found.candidates == ("t2v-1.3b", "bernini-1.3b", "vace-1.3b")
    assert told(lora(dialect) | {"stranger": (1,)}).unknown == ("stranger",)


@pytest.mark.parametrize(
    ("family", "sizes", "path", "chosen", "evidence"),
    [
        ("wan21-t2v", SMALL, "w.safetensors", "t2v-1.3b", "structure"),
        ("wan21-flf2v", BIG, "w.safetensors", "flf2v-14b", "structure"),
        ("wan21-vace", SMALL | {"side_layers": 15}, "w.safetensors", "vace-1.3b", "structure"),
        ("wan21-vace", BIG | {"side_layers": 8}, "w.safetensors", None, ""),
        ("wan21-vace", BIG | {"side_layers": 8}, "wan2.2_fun_vace_high_noise_14B.gguf", "vace-a14b-high", "file name"),
        (
            "wan21-vace",
            BIG | {"side_layers": 8},
            "Wan2.2-VACE-Fun-A14B/low_noise_model/diffusion_pytorch_model.safetensors",
            "vace-a14b-low",
            "folder",
        ),
        ("wan21-vace", BIG | {"side_layers": 8}, "Wan2_1-VACE-14B_bf16.safetensors", "vace-14b", "file name"),
        ("wan22-ti2v", BIG | {"dim": 3072, "layers": 30}, "w.safetensors", "ti2v-5b", "structure"),
        ("wan21-t2v", BIG, "w.safetensors", None, ""),
        ("wan21-t2v", BIG, "models/low/x.safetensors", "t2v-a14b-low", "folder"),
        ("wan21-t2v", BIG, "Wan2.2-T2V-A14B/high_noise_model/m.safetensors", "t2v-a14b-high", "folder"),
        ("wan21-t2v", BIG, "Wan2.1-T2V-14B", "t2v-14b", "folder"),
        ("wan21-t2v", BIG, "Wan2.1-T2V-14B/diffusion_pytorch_model-00001-of-00006.safetensors", "t2v-14b", "folder"),
        ("wan21-t2v", BIG, "x/transformer_2/m.safetensors", "t2v-a14b-low", "folder"),
        ("wan21-t2v", BIG, "wan2.1_t2v_14B_fp16.safetensors", "t2v-14b", "file name"),
        ("wan21-t2v", BIG, "Wan2_2-T2V-A14B_HIGH_fp8_e4m3fn.safetensors", "t2v-a14b-high", "file name"),
        ("wan21-t2v", BIG, "Wan2.2/wan2.2_t2v_low_noise_14B.gguf", "t2v-a14b-low", "file name"),
        ("wan21-t2v", BIG, "wan2.2_t2v_14B.safetensors", None, ""),
        ("wan21-t2v", BIG, "high_noise_and_low_noise.safetensors", None, ""),
        ("wan21-i2v", BIG, "wan2.1_i2v_480p_14B_fp8.safetensors", "i2v-14b-480p", "file name"),
        ("wan21-i2v", BIG, "Wan2.1-I2V-14B-720P/x.safetensors", "i2v-14b-720p", "folder"),
        ("wan22-i2v", BIG, "wan2.2_i2v_highnoise_14B.safetensors", "i2v-a14b-high", "file name"),
        ("wan22-i2v", BIG, "Wan2.1-I2V/w.safetensors", None, ""),
        ("wan21-t2v", {}, "Wan2.1-T2V-14B/w.safetensors", None, ""),
        ("wan21-t2v", SMALL, "Bernini-R-1.3B-Diffusers/transformer/m.safetensors", "bernini-1.3b", "folder"),
        ("wan21-t2v", SMALL, "bernini_r_wan2.2_1.3B_mbf16.safetensors", "bernini-1.3b", "file name"),
        ("wan21-t2v", BIG, "Wan22_Bernini_HIGH_fp8_e4m3fn_scaled.safetensors", "bernini-a14b-high", "file name"),
        ("wan21-t2v", BIG, "Bernini-R/bernini_renderer_low/model.safetensors", "bernini-a14b-low", "folder"),
        ("wan21-t2v", BIG, "Wan22_Bernini-Q4_K_M.gguf", None, ""),
    ],
)
def test_evidence_decides_where_structure_is_silent(
    family: str, sizes: dict[str, int], path: str, chosen: str | None, evidence: str
) -> None:
    found = told(transformer(family, **sizes), path)
    assert (found.chosen, found.evidence) == (chosen, evidence)
    assert chosen is None or chosen in found.candidates


def test_flag_stands_above_all_names_and_metadata_below() -> None:
    shapes = transformer(**BIG)
    assert told(shapes).candidates == ("t2v-14b", "t2v-a14b-high", "t2v-a14b-low")
    found = told(shapes, "high_noise_model/w.safetensors", flag="t2v-a14b-low")
    assert (found.chosen, found.evidence) == ("t2v-a14b-low", "flag")
    metadata = {"modelspec.title": "Wan 2.1 T2V 14B"}
    assert told(shapes, metadata=metadata).evidence == "metadata"
    assert told(shapes, "wan22_high_noise.safetensors", metadata=metadata).chosen == "t2v-a14b-high"
    sentence = refusal("variant_contradicts_weights", shapes, flag="i2v-14b-480p")
    assert all(name in sentence for name in told(shapes).candidates)
    assert "'t2v-14b'" in refusal("unknown_variant", shapes, flag="t2v-14")
    assert told(transformer(), flag="t2v-14b").chosen == "t2v-14b"  # of no released size


def test_the_first_of_two_experts_in_a_diffusers_folder_is_that_of_high_noise(tmp_path: Path) -> None:
    for name in ("transformer", "transformer_2"):
        write_header(tmp_path / name / "diffusion_pytorch_model.safetensors", renamed(transformer(**BIG), TO_DIFFUSERS))
    assert [part.chosen for part in inspect_path(tmp_path)] == ["t2v-a14b-high", "t2v-a14b-low"]


FOREIGN = {
    "camera control": (transformer() | linear("control_adapter.conv", 4, 4), "camera control"),
    "reference": (transformer() | linear("ref_conv", 4, 4), "Wan-Fun"),
    "speech": (transformer() | linear("casual_audio_encoder.x", 4, 4), "S2V"),
    "animate": (transformer("wan21-i2v") | linear("face_adapter.x", 4, 4), "Animate"),
    "sound": (transformer() | linear("audio_proj.x", 4, 4), "HuMo"),
    "control": (transformer() | {"patch_embedding.weight": (24, 48, 1, 2, 2)}, "Wan-Fun control"),
    "control with image": (transformer("wan21-i2v") | {"patch_embedding.weight": (24, 48, 1, 2, 2)}, "48 channels"),
    "channels of nobody": (transformer() | {"patch_embedding.weight": (24, 17, 1, 2, 2)}, "17 channels"),
    "small inpainting": (transformer("wan21-i2v", **SMALL), "Wan-Fun-1.3B-InP"),
    "T5": (
        {n: s for n, s in text_encoder().items() if "blocks.1.pos" not in n},
        "T5 encoder",
    ),
    "Flux": (linear("double_blocks.0.img_attn.qkv", 4, 4), "Flux"),
    "Stable Diffusion": (linear("model.diffusion_model.input_blocks.0.0", 4, 4), "Stable Diffusion"),
    "anything": ({"a": (1,), "b": (2,)}, "'a', 'b'"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_relatives_and_strangers_are_named_and_refused(name: str) -> None:
    shapes, expected = FOREIGN[name]
    for spelled in (shapes, prefixed(shapes, "diffusion_model.")):
        sentence = refusal("weights_unsupported_model", spelled, "models/w.safetensors")
        assert expected.replace("'a', 'b'", "its names begin with") in sentence and "models/w.safetensors" in sentence


def test_the_embedded_model_is_told_by_its_manifest() -> None:
    parts = {part.part: part for part in inspect_path(ASSETS / "mini")}
    recipe = mini()
    specs: dict[str, Any] = {"transformer": recipe.transformer, "codec": recipe.codec, "text_encoder": recipe.text}
    for part, spec in specs.items():
        assert parts[part].dialect == "kinoform" and parts[part].missing == parts[part].unknown == ()
        assert (parts[part].chosen, parts[part].evidence) == ("kinoform.mini.recipe:mini", "manifest")
        assert parts[part].parameters == sum(p.numel() for p in on_meta(spec.build).parameters())
