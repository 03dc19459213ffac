"""Names that ideas outside the package are built with; what people call is in `kinoform` itself.

A name is imported when it is first asked for, so importing this module costs nothing. docs/api.md lists all names,
and api.pyi has them for type checkers.
"""

from kinoform.lazy import lazy_names

PUBLIC: dict[str, dict[str, str]] = {
    "Recipes and models": {
        "kinoform.recipe": "Recipe BySize",
        "kinoform.loading.additions": "Additions CopiesWeights",
        "kinoform.loading.parts": "Parts",
        "kinoform.recipes.few_step": "FewStep",
        "kinoform.recipes.new_inputs": "NewInput",
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
        "kinoform.conditions.source_channels": "SourceChannels",
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
        "kinoform.models.dit": "DiTSpec DiT",
        "kinoform.models.patch_embedding": "PatchEmbedding",
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
        "kinoform.training.stage": "Stage NamedStage SampledStage TrainingSpec RunOptions step_flops",
        "kinoform.training.observe": "Observer RunView StepLoss StepReport",
        "kinoform.training.adapter": "AdapterPlan",
        "kinoform.training.examples": "Samples",
        "kinoform.datasets.sample": "Sample",
        "kinoform.training.distillation": "DistillationPlan Prompts",
        "kinoform.training.optimizer": (
            "OptimizerSpec AdamSpec Adam8bitSpec MuonSpec Schedule CosineSchedule every_matrix no_matrix"
        ),
        "kinoform.training.precision": "StochasticRounding",
        "kinoform.training.ema": "EMASpec",
        "kinoform.training.levels": "Levels LevelSampling LevelRange",
        "kinoform.training.objective": "flow_matching_loss predict_velocity velocity_target",
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

__all__, __dir__, __getattr__ = lazy_names(__name__, PUBLIC)
