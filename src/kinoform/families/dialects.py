"""Tables from the names of diffusers and transformers, to the official names and to kinoform's own.

Sources: the conversion script of diffusers, and strict loading of mapped random weights into its classes.
"""

from kinoform.families.names import DIT, IMAGE_ENCODER, TEXT_ENCODER, VAE21, Names

RESIDUAL_BLOCKS = 2
LEVELS = 4
"""Of both released autoencoders: levels, and residual blocks of a level on the way down; one more on the way up."""


def _block_rows(theirs: str, official: str) -> tuple[tuple[str, str], ...]:
    """The rows of one transformer block under a prefix.

    The one norm with weights, which stands before cross-attention, is norm3 in the official model and norm2
    in diffusers; official norm2 and diffusers' norm3 have no weights.
    """
    first, second = f"{theirs}.attn1", f"{theirs}.attn2"
    return (
        (f"{theirs}.scale_shift_table", f"{official}.modulation"),
        (f"{theirs}.norm2.*", f"{official}.norm3.*"),
        *_attention_rows(first, f"{official}.self_attn"),
        *_attention_rows(second, f"{official}.cross_attn"),
        (f"{second}.add_k_proj.*", f"{official}.cross_attn.k_img.*"),
        (f"{second}.add_v_proj.*", f"{official}.cross_attn.v_img.*"),
        (f"{second}.norm_added_k.*", f"{official}.cross_attn.norm_k_img.*"),
        (f"{theirs}.ffn.net.0.proj.*", f"{official}.ffn.0.*"),
        (f"{theirs}.ffn.net.2.*", f"{official}.ffn.2.*"),
    )


def _attention_rows(theirs: str, official: str) -> tuple[tuple[str, str], ...]:
    return (
        (f"{theirs}.to_q.*", f"{official}.q.*"),
        (f"{theirs}.to_k.*", f"{official}.k.*"),
        (f"{theirs}.to_v.*", f"{official}.v.*"),
        (f"{theirs}.to_out.0.*", f"{official}.o.*"),
        (f"{theirs}.norm_q.*", f"{official}.norm_q.*"),
        (f"{theirs}.norm_k.*", f"{official}.norm_k.*"),
    )


DIFFUSERS_TO_OFFICIAL = Names(
    rows=(
        ("patch_embedding.*", "patch_embedding.*"),
        ("condition_embedder.text_embedder.linear_1.*", "text_embedding.0.*"),
        ("condition_embedder.text_embedder.linear_2.*", "text_embedding.2.*"),
        ("condition_embedder.time_embedder.linear_1.*", "time_embedding.0.*"),
        ("condition_embedder.time_embedder.linear_2.*", "time_embedding.2.*"),
        ("condition_embedder.time_proj.*", "time_projection.1.*"),
        ("condition_embedder.image_embedder.pos_embed", "img_emb.emb_pos"),
        ("condition_embedder.image_embedder.norm1.*", "img_emb.proj.0.*"),
        ("condition_embedder.image_embedder.ff.net.0.proj.*", "img_emb.proj.1.*"),
        ("condition_embedder.image_embedder.ff.net.2.*", "img_emb.proj.3.*"),
        ("condition_embedder.image_embedder.norm2.*", "img_emb.proj.4.*"),
        ("scale_shift_table", "head.modulation"),
        ("proj_out.*", "head.head.*"),
        *_block_rows("blocks.#", "blocks.#"),
        ("vace_patch_embedding.*", "vace_patch_embedding.*"),
        ("vace_blocks.0.proj_in.*", "vace_blocks.0.before_proj.*"),
        ("vace_blocks.#.proj_out.*", "vace_blocks.#.after_proj.*"),
        *_block_rows("vace_blocks.#", "vace_blocks.#"),
    )
)
DIFFUSERS_DIT = DIFFUSERS_TO_OFFICIAL.then(DIT)


def _residual_rows(theirs: str, official: str) -> tuple[tuple[str, str], ...]:
    return (
        (f"{theirs}.norm1.gamma", f"{official}.residual.0.gamma"),
        (f"{theirs}.conv1.*", f"{official}.residual.2.*"),
        (f"{theirs}.norm2.gamma", f"{official}.residual.3.gamma"),
        (f"{theirs}.conv2.*", f"{official}.residual.6.*"),
        (f"{theirs}.conv_shortcut.*", f"{official}.shortcut.*"),
    )


def _resample_rows(theirs: str, official: str) -> tuple[tuple[str, str], ...]:
    return (
        (f"{theirs}.resample.1.*", f"{official}.resample.1.*"),
        (f"{theirs}.time_conv.*", f"{official}.time_conv.*"),
    )


def _half_rows(half: str) -> tuple[tuple[str, str], ...]:
    """What encoder and decoder have around their levels."""
    return (
        (f"{half}.conv_in.*", f"{half}.conv1.*"),
        *_residual_rows(f"{half}.mid_block.resnets.0", f"{half}.middle.0"),
        (f"{half}.mid_block.attentions.0.norm.gamma", f"{half}.middle.1.norm.gamma"),
        (f"{half}.mid_block.attentions.0.to_qkv.*", f"{half}.middle.1.to_qkv.*"),
        (f"{half}.mid_block.attentions.0.proj.*", f"{half}.middle.1.proj.*"),
        *_residual_rows(f"{half}.mid_block.resnets.1", f"{half}.middle.2"),
        (f"{half}.norm_out.gamma", f"{half}.head.0.gamma"),
        (f"{half}.conv_out.*", f"{half}.head.2.*"),
    )


QUANT_ROWS = (("quant_conv.*", "conv1.*"), ("post_quant_conv.*", "conv2.*"))


def vae21_to_official(residual_blocks: int = RESIDUAL_BLOCKS, levels: int = LEVELS) -> Names:
    """diffusers' names of the Wan 2.1 autoencoder; those of its decoder count inside levels, the official do not."""
    down, rows = "encoder.down_blocks.#", []
    for level in range(levels):
        first = level * (residual_blocks + 2)
        up = f"decoder.up_blocks.{level}"
        for block in range(residual_blocks + 1):
            rows += _residual_rows(f"{up}.resnets.{block}", f"decoder.upsamples.{first + block}")
        if level < levels - 1:
            rows += _resample_rows(f"{up}.upsamplers.0", f"decoder.upsamples.{first + residual_blocks + 1}")
    return Names(
        rows=(
            *QUANT_ROWS,
            *_half_rows("encoder"),
            *_residual_rows(down, "encoder.downsamples.#"),
            *_resample_rows(down, "encoder.downsamples.#"),
            *_half_rows("decoder"),
            *rows,
        )
    )


def vae22_to_official(residual_blocks: int = RESIDUAL_BLOCKS, levels: int = LEVELS) -> Names:
    """diffusers' names of the Wan 2.2 autoencoder; here both sides count inside levels."""
    rows = []
    for level in range(levels):
        down, official_down = f"encoder.down_blocks.{level}", f"encoder.downsamples.{level}.downsamples"
        up, official_up = f"decoder.up_blocks.{level}", f"decoder.upsamples.{level}.upsamples"
        for block in range(residual_blocks):
            rows += _residual_rows(f"{down}.resnets.{block}", f"{official_down}.{block}")
        for block in range(residual_blocks + 1):
            rows += _residual_rows(f"{up}.resnets.{block}", f"{official_up}.{block}")
        rows += _resample_rows(f"{down}.downsampler", f"{official_down}.{residual_blocks}")
        rows += _resample_rows(f"{up}.upsampler", f"{official_up}.{residual_blocks + 1}")
    return Names(rows=(*QUANT_ROWS, *_half_rows("encoder"), *_half_rows("decoder"), *rows))


def diffusers_vae21(residual_blocks: int = RESIDUAL_BLOCKS, levels: int = LEVELS) -> Names:
    """To kinoform's own names."""
    return vae21_to_official(residual_blocks, levels).then(VAE21)


DIFFUSERS_VAE21 = diffusers_vae21()

TIED = ("shared.weight", "encoder.embed_tokens.weight")
"""transformers' two names of the one token embedding: a file holds either, or both with the same numbers."""

HUGGINGFACE_TO_OFFICIAL = Names(
    rows=(
        (TIED[0], "token_embedding.weight"),
        ("encoder.final_layer_norm.weight", "norm.weight"),
        ("encoder.block.#.layer.0.layer_norm.weight", "blocks.#.norm1.weight"),
        ("encoder.block.#.layer.1.layer_norm.weight", "blocks.#.norm2.weight"),
        ("encoder.block.#.layer.0.SelfAttention.q.weight", "blocks.#.attn.q.weight"),
        ("encoder.block.#.layer.0.SelfAttention.k.weight", "blocks.#.attn.k.weight"),
        ("encoder.block.#.layer.0.SelfAttention.v.weight", "blocks.#.attn.v.weight"),
        ("encoder.block.#.layer.0.SelfAttention.o.weight", "blocks.#.attn.o.weight"),
        (
            "encoder.block.#.layer.0.SelfAttention.relative_attention_bias.weight",
            "blocks.#.pos_embedding.embedding.weight",
        ),
        ("encoder.block.#.layer.1.DenseReluDense.wi_0.weight", "blocks.#.ffn.gate.0.weight"),
        ("encoder.block.#.layer.1.DenseReluDense.wi_1.weight", "blocks.#.ffn.fc1.weight"),
        ("encoder.block.#.layer.1.DenseReluDense.wo.weight", "blocks.#.ffn.fc2.weight"),
    )
)
HUGGINGFACE_TEXT_ENCODER = HUGGINGFACE_TO_OFFICIAL.then(TEXT_ENCODER)

HUGGINGFACE_TO_OFFICIAL_TOWER = Names(
    rows=(
        ("embeddings.class_embedding", "cls_embedding"),
        ("embeddings.position_embedding.weight", "pos_embedding"),
        ("embeddings.patch_embedding.weight", "patch_embedding.weight"),
        ("pre_layrnorm.*", "pre_norm.*"),
        ("post_layernorm.*", "post_norm.*"),
        ("encoder.layers.#.layer_norm1.*", "transformer.#.norm1.*"),
        ("encoder.layers.#.layer_norm2.*", "transformer.#.norm2.*"),
        ("encoder.layers.#.self_attn.q_proj.*", "transformer.#.attn.to_q.*"),
        ("encoder.layers.#.self_attn.k_proj.*", "transformer.#.attn.to_k.*"),
        ("encoder.layers.#.self_attn.v_proj.*", "transformer.#.attn.to_v.*"),
        ("encoder.layers.#.self_attn.out_proj.*", "transformer.#.attn.proj.*"),
        ("encoder.layers.#.mlp.fc1.*", "transformer.#.mlp.0.*"),
        ("encoder.layers.#.mlp.fc2.*", "transformer.#.mlp.2.*"),
    )
)
HUGGINGFACE_IMAGE_ENCODER = HUGGINGFACE_TO_OFFICIAL_TOWER.then(IMAGE_ENCODER)

OPENCLIP_TO_OFFICIAL = Names(
    rows=(
        ("class_embedding", "cls_embedding"),
        ("positional_embedding", "pos_embedding"),
        ("conv1.weight", "patch_embedding.weight"),
        ("ln_pre.*", "pre_norm.*"),
        ("ln_post.*", "post_norm.*"),
        ("transformer.resblocks.#.ln_1.*", "transformer.#.norm1.*"),
        ("transformer.resblocks.#.ln_2.*", "transformer.#.norm2.*"),
        ("transformer.resblocks.#.attn.in_proj_q_*", "transformer.#.attn.to_q.*"),
        ("transformer.resblocks.#.attn.in_proj_k_*", "transformer.#.attn.to_k.*"),
        ("transformer.resblocks.#.attn.in_proj_v_*", "transformer.#.attn.to_v.*"),
        ("transformer.resblocks.#.attn.out_proj.*", "transformer.#.attn.proj.*"),
        ("transformer.resblocks.#.mlp.c_fc.*", "transformer.#.mlp.0.*"),
        ("transformer.resblocks.#.mlp.c_proj.*", "transformer.#.mlp.2.*"),
    )
)
OPENCLIP_IMAGE_ENCODER = OPENCLIP_TO_OFFICIAL.then(IMAGE_ENCODER)
