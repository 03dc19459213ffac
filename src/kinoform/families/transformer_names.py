"""Names of Wan's transformers: the official ones, those of diffusers, and kinoform's own.

Sources: the official model; the conversion script of diffusers, and strict loading of mapped random weights.
"""

from kinoform.families.family import OWN_NAMES, Dialect
from kinoform.families.names import Names

IMAGE, SIDE, TIME = "context.image", "branches.vace", "time_attention"


def _official_block(theirs: str, ours: str) -> tuple[tuple[str, str], ...]:
    """The rows of one transformer block under a prefix (main blocks, or context blocks of branches)."""
    image = f"{ours}.cross_attention.streams.image"
    text = f"{ours}.cross_attention.streams.text"
    return (
        (f"{theirs}.modulation", f"{ours}.modulation"),
        (f"{theirs}.self_attn.*", f"{ours}.self_attention.*"),
        (f"{theirs}.norm3.*", f"{ours}.cross_norm.*"),
        (f"{theirs}.cross_attn.k_img.*", f"{image}.k.*"),
        (f"{theirs}.cross_attn.v_img.*", f"{image}.v.*"),
        (f"{theirs}.cross_attn.norm_k_img.*", f"{image}.norm_k.*"),
        (f"{theirs}.cross_attn.k.*", f"{text}.k.*"),
        (f"{theirs}.cross_attn.v.*", f"{text}.v.*"),
        (f"{theirs}.cross_attn.norm_k.*", f"{text}.norm_k.*"),
        (f"{theirs}.cross_attn.q.*", f"{ours}.cross_attention.q.*"),
        (f"{theirs}.cross_attn.o.*", f"{ours}.cross_attention.o.*"),
        (f"{theirs}.cross_attn.norm_q.*", f"{ours}.cross_attention.norm_q.*"),
        (f"{theirs}.ffn.*", f"{ours}.feed_forward.*"),
    )


def _diffusers_block(theirs: str, ours: str) -> tuple[tuple[str, str], ...]:
    """The same for diffusers.

    The one norm with weights, which stands before cross-attention, is norm3 in the official model and norm2
    in diffusers; official norm2 and diffusers' norm3 have no weights.
    """
    first, second = f"{theirs}.attn1", f"{theirs}.attn2"
    cross = f"{ours}.cross_attention"
    image, text = f"{cross}.streams.image", f"{cross}.streams.text"
    return (
        (f"{theirs}.scale_shift_table", f"{ours}.modulation"),
        (f"{theirs}.norm2.*", f"{ours}.cross_norm.*"),
        (f"{first}.to_q.*", f"{ours}.self_attention.q.*"),
        (f"{first}.to_k.*", f"{ours}.self_attention.k.*"),
        (f"{first}.to_v.*", f"{ours}.self_attention.v.*"),
        (f"{first}.to_out.0.*", f"{ours}.self_attention.o.*"),
        (f"{first}.norm_q.*", f"{ours}.self_attention.norm_q.*"),
        (f"{first}.norm_k.*", f"{ours}.self_attention.norm_k.*"),
        (f"{second}.to_q.*", f"{cross}.q.*"),
        (f"{second}.to_k.*", f"{text}.k.*"),
        (f"{second}.to_v.*", f"{text}.v.*"),
        (f"{second}.to_out.0.*", f"{cross}.o.*"),
        (f"{second}.norm_q.*", f"{cross}.norm_q.*"),
        (f"{second}.norm_k.*", f"{text}.norm_k.*"),
        (f"{second}.add_k_proj.*", f"{image}.k.*"),
        (f"{second}.add_v_proj.*", f"{image}.v.*"),
        (f"{second}.norm_added_k.*", f"{image}.norm_k.*"),
        (f"{theirs}.ffn.net.0.proj.*", f"{ours}.feed_forward.0.*"),
        (f"{theirs}.ffn.net.2.*", f"{ours}.feed_forward.2.*"),
    )


OFFICIAL_NAMES = Names(
    rows=(
        ("patch_embedding.*", "patch_embedding.*"),
        ("text_embedding.#.*", "context.text.layers.#.*"),
        ("img_emb.emb_pos", f"{IMAGE}.positions"),
        ("img_emb.proj.0.*", f"{IMAGE}.norm_in.*"),
        ("img_emb.proj.1.*", f"{IMAGE}.layers.0.*"),
        ("img_emb.proj.3.*", f"{IMAGE}.layers.2.*"),
        ("img_emb.proj.4.*", f"{IMAGE}.norm_out.*"),
        ("time_embedding.*", "time_embedding.*"),
        ("time_projection.*", "time_projection.*"),
        ("head.modulation", "head.modulation"),
        ("head.head.*", "head.linear.*"),
        *_official_block("blocks.#", "blocks.#"),
        ("vace_patch_embedding.*", f"{SIDE}.patch_embedding.*"),
        ("vace_blocks.0.before_proj.*", f"{SIDE}.before.*"),
        ("vace_blocks.#.after_proj.*", f"{SIDE}.after.#.*"),
        *_official_block("vace_blocks.#", f"{SIDE}.blocks.#"),
    )
)

_EMBEDDER = "condition_embedder"
DIFFUSERS_NAMES = Names(
    rows=(
        ("patch_embedding.*", "patch_embedding.*"),
        (f"{_EMBEDDER}.text_embedder.linear_1.*", "context.text.layers.0.*"),
        (f"{_EMBEDDER}.text_embedder.linear_2.*", "context.text.layers.2.*"),
        (f"{_EMBEDDER}.time_embedder.linear_1.*", "time_embedding.0.*"),
        (f"{_EMBEDDER}.time_embedder.linear_2.*", "time_embedding.2.*"),
        (f"{_EMBEDDER}.time_proj.*", "time_projection.1.*"),
        (f"{_EMBEDDER}.image_embedder.pos_embed", f"{IMAGE}.positions"),
        (f"{_EMBEDDER}.image_embedder.norm1.*", f"{IMAGE}.norm_in.*"),
        (f"{_EMBEDDER}.image_embedder.ff.net.0.proj.*", f"{IMAGE}.layers.0.*"),
        (f"{_EMBEDDER}.image_embedder.ff.net.2.*", f"{IMAGE}.layers.2.*"),
        (f"{_EMBEDDER}.image_embedder.norm2.*", f"{IMAGE}.norm_out.*"),
        ("scale_shift_table", "head.modulation"),
        ("proj_out.*", "head.linear.*"),
        *_diffusers_block("blocks.#", "blocks.#"),
        ("vace_patch_embedding.*", f"{SIDE}.patch_embedding.*"),
        ("vace_blocks.0.proj_in.*", f"{SIDE}.before.*"),
        ("vace_blocks.#.proj_out.*", f"{SIDE}.after.#.*"),
        *_diffusers_block("vace_blocks.#", f"{SIDE}.blocks.#"),
    )
)

DIALECTS = (
    Dialect(
        name="official",
        signatures=frozenset(
            (
                "patch_embedding.weight",
                "text_embedding.0.weight",
                "time_embedding.0.weight",
                "time_projection.1.weight",
                "head.modulation",
                "head.head.weight",
                "blocks.0.modulation",
                "blocks.0.self_attn.q.weight",
                "blocks.0.cross_attn.q.weight",
                "blocks.0.ffn.0.weight",
            )
        ),
        needed=6,
        table=OFFICIAL_NAMES,
    ),
    Dialect(
        name="diffusers",
        signatures=frozenset(
            (
                f"{_EMBEDDER}.time_proj.weight",
                f"{_EMBEDDER}.text_embedder.linear_1.weight",
                f"{_EMBEDDER}.time_embedder.linear_1.weight",
                "scale_shift_table",
                "blocks.0.scale_shift_table",
                "blocks.0.attn1.to_q.weight",
                "blocks.0.attn2.to_q.weight",
                "blocks.0.ffn.net.0.proj.weight",
            )
        ),
        needed=5,
        table=DIFFUSERS_NAMES,
    ),
    Dialect(
        name="kinoform",
        signatures=frozenset(
            (
                "patch_embedding.weight",
                "time_projection.1.weight",
                "context.text.layers.0.weight",
                "context.text.layers.2.weight",
                "head.linear.weight",
            )
        ),
        needed=4,
        table=OWN_NAMES,
    ),
)
