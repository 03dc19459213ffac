"""The whole examination, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator

from kinoform.doctor import machine, versions
from kinoform.doctor.report import BAD, DoctorReport, Finding, Section, section

FIRST_VIDEO = 'kinoform generate "a red ball bounces on a blue background"'
MODELS = "embedded models"
TORCH = ("processor", "PyTorch build", "attention", "products")
"""Rows that fail where PyTorch cannot be imported."""

CUDA_PAGE = "https://pytorch.org/get-started/locally"


def examine() -> DoctorReport:
    """Examine everything; takes seconds, reads the embedded weights, leaves no file.

    A probe that fails is a row of its own, so that a broken PyTorch or a damaged model is reported.
    """
    sections = (
        section(
            "versions",
            (
                ("versions", versions.programs),
                ("libraries", versions.libraries),
                ("PyTorch build", versions.pytorch),
                ("FFmpeg", versions.encoders),
                ("extras", versions.extras),
            ),
        ),
        section(
            "machine",
            (
                ("processor", machine.processor),
                ("memory", machine.memory),
                ("accelerators", machine.accelerators),
                ("cache folder", machine.cache),
                ("released models", machine.fetched),
            ),
        ),
        section(
            "kernels",
            (
                ("attention", attention),
                ("products", products),
            ),
        ),
        section("models", ((MODELS, embedded),)),
    )
    return DoctorReport(sections=sections, next_step=next_step(sections))


def attention() -> Iterator[Finding]:
    from kinoform.doctor import kernels

    yield from kernels.attention(kernels.device_here())


def products() -> Iterator[Finding]:
    from kinoform.doctor import kernels

    yield from kernels.products(kernels.device_here())


def embedded() -> Iterator[Finding]:
    """Compare the SHA-256 of every embedded file with the manifest's, and put the adapters onto their models."""
    import torch

    from kinoform.loading.own import read_manifest, verify
    from kinoform.recipes.catalogue import ADAPTERS, ASSETS, EMBEDDED, adapter_asset
    from kinoform.recipes.load import load

    for name in EMBEDDED:
        folder = ASSETS / name
        manifest = read_manifest(folder)
        verify(manifest, [folder / file for file in manifest.parts])
        size = sum(record.bytes for record in manifest.parts.values())
        yield Finding(name=name, value=f"{len(manifest.parts)} files, {size / 1e6:.1f} MB, all as they were made")
    for name in ADAPTERS:
        load(name, device="cpu").parts.transformer(torch.float32, torch.device("cpu"))
        yield Finding(name=name, value=f"{adapter_asset(name).stat().st_size / 1e6:.1f} MB, fits its model")


def next_step(sections: tuple[Section, ...]) -> str:
    """Return one or two sentences: what to repair first, or what to try on a machine like this."""
    rows = {finding.name: finding for section in sections for finding in section.findings}
    bad = [finding for finding in rows.values() if finding.state == BAD]
    if MODELS in rows and not any(finding.name in TORCH for finding in bad):
        return "The embedded model is damaged or missing: install kinoform again, then run kinoform doctor once more."
    if "accelerator" in rows and rows["accelerator"].state == BAD:
        return f"Install the PyTorch for this machine's GPU ({CUDA_PAGE}); until then videos are made on the CPU."
    if bad:
        return f"Mend first: {bad[0].name}, {bad[0].value}."
    if any(name.startswith("cuda") for name in rows):
        return (
            f"All is well. Make a video: {FIRST_VIDEO}; then, with an official folder of weights, "
            "add --model FOLDER, in bfloat16 on the GPU by default."
        )
    return (
        f"All is well. Make a video, in seconds on this machine: {FIRST_VIDEO}; "
        "the released models want a GPU, without one a video of theirs takes hours."
    )
