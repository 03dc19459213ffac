"""The public names: which there are, that each is there and described, and that examples need no other."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

import kinoform
from kinoform import api, mini

ROOT = Path(__file__).parents[1]
SCRIPT = importlib.util.spec_from_file_location("api_page", ROOT / "docs" / "api_page.py")
assert SCRIPT is not None and SCRIPT.loader is not None
api_page = importlib.util.module_from_spec(SCRIPT)
SCRIPT.loader.exec_module(api_page)

MODULES = {"kinoform": kinoform, "kinoform.api": api, "kinoform.mini": mini}
EXAMPLES = sorted((ROOT / "examples").rglob("*.py"))
PAGES = [
    ROOT / "README.md",
    *sorted(page for page in (ROOT / "docs").glob("*.md") if page.name not in ("api.md", "tour.md")),
]

NAMES = {
    "kinoform": """
        Video
        animate
        bridge
        edit extend
        load
        outpaint
    """,
    "kinoform.api": """
        APG APGMix Adam8bitSpec AdamSpec AdapterPlan Additions Alternating AtStep Attend AttentionScheme
        BelowSigma Block BlockSpec Branch BranchSpec BySize
        CLEAN COMFY_LORA CONTEXT_SCALE ChoosesFrames Codec CodecSpec Combination CombiningRule Conditioner
        ConditionerOutput Conditions ContextReferences ContextSpec CopiesWeights CosineSchedule
        DIFFUSERS_LORA DPMSolver Denoise DiT DiTSpec DistillationPlan
        EMASpec EXACT_SIZE EditingTask EncodeCost EncoderSpecs Encoders EstimatesCost Euler Evaluation
        EvenToOne
        FRAMES FactorizedBlock FewStep Field FileKind FirstFrame FitError FlagKind FlowEdit Full FullBlock
        Grid Guidance GuidanceScales GuidanceStep
        Heads
        IdentityCodec ImageContext ImageFeatures ImageKind ImageTokens ImagesKind InContext InContextImages
        InContextReferences InContextSegment InContextTokens InpaintingConstraint InputField InputFile
        InputImage InputKind InputVideo Inputs Interrupted Interval
        KOHYA_LORA KeyHeads KeysValues KinoformError KnownFrames
        LatentConstraints LatentFeatures Latents Level LevelGrid LevelRange LevelSampling Levels Linear Listed
        LoRADialect LoRASpec
        MASK Machine MagnitudeAware Mask MaskKind Measurement ModelUnderTest Modulation MuonSpec
        NamedStage NamesTask Nearest NewInput NonFiniteError NormalizedAttention NumberKind NumberedImagesKind
        Observer OptimizerSpec Origin
        Parts Patch PatchEmbedding PerturbedAttention PicksFrames Pipeline PlainGuidance Predict Prediction
        PrefixesPrompt Progress ProjectedChain Prompts PseudoWordContext
        RCM REFERENCE_IMAGES RMSNorm Rank ReadOptions Recipe ReferenceContext Renoise Report Request Rescale
        Run RunOptions RunSchedule RunView
        SOURCE_PROMPT STANDARD_INPUTS STRENGTH Sample SampledStage Sampler Samples Scales Schedule
        SchedulePiece SegmentRotation SkipLayerGuidance SkipNegativeLayers SmoothedEnergy Solver SourceChannels
        SourceGuided
        Stage StagePlan StartVideo State Stateful StatefulField Step StepLoss StepReport StepShare
        StochasticRounding Stream Strided
        Tangential Telescope TextContext TextKind TextSpec TimestepRange TrainedModule TrainingPlan
        TrainingResult TrainingRun TrainingSpec TransformerSizes TrigFlow
        UniPC Units UsageError
        VAE22Spec VAESpec VIDEO Vace VaceBlocks VaceContext Velocity VideoKind VideoSize VisionEncoder
        VisionFeatures VisionSpec
        Warped WeightsError Windows WithinFrames WithinPlaces
        ZeroStar
        attach attend
        bare benchmark bernini_1_3b bernini_a14b
        clip_chunks
        data_prediction decode_video default_tasks dpmpp_levels
        encode_video evaluate every_matrix
        flf2v_14b flow_matching_loss
        i2v_14b_480p i2v_14b_720p i2v_a14b initial_state input_tasks interval
        latent_size layer_norm level_at
        merge merge_heads modulate
        no_matrix noised
        predict_velocity
        read_clip read_image read_mask read_metrics read_schedule rms_norm
        sample save_adapter save_lora seeded set_strength split_heads stateful step_flops step_generator
        t2i_14b t2v_14b t2v_1_3b t2v_a14b ti2v_5b
        unipc_levels unmerge
        vace_14b vace_1_3b vace_a14b velocity_at velocity_target
    """,
    "kinoform.mini": """
        AutoencoderConfig
        Difficulty
        L1 L2 L3
        Plan ProbeLoss
        Scene
        TextConfig TransformerConfig TransformerPlan
        Videos
        coverage
        mini mini_factorized
        parse place portrait
        render
        vocabulary
    """,
}
"""Programs of others import these: what is taken away or renamed here breaks them, and the changelog says so."""


@pytest.mark.parametrize("module", MODULES)
def test_the_public_names_are_these(module: str) -> None:
    assert sorted(MODULES[module].__all__) == sorted(NAMES[module].split())


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_can_be_had(module: str) -> None:
    assert all(getattr(MODULES[module], name) is not None for name in NAMES[module].split())


@pytest.mark.parametrize("module", MODULES)
def test_type_checkers_see_the_same_names(module: str) -> None:
    file = MODULES[module].__file__
    assert file is not None
    stub = Path(file).with_suffix(".pyi")
    body = ast.parse((stub if stub.exists() else Path(file)).read_text()).body
    if not stub.exists():
        body = next(node for node in body if isinstance(node, ast.If)).body
    imports = [node for node in body if isinstance(node, ast.ImportFrom)]
    seen = {alias.asname: node.module for node in imports for alias in node.names if alias.name == alias.asname}
    entries = [entry for group in api_page.names(MODULES[module].PUBLIC).values() for entry in group]
    assert seen == {entry.name: entry.module for entry in entries}


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_described(module: str) -> None:
    entries = [entry for group in api_page.names(MODULES[module].PUBLIC).values() for entry in group]
    assert [f"{entry.module}.{entry.name}" for entry in entries if not entry.doc] == []


def deeper_imports(source: str) -> list[str]:
    """Return what a program imports of the package that is not public."""
    deeper = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "kinoform":
            public = NAMES.get(node.module or "", "").split()
            deeper += [f"{node.module}.{alias.name}" for alias in node.names if alias.name not in public]
        elif isinstance(node, ast.Import):
            deeper += [alias.name for alias in node.names if alias.name.startswith("kinoform.")]
    return deeper


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_import_public_names_alone(path: Path) -> None:
    assert deeper_imports(path.read_text()) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_import_public_names_but_for_a_few(path: Path) -> None:
    """The inputs of VACE's tasks share names with the functions that edit videos; plans share names with recipes."""
    blocks = re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)
    imports = [line for block in blocks for line in block.splitlines() if re.match(r"(from|import) kinoform", line)]
    assert set(deeper_imports("\n".join(imports))) <= {
        "kinoform.conditions.vace_inputs.outpaint",
        "kinoform.mini.plans",
    }


def test_deeper_imports_are_found() -> None:
    source = "from kinoform.api import Recipe\nfrom kinoform.recipe import BySize\nimport kinoform.recipe"
    assert deeper_imports(source) == ["kinoform.recipe.BySize", "kinoform.recipe"]


def test_no_name_means_two_things() -> None:
    every = [name for module in NAMES.values() for name in module.split()]
    assert sorted(every) == sorted(set(every))


def test_an_unknown_name_is_no_attribute() -> None:
    for module in MODULES.values():
        with pytest.raises(AttributeError, match="flim"):
            module.flim  # noqa: B018


def test_the_page_is_that_of_the_names() -> None:
    assert (ROOT / "docs" / "api.md").read_text(encoding="utf-8") == api_page.page(), (
        "run: python docs/api_page.py > docs/api.md"
    )
