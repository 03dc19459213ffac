"""The text encoder: recorded values, and what must hold for any weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from kinoform.families.umt5 import OFFICIAL_NAMES as TEXT_ENCODER
from kinoform.models.text import UMT5_XXL, TextEncoder, TextSpec, encode, initialise, relative_buckets
from kinoform.models.tokenizer import Tokens
from tests.conformance.golden import DEFAULT_FOLDER, bound_of, distance, read
from tests.conformance.judge_text import judge, load_official
from tests.support.refusals import refused

SMALL = TextSpec(vocab=100, dim=64, dim_attention=64, dim_ffn=96, heads=4, layers=3)
BUCKETS = {
    **{-200: 15, -128: 15, -64: 14, -20: 10, -12: 9, -9: 8, -8: 8, -7: 7, -1: 1, 0: 0},
    **{1: 17, 7: 23, 8: 24, 9: 24, 12: 25, 20: 26, 64: 30, 128: 31, 200: 31},
}


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    built = SMALL.build()
    initialise(built, torch.Generator().manual_seed(0))
    return built


def draw_ids(seed: int, *shape: int) -> Tensor:
    return torch.randint(0, SMALL.vocab, shape, generator=torch.Generator().manual_seed(seed))


def tokens_of(ids: Tensor, counts: list[int]) -> Tokens:
    mask = torch.arange(ids.shape[1]) < torch.tensor(counts)[:, None]
    return Tokens(ids=ids * mask, mask=mask, lost=(0,) * len(counts), unknown=((),) * len(counts))


def test_equals_the_official_encoder() -> None:
    golden = read(DEFAULT_FOLDER / "t5_encoder.safetensors")
    bound = bound_of(golden.name, "out.hidden")
    gap = distance(judge(golden)["out.hidden"], golden.outputs["out.hidden"], bound)
    print(f"t5_encoder out.hidden: {gap:.1e}")
    assert gap <= bound.value


def test_equals_the_recorded_figures() -> None:
    """Weights and ids drawn by the rule that the recorded figures were made with; 25 of 40 are true."""
    ours = SMALL.build().state_dict()
    official = TEXT_ENCODER.official(ours)
    weights = {}
    for place, name in enumerate(sorted(official)):
        drawn = np.random.RandomState(1000 + place).standard_normal(ours[official[name]].shape)
        shift = 1.0 if "norm" in name else 0.0
        weights[name] = torch.from_numpy(drawn.astype(np.float32)) * 0.1 + shift
    ids = torch.from_numpy(np.random.RandomState(12).randint(0, 100, [1, 40])).long()
    mask = (torch.arange(40) < 25).long()[None]
    rows = load_official(SMALL, weights)(ids, mask)[0, :25].detach()
    assert rows.mean().item() == pytest.approx(0.0550146, abs=1e-6)
    assert rows.std().item() == pytest.approx(1.0003371, abs=1e-6)
    assert rows[0, :4].tolist() == pytest.approx([-0.146233, 0.349815, -0.286118, -1.016905], abs=5e-6)
    assert rows[-1, -1].item() == pytest.approx(-0.826627, abs=5e-6)


def test_buckets_equal_the_recorded_ones() -> None:
    table = relative_buckets(201, SMALL)
    ours = {offset: int(table[max(0, -offset), max(0, offset)]) for offset in BUCKETS}
    assert ours == BUCKETS


def test_buckets_see_only_the_offset_and_never_shrink_with_distance() -> None:
    table = relative_buckets(160, SMALL)
    assert torch.equal(table[1:, 1:], table[:-1, :-1])
    after, before = table[0, 1:], table[1:, 0]
    assert torch.equal(after, before + SMALL.buckets // 2)
    assert (after.diff() >= 0).all()
    assert table.unique().numel() == SMALL.buckets - 1  # no key after the query lies at distance 0


def test_umt5_xxl_has_the_published_size() -> None:
    with torch.device("meta"):
        state = UMT5_XXL.build().state_dict()
    assert len(state) == 242
    assert sum(value.numel() for value in state.values()) == 5_680_910_336
    assert len(TEXT_ENCODER.official(state)) == 242
    assert state["blocks.23.position_bias.weight"].shape == (32, 64)
    assert state["blocks.0.feed_forward.down.weight"].shape == (4096, 10240)


def test_padding_never_reaches_a_true_row(encoder: TextEncoder) -> None:
    ids, mask = draw_ids(1, 1, 30), (torch.arange(30) < 11)[None]
    alone = encoder(ids[:, :11], mask[:, :11])
    assert torch.allclose(encoder(ids, mask)[:, :11], alone, atol=1e-5)
    other = torch.where(mask, ids, draw_ids(2, 1, 30))
    assert torch.equal(encoder(other, mask)[:, :11], encoder(ids, mask)[:, :11])


def test_a_bool_mask_and_its_integers_mean_the_same(encoder: TextEncoder) -> None:
    ids, mask = draw_ids(3, 2, 12), torch.arange(12) < torch.tensor([[5], [12]])
    assert torch.equal(encoder(ids, mask), encoder(ids, mask.long()))


def test_every_true_token_and_its_place_matter(encoder: TextEncoder) -> None:
    ids, mask = draw_ids(4, 1, 20), torch.ones(1, 20, dtype=torch.bool)
    rows = encoder(ids, mask)
    changed = ids.clone()
    changed[0, 19] = (changed[0, 19] + 1) % SMALL.vocab
    assert ((encoder(changed, mask) - rows).abs().amax(-1) > 1e-4).all(), "attention runs both ways"
    swapped = ids.clone()
    swapped[0, [0, 12]] = ids[0, [12, 0]]
    assert (encoder(swapped, mask)[0, 5] - rows[0, 5]).abs().max() > 1e-4, "order is seen"


def test_each_layer_reads_its_own_positions(encoder: TextEncoder) -> None:
    ids, mask = draw_ids(5, 1, 9), torch.ones(1, 9, dtype=torch.bool)
    rows = encoder(ids, mask)
    for layer in range(SMALL.layers):
        table = encoder.get_parameter(f"blocks.{layer}.position_bias.weight")
        kept = table.detach().clone()
        with torch.no_grad():
            table.add_(torch.linspace(0, 2, SMALL.buckets)[:, None])
        assert not torch.allclose(encoder(ids, mask), rows, atol=1e-4)
        with torch.no_grad():
            table.copy_(kept)


def test_encode_gives_true_rows_then_zeros(encoder: TextEncoder) -> None:
    tokens = tokens_of(draw_ids(6, 3, 24), [4, 17, 1])
    rows = encode(encoder, tokens)
    whole = encoder(tokens.ids, tokens.mask)
    assert rows.shape == (3, 24, SMALL.dim)
    assert torch.allclose(rows[tokens.mask], whole[tokens.mask], atol=1e-5)
    assert rows[tokens.mask].abs().amax(-1).min() > 0
    assert not rows[~tokens.mask].any()


def test_encode_computes_no_more_columns_than_the_longest_prompt(encoder: TextEncoder) -> None:
    seen = []
    handle = encoder.blocks[0].register_forward_pre_hook(lambda module, given: seen.append(given[0].shape[1]))
    encode(encoder, tokens_of(draw_ids(7, 2, 64), [3, 5]))
    handle.remove()
    assert seen == [5]


def test_gradients_reach_every_weight(encoder: TextEncoder) -> None:
    tokens = tokens_of(draw_ids(8, 2, 40), [40, 13])
    encoder.zero_grad()
    encode(encoder, tokens).square().mul(torch.linspace(0, 1, SMALL.dim)).sum().backward()
    for name, weight in encoder.named_parameters():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, name
    encoder.zero_grad()


def test_a_few_steps_of_training_lower_the_loss() -> None:
    built = SMALL.build()
    initialise(built, torch.Generator().manual_seed(1))
    ids, mask = draw_ids(9, 4, 10), torch.ones(4, 10, dtype=torch.bool)
    goal = torch.randn(4, 10, SMALL.dim, generator=torch.Generator().manual_seed(2))
    optimiser = torch.optim.Adam(built.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        loss = (built(ids, mask) - goal).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near_single(encoder: TextEncoder, dtype: torch.dtype) -> None:
    half = SMALL.build().to(dtype)
    half.load_state_dict(encoder.state_dict())
    tokens = tokens_of(draw_ids(10, 2, 32), [32, 9])
    rows, exact = encode(half, tokens), encode(encoder, tokens)
    assert rows.dtype == dtype
    gap = (rows.float() - exact).square().mean() / exact.square().mean()
    assert gap.sqrt() < (0.05 if dtype == torch.bfloat16 else 0.01)


def test_float16_that_overflows_stays_finite() -> None:
    built = SMALL.build()
    initialise(built, torch.Generator().manual_seed(3))
    with torch.no_grad():
        built.blocks[0].get_parameter("feed_forward.down.weight").mul_(3e5).clamp_(-6e4, 6e4)
    reached = []
    handle = built.blocks[0].register_forward_hook(lambda module, given, out: reached.append(out.abs().max()))
    ids, mask = draw_ids(11, 1, 8), torch.ones(1, 8, dtype=torch.bool)
    built(ids, mask)
    rows = built.half()(ids, mask)
    handle.remove()
    assert reached[0] > torch.finfo(torch.float16).max, "the case overflows"
    assert reached[1] == 64512, "the largest number less 1000, as float16 holds it"
    assert rows.isfinite().all()


def test_a_prompt_without_true_tokens_sees_all_its_padding_alike(encoder: TextEncoder) -> None:
    ids, nothing = draw_ids(12, 1, 6), torch.zeros(1, 6, dtype=torch.long)
    rows = encoder(ids, nothing)
    assert torch.allclose(encoder(ids.flip(1), nothing), rows.flip(1), atol=1e-5)
    other = ids.clone()
    other[0, 5] = (other[0, 5] + 1) % SMALL.vocab
    assert not torch.allclose(encoder(other, nothing)[0, :5], rows[0, :5], atol=1e-3)


def test_initialise_follows_its_generator_and_its_table() -> None:
    spec = replace(SMALL, dim_attention=144)
    first, second, other = spec.build(), spec.build(), spec.build()
    for built, seed in ((first, 5), (second, 5), (other, 6)):
        initialise(built, torch.Generator().manual_seed(seed))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    drawn = {name for name in first.state_dict() if "norm" not in name}
    assert not any(torch.equal(first.state_dict()[name], other.state_dict()[name]) for name in drawn)
    spreads = {"attention.q": (64 * 144) ** -0.5, "attention.k": 64**-0.5, "attention.v": 64**-0.5}
    spreads |= {"attention.o": 144**-0.5, "position_bias": (2 * 32 * 4) ** -0.5}
    spreads |= {"feed_forward.gate": 64**-0.5, "feed_forward.up": 64**-0.5, "feed_forward.down": 96**-0.5}
    for part, spread in spreads.items():
        found = first.get_parameter(f"blocks.1.{part}.weight").std().item()
        assert found == pytest.approx(spread, rel=0.15), part
    assert first.token_embedding.weight.std().item() == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"heads": 5}, "spec_not_divisible"),
        ({"buckets": 30}, "spec_inconsistent"),
        ({"buckets": 0}, "spec_inconsistent"),
        ({"max_distance": 8}, "spec_inconsistent"),
    ],
)
def test_an_impossible_shape_is_refused(change: dict[str, int], code: str) -> None:
    with refused(code, next(iter(change))):
        replace(SMALL, **change)
