"""Names that ideas outside the package are built with; what people call is in `kinoform` itself.

A name is imported when it is first asked for, so importing this module costs nothing. docs/api.md lists all names.
"""

from typing import TYPE_CHECKING

from kinoform.lazy import lazy_names

if TYPE_CHECKING:
    from kinoform.conditions.clip_checks import clip_chunks as clip_chunks
    from kinoform.conditions.first_frame import FirstFrame as FirstFrame
    from kinoform.conditions.image_tokens import ImageTokens as ImageTokens
    from kinoform.conditions.in_context import EditingTask as EditingTask
    from kinoform.conditions.in_context import InContext as InContext
    from kinoform.conditions.input_kinds import FileKind as FileKind
    from kinoform.conditions.input_kinds import FlagKind as FlagKind
    from kinoform.conditions.input_kinds import ImageKind as ImageKind
    from kinoform.conditions.input_kinds import ImagesKind as ImagesKind
    from kinoform.conditions.input_kinds import InputKind as InputKind
    from kinoform.conditions.input_kinds import MaskKind as MaskKind
    from kinoform.conditions.input_kinds import NumberedImagesKind as NumberedImagesKind
    from kinoform.conditions.input_kinds import NumberKind as NumberKind
    from kinoform.conditions.input_kinds import ReadOptions as ReadOptions
    from kinoform.conditions.input_kinds import TextKind as TextKind
    from kinoform.conditions.input_kinds import VideoKind as VideoKind
    from kinoform.conditions.inputs import InputField as InputField
    from kinoform.conditions.inputs import Inputs as Inputs
    from kinoform.conditions.known_frames import KnownFrames as KnownFrames
    from kinoform.conditions.protocols import ChoosesFrames as ChoosesFrames
    from kinoform.conditions.protocols import Conditioner as Conditioner
    from kinoform.conditions.protocols import ConditionerOutput as ConditionerOutput
    from kinoform.conditions.protocols import EncodeCost as EncodeCost
    from kinoform.conditions.protocols import Encoders as Encoders
    from kinoform.conditions.protocols import EncoderSpecs as EncoderSpecs
    from kinoform.conditions.protocols import EstimatesCost as EstimatesCost
    from kinoform.conditions.protocols import InpaintingConstraint as InpaintingConstraint
    from kinoform.conditions.protocols import LatentConstraints as LatentConstraints
    from kinoform.conditions.protocols import NamesTask as NamesTask
    from kinoform.conditions.protocols import PicksFrames as PicksFrames
    from kinoform.conditions.protocols import PrefixesPrompt as PrefixesPrompt
    from kinoform.conditions.protocols import Units as Units
    from kinoform.conditions.protocols import VideoSize as VideoSize
    from kinoform.conditions.references import ContextReferences as ContextReferences
    from kinoform.conditions.references import ImageFeatures as ImageFeatures
    from kinoform.conditions.references import InContextReferences as InContextReferences
    from kinoform.conditions.references import LatentFeatures as LatentFeatures
    from kinoform.conditions.references import VisionFeatures as VisionFeatures
    from kinoform.conditions.standard_inputs import CONTEXT_SCALE as CONTEXT_SCALE
    from kinoform.conditions.standard_inputs import EXACT_SIZE as EXACT_SIZE
    from kinoform.conditions.standard_inputs import FRAMES as FRAMES
    from kinoform.conditions.standard_inputs import MASK as MASK
    from kinoform.conditions.standard_inputs import REFERENCE_IMAGES as REFERENCE_IMAGES
    from kinoform.conditions.standard_inputs import SOURCE_PROMPT as SOURCE_PROMPT
    from kinoform.conditions.standard_inputs import STANDARD_INPUTS as STANDARD_INPUTS
    from kinoform.conditions.standard_inputs import STRENGTH as STRENGTH
    from kinoform.conditions.standard_inputs import VIDEO as VIDEO
    from kinoform.conditions.vace import Vace as Vace
    from kinoform.conditions.video_to_video import StartVideo as StartVideo
    from kinoform.errors import FitError as FitError
    from kinoform.errors import Interrupted as Interrupted
    from kinoform.errors import KinoformError as KinoformError
    from kinoform.errors import NonFiniteError as NonFiniteError
    from kinoform.errors import UsageError as UsageError
    from kinoform.errors import WeightsError as WeightsError
    from kinoform.evaluation.benchmark import ModelUnderTest as ModelUnderTest
    from kinoform.evaluation.benchmark import benchmark as benchmark
    from kinoform.evaluation.benchmark import default_tasks as default_tasks
    from kinoform.evaluation.evaluate import evaluate as evaluate
    from kinoform.evaluation.evaluate import input_tasks as input_tasks
    from kinoform.evaluation.metrics import Evaluation as Evaluation
    from kinoform.evaluation.report import Report as Report
    from kinoform.families.lora import COMFY_LORA as COMFY_LORA
    from kinoform.families.lora import DIFFUSERS_LORA as DIFFUSERS_LORA
    from kinoform.families.lora import KOHYA_LORA as KOHYA_LORA
    from kinoform.families.lora import LoRADialect as LoRADialect
    from kinoform.loading.adapters import save_adapter as save_adapter
    from kinoform.loading.additions import Additions as Additions
    from kinoform.loading.additions import CopiesWeights as CopiesWeights
    from kinoform.loading.lora import save_lora as save_lora
    from kinoform.loading.parts import Parts as Parts
    from kinoform.media.read import read_clip as read_clip
    from kinoform.media.read import read_image as read_image
    from kinoform.media.read import read_mask as read_mask
    from kinoform.media.types import InputFile as InputFile
    from kinoform.media.types import InputImage as InputImage
    from kinoform.media.types import InputVideo as InputVideo
    from kinoform.media.types import Mask as Mask
    from kinoform.media.types import Origin as Origin
    from kinoform.models.attention.factorized import Alternating as Alternating
    from kinoform.models.attention.factorized import WithinFrames as WithinFrames
    from kinoform.models.attention.factorized import WithinPlaces as WithinPlaces
    from kinoform.models.attention.full import Full as Full
    from kinoform.models.block import FullBlock as FullBlock
    from kinoform.models.block import merge_heads as merge_heads
    from kinoform.models.block import split_heads as split_heads
    from kinoform.models.codec import Codec as Codec
    from kinoform.models.codec import CodecSpec as CodecSpec
    from kinoform.models.codec import IdentityCodec as IdentityCodec
    from kinoform.models.codec import Strided as Strided
    from kinoform.models.codec import decode_video as decode_video
    from kinoform.models.codec import encode_video as encode_video
    from kinoform.models.codec import latent_size as latent_size
    from kinoform.models.context import ImageContext as ImageContext
    from kinoform.models.context import PseudoWordContext as PseudoWordContext
    from kinoform.models.context import ReferenceContext as ReferenceContext
    from kinoform.models.context import TextContext as TextContext
    from kinoform.models.dit import DiT as DiT
    from kinoform.models.dit import DiTSpec as DiTSpec
    from kinoform.models.dit import PatchEmbedding as PatchEmbedding
    from kinoform.models.factorized_block import FactorizedBlock as FactorizedBlock
    from kinoform.models.in_context import InContextImages as InContextImages
    from kinoform.models.linear import Linear as Linear
    from kinoform.models.lora import LoRASpec as LoRASpec
    from kinoform.models.lora import attach as attach
    from kinoform.models.lora import bare as bare
    from kinoform.models.lora import merge as merge
    from kinoform.models.lora import set_strength as set_strength
    from kinoform.models.lora import unmerge as unmerge
    from kinoform.models.norm import RMSNorm as RMSNorm
    from kinoform.models.protocols import Attend as Attend
    from kinoform.models.protocols import AttentionScheme as AttentionScheme
    from kinoform.models.protocols import Block as Block
    from kinoform.models.protocols import BlockSpec as BlockSpec
    from kinoform.models.protocols import Branch as Branch
    from kinoform.models.protocols import BranchSpec as BranchSpec
    from kinoform.models.protocols import ContextSpec as ContextSpec
    from kinoform.models.protocols import Heads as Heads
    from kinoform.models.protocols import InContextTokens as InContextTokens
    from kinoform.models.protocols import KeyHeads as KeyHeads
    from kinoform.models.protocols import KeysValues as KeysValues
    from kinoform.models.protocols import Modulation as Modulation
    from kinoform.models.protocols import Stream as Stream
    from kinoform.models.protocols import TransformerSizes as TransformerSizes
    from kinoform.models.segments import SegmentRotation as SegmentRotation
    from kinoform.models.text import TextSpec as TextSpec
    from kinoform.models.vace_blocks import VaceBlocks as VaceBlocks
    from kinoform.models.vace_blocks import VaceContext as VaceContext
    from kinoform.models.vae import VAESpec as VAESpec
    from kinoform.models.vae22 import VAE22Spec as VAE22Spec
    from kinoform.models.vision import VisionEncoder as VisionEncoder
    from kinoform.models.vision import VisionSpec as VisionSpec
    from kinoform.ops.attention import attend as attend
    from kinoform.ops.drawing import seeded as seeded
    from kinoform.ops.norm import layer_norm as layer_norm
    from kinoform.ops.norm import modulate as modulate
    from kinoform.ops.norm import rms_norm as rms_norm
    from kinoform.ops.patch import Patch as Patch
    from kinoform.pipelines.generate import Progress as Progress
    from kinoform.pipelines.machine import Machine as Machine
    from kinoform.pipelines.pipeline import Pipeline as Pipeline
    from kinoform.pipelines.request import Request as Request
    from kinoform.pipelines.windows import Windows as Windows
    from kinoform.recipe import BySize as BySize
    from kinoform.recipe import Recipe as Recipe
    from kinoform.recipes.bernini import bernini_1_3b as bernini_1_3b
    from kinoform.recipes.bernini import bernini_a14b as bernini_a14b
    from kinoform.recipes.few_step import FewStep as FewStep
    from kinoform.recipes.wan21 import flf2v_14b as flf2v_14b
    from kinoform.recipes.wan21 import i2v_14b_480p as i2v_14b_480p
    from kinoform.recipes.wan21 import i2v_14b_720p as i2v_14b_720p
    from kinoform.recipes.wan21 import t2i_14b as t2i_14b
    from kinoform.recipes.wan21 import t2v_1_3b as t2v_1_3b
    from kinoform.recipes.wan21 import t2v_14b as t2v_14b
    from kinoform.recipes.wan21 import vace_1_3b as vace_1_3b
    from kinoform.recipes.wan21 import vace_14b as vace_14b
    from kinoform.recipes.wan22 import i2v_a14b as i2v_a14b
    from kinoform.recipes.wan22 import t2v_a14b as t2v_a14b
    from kinoform.recipes.wan22 import ti2v_5b as ti2v_5b
    from kinoform.recipes.wan22 import vace_a14b as vace_a14b
    from kinoform.solvers.base import Solver as Solver
    from kinoform.solvers.base import State as State
    from kinoform.solvers.base import Step as Step
    from kinoform.solvers.base import data_prediction as data_prediction
    from kinoform.solvers.base import initial_state as initial_state
    from kinoform.solvers.base import interval as interval
    from kinoform.solvers.base import sample as sample
    from kinoform.solvers.base import velocity_at as velocity_at
    from kinoform.solvers.dpmpp import DPMSolver as DPMSolver
    from kinoform.solvers.euler import Euler as Euler
    from kinoform.solvers.experts import AtStep as AtStep
    from kinoform.solvers.experts import BelowSigma as BelowSigma
    from kinoform.solvers.field import Stateful as Stateful
    from kinoform.solvers.field import StatefulField as StatefulField
    from kinoform.solvers.field import stateful as stateful
    from kinoform.solvers.flow_edit import FlowEdit as FlowEdit
    from kinoform.solvers.guidance.bernini import Telescope as Telescope
    from kinoform.solvers.guidance.interval import Interval as Interval
    from kinoform.solvers.guidance.magnitude import MagnitudeAware as MagnitudeAware
    from kinoform.solvers.guidance.negative_attention import NormalizedAttention as NormalizedAttention
    from kinoform.solvers.guidance.perturbed import PerturbedAttention as PerturbedAttention
    from kinoform.solvers.guidance.perturbed import SmoothedEnergy as SmoothedEnergy
    from kinoform.solvers.guidance.plain import PlainGuidance as PlainGuidance
    from kinoform.solvers.guidance.projected import APG as APG
    from kinoform.solvers.guidance.projected import APGMix as APGMix
    from kinoform.solvers.guidance.projected import ProjectedChain as ProjectedChain
    from kinoform.solvers.guidance.rescale import Rescale as Rescale
    from kinoform.solvers.guidance.rule import Combination as Combination
    from kinoform.solvers.guidance.rule import CombiningRule as CombiningRule
    from kinoform.solvers.guidance.rule import Guidance as Guidance
    from kinoform.solvers.guidance.rule import GuidanceStep as GuidanceStep
    from kinoform.solvers.guidance.rule import Scales as Scales
    from kinoform.solvers.guidance.skip_layers import SkipLayerGuidance as SkipLayerGuidance
    from kinoform.solvers.guidance.skip_layers import SkipNegativeLayers as SkipNegativeLayers
    from kinoform.solvers.guidance.tangential import Tangential as Tangential
    from kinoform.solvers.guidance.zero_star import ZeroStar as ZeroStar
    from kinoform.solvers.level_grids import EvenToOne as EvenToOne
    from kinoform.solvers.level_grids import LevelGrid as LevelGrid
    from kinoform.solvers.level_grids import Listed as Listed
    from kinoform.solvers.level_grids import Nearest as Nearest
    from kinoform.solvers.level_grids import Warped as Warped
    from kinoform.solvers.levels import dpmpp_levels as dpmpp_levels
    from kinoform.solvers.levels import level_at as level_at
    from kinoform.solvers.levels import noised as noised
    from kinoform.solvers.levels import unipc_levels as unipc_levels
    from kinoform.solvers.predictions import Predict as Predict
    from kinoform.solvers.predictions import Prediction as Prediction
    from kinoform.solvers.rcm import RCM as RCM
    from kinoform.solvers.rcm import TrigFlow as TrigFlow
    from kinoform.solvers.renoise import Renoise as Renoise
    from kinoform.solvers.sampler import Denoise as Denoise
    from kinoform.solvers.sampler import Run as Run
    from kinoform.solvers.sampler import Sampler as Sampler
    from kinoform.solvers.sampler import SourceGuided as SourceGuided
    from kinoform.solvers.scales import GuidanceScales as GuidanceScales
    from kinoform.solvers.schedule import RunSchedule as RunSchedule
    from kinoform.solvers.schedule import SchedulePiece as SchedulePiece
    from kinoform.solvers.schedule import StepShare as StepShare
    from kinoform.solvers.schedule import TimestepRange as TimestepRange
    from kinoform.solvers.unipc import UniPC as UniPC
    from kinoform.solvers.varying_text import read_schedule as read_schedule
    from kinoform.training.adapter import AdapterPlan as AdapterPlan
    from kinoform.training.adapter import Sample as Sample
    from kinoform.training.adapter import Samples as Samples
    from kinoform.training.distillation import DistillationPlan as DistillationPlan
    from kinoform.training.distillation import Prompts as Prompts
    from kinoform.training.distributed import Rank as Rank
    from kinoform.training.ema import EMASpec as EMASpec
    from kinoform.training.metrics import Measurement as Measurement
    from kinoform.training.metrics import read_metrics as read_metrics
    from kinoform.training.objective import LevelRange as LevelRange
    from kinoform.training.objective import Levels as Levels
    from kinoform.training.objective import LevelSampling as LevelSampling
    from kinoform.training.objective import flow_matching_loss as flow_matching_loss
    from kinoform.training.objective import predict_velocity as predict_velocity
    from kinoform.training.objective import velocity_target as velocity_target
    from kinoform.training.optimizer import AdamSpec as AdamSpec
    from kinoform.training.optimizer import MuonSpec as MuonSpec
    from kinoform.training.optimizer import OptimizerSpec as OptimizerSpec
    from kinoform.training.optimizer import Schedule as Schedule
    from kinoform.training.optimizer import every_matrix as every_matrix
    from kinoform.training.optimizer import no_matrix as no_matrix
    from kinoform.training.plan import StagePlan as StagePlan
    from kinoform.training.plan import TrainedModule as TrainedModule
    from kinoform.training.plan import TrainingPlan as TrainingPlan
    from kinoform.training.plan import TrainingResult as TrainingResult
    from kinoform.training.plan import TrainingRun as TrainingRun
    from kinoform.training.rng import step_generator as step_generator
    from kinoform.training.stage import RunOptions as RunOptions
    from kinoform.training.stage import SampledStage as SampledStage
    from kinoform.training.stage import Stage as Stage
    from kinoform.training.stage import TrainingSpec as TrainingSpec
    from kinoform.training.stage import step_flops as step_flops
    from kinoform.types import CLEAN as CLEAN
    from kinoform.types import Conditions as Conditions
    from kinoform.types import Field as Field
    from kinoform.types import Grid as Grid
    from kinoform.types import InContextSegment as InContextSegment
    from kinoform.types import Latents as Latents
    from kinoform.types import Level as Level
    from kinoform.types import Velocity as Velocity

PUBLIC: dict[str, dict[str, str]] = {
    "Recipes and models": {
        "kinoform.recipe": "Recipe BySize",
        "kinoform.loading.additions": "Additions CopiesWeights",
        "kinoform.loading.parts": "Parts",
        "kinoform.recipes.few_step": "FewStep",
        "kinoform.recipes.wan21": "t2v_1_3b t2v_14b t2i_14b i2v_14b_480p i2v_14b_720p flf2v_14b vace_1_3b vace_14b",
        "kinoform.recipes.wan22": "t2v_a14b i2v_a14b ti2v_5b vace_a14b",
        "kinoform.recipes.bernini": "bernini_1_3b bernini_a14b",
        "kinoform.pipelines.pipeline": "Pipeline",
        "kinoform.pipelines.request": "Request",
        "kinoform.pipelines.windows": "Windows",
        "kinoform.pipelines.generate": "Progress",
        "kinoform.pipelines.machine": "Machine",
    },
    "Errors": {
        "kinoform.errors": "KinoformError UsageError WeightsError FitError NonFiniteError Interrupted",
    },
    "Inputs": {
        "kinoform.conditions.inputs": "InputField Inputs",
        "kinoform.conditions.input_kinds": (
            "InputKind ReadOptions ImageKind ImagesKind NumberedImagesKind VideoKind MaskKind FileKind NumberKind "
            "TextKind FlagKind"
        ),
        "kinoform.conditions.standard_inputs": (
            "FRAMES VIDEO MASK REFERENCE_IMAGES STRENGTH SOURCE_PROMPT CONTEXT_SCALE EXACT_SIZE STANDARD_INPUTS"
        ),
        "kinoform.media.types": "InputImage InputVideo InputFile Mask Origin",
        "kinoform.media.read": "read_image read_clip read_mask",
    },
    "Conditioners": {
        "kinoform.conditions.protocols": (
            "Conditioner EstimatesCost ChoosesFrames PicksFrames NamesTask PrefixesPrompt ConditionerOutput "
            "LatentConstraints InpaintingConstraint EncodeCost Encoders EncoderSpecs VideoSize Units"
        ),
        "kinoform.conditions.video_to_video": "StartVideo",
        "kinoform.conditions.first_frame": "FirstFrame",
        "kinoform.conditions.known_frames": "KnownFrames",
        "kinoform.conditions.image_tokens": "ImageTokens",
        "kinoform.conditions.vace": "Vace",
        "kinoform.conditions.references": (
            "InContextReferences ContextReferences ImageFeatures LatentFeatures VisionFeatures"
        ),
        "kinoform.conditions.in_context": "InContext EditingTask",
        "kinoform.conditions.clip_checks": "clip_chunks",
    },
    "Values that all parts share": {
        "kinoform.types": "Latents Velocity Level CLEAN Field Grid Conditions InContextSegment",
        "kinoform.ops.patch": "Patch",
    },
    "Transformers": {
        "kinoform.models.dit": "DiTSpec DiT PatchEmbedding",
        "kinoform.models.protocols": (
            "TransformerSizes Stream Modulation Block BlockSpec AttentionScheme Attend Heads KeyHeads KeysValues "
            "ContextSpec Branch BranchSpec InContextTokens"
        ),
        "kinoform.models.block": "FullBlock split_heads merge_heads",
        "kinoform.models.norm": "RMSNorm",
        "kinoform.models.factorized_block": "FactorizedBlock",
        "kinoform.models.attention.full": "Full",
        "kinoform.models.attention.factorized": "WithinFrames WithinPlaces Alternating",
        "kinoform.models.context": "TextContext ImageContext ReferenceContext PseudoWordContext",
        "kinoform.models.in_context": "InContextImages",
        "kinoform.models.segments": "SegmentRotation",
        "kinoform.models.vace_blocks": "VaceBlocks VaceContext",
        "kinoform.models.linear": "Linear",
        "kinoform.ops.attention": "attend",
        "kinoform.ops.norm": "layer_norm rms_norm modulate",
    },
    "Autoencoders and encoders": {
        "kinoform.models.codec": "Codec CodecSpec Strided IdentityCodec latent_size encode_video decode_video",
        "kinoform.models.vae": "VAESpec",
        "kinoform.models.vae22": "VAE22Spec",
        "kinoform.models.text": "TextSpec",
        "kinoform.models.vision": "VisionSpec VisionEncoder",
    },
    "Solvers, samplers and guidance": {
        "kinoform.solvers.base": "Solver State Step sample initial_state velocity_at data_prediction interval",
        "kinoform.solvers.level_grids": "LevelGrid Warped Listed Nearest EvenToOne",
        "kinoform.solvers.levels": "unipc_levels dpmpp_levels level_at noised",
        "kinoform.solvers.euler": "Euler",
        "kinoform.solvers.dpmpp": "DPMSolver",
        "kinoform.solvers.unipc": "UniPC",
        "kinoform.solvers.experts": "AtStep BelowSigma",
        "kinoform.solvers.renoise": "Renoise",
        "kinoform.solvers.rcm": "RCM TrigFlow",
        "kinoform.solvers.sampler": "Sampler SourceGuided Run Denoise",
        "kinoform.solvers.schedule": "RunSchedule SchedulePiece StepShare TimestepRange",
        "kinoform.solvers.varying_text": "read_schedule",
        "kinoform.solvers.scales": "GuidanceScales",
        "kinoform.solvers.flow_edit": "FlowEdit",
        "kinoform.solvers.guidance.rule": "Guidance Scales CombiningRule GuidanceStep Combination",
        "kinoform.solvers.guidance.plain": "PlainGuidance",
        "kinoform.solvers.guidance.interval": "Interval",
        "kinoform.solvers.guidance.rescale": "Rescale",
        "kinoform.solvers.guidance.tangential": "Tangential",
        "kinoform.solvers.guidance.projected": "APG APGMix ProjectedChain",
        "kinoform.solvers.guidance.magnitude": "MagnitudeAware",
        "kinoform.solvers.guidance.skip_layers": "SkipLayerGuidance SkipNegativeLayers",
        "kinoform.solvers.guidance.perturbed": "PerturbedAttention SmoothedEnergy",
        "kinoform.solvers.guidance.negative_attention": "NormalizedAttention",
        "kinoform.solvers.guidance.bernini": "Telescope",
        "kinoform.solvers.guidance.zero_star": "ZeroStar",
        "kinoform.solvers.predictions": "Prediction Predict",
        "kinoform.solvers.field": "Stateful StatefulField stateful",
    },
    "Low-rank adapters": {
        "kinoform.models.lora": "LoRASpec attach set_strength merge unmerge bare",
        "kinoform.loading.lora": "save_lora",
        "kinoform.families.lora": "LoRADialect COMFY_LORA DIFFUSERS_LORA KOHYA_LORA",
        "kinoform.loading.adapters": "save_adapter",
    },
    "Training": {
        "kinoform.training.plan": "TrainingPlan TrainingRun TrainingResult StagePlan TrainedModule",
        "kinoform.training.stage": "Stage SampledStage TrainingSpec RunOptions step_flops",
        "kinoform.training.adapter": "AdapterPlan Sample Samples",
        "kinoform.training.distillation": "DistillationPlan Prompts",
        "kinoform.training.optimizer": "OptimizerSpec AdamSpec MuonSpec Schedule every_matrix no_matrix",
        "kinoform.training.ema": "EMASpec",
        "kinoform.training.objective": (
            "Levels LevelSampling LevelRange flow_matching_loss predict_velocity velocity_target"
        ),
        "kinoform.training.distributed": "Rank",
        "kinoform.training.rng": "step_generator",
        "kinoform.training.metrics": "Measurement read_metrics",
        "kinoform.ops.drawing": "seeded",
    },
    "Evaluation": {
        "kinoform.evaluation.benchmark": "ModelUnderTest benchmark default_tasks",
        "kinoform.evaluation.evaluate": "evaluate input_tasks",
        "kinoform.evaluation.metrics": "Evaluation",
        "kinoform.evaluation.report": "Report",
    },
}
"""Names by the module that defines them, in groups of one purpose."""

if not TYPE_CHECKING:
    __all__, __dir__, __getattr__ = lazy_names(__name__, PUBLIC)
