"""The commands: an entry and a file each. Nothing is imported here, so that the list costs nothing to show."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandEntry:
    """Entry of the list of commands: the line there, and the heading above it.

    The command is the function of its name in `module`, by default in the module of its name. With `heeds_settings`
    False it reads no settings.
    """

    name: str
    panel: str
    help: str
    module: str | None = None
    heeds_settings: bool = True


VIDEOS, WEIGHTS, MODELS, MACHINE = "Videos", "Weights", "Models", "Before the work"

COMMANDS = (
    CommandEntry(name="generate", panel=VIDEOS, help="Make videos from words, images and videos."),
    CommandEntry(name="animate", panel=VIDEOS, module="generate", help="Make a video that begins with an image."),
    CommandEntry(
        name="bridge", panel=VIDEOS, module="generate", help="Make a video that leads from one image to another."
    ),
    CommandEntry(
        name="edit",
        panel=VIDEOS,
        help="Change what a mask shows white, or a whole video, as the prompt says; the rest stays bit for bit.",
    ),
    CommandEntry(name="extend", panel=VIDEOS, help="Make a video longer, after its end or before its beginning."),
    CommandEntry(
        name="outpaint",
        panel=VIDEOS,
        help="Make a video wider or higher: its surroundings are made, it stays bit for bit.",
    ),
    CommandEntry(
        name="rerun",
        panel=VIDEOS,
        heeds_settings=False,
        help="Make a video again from its own parameters: on the same machine, the same video.",
    ),
    CommandEntry(name="decode", panel=VIDEOS, help="Turn kept latents into their video."),
    CommandEntry(
        name="info",
        panel=VIDEOS,
        module="rerun",
        heeds_settings=False,
        help="Print the parameters that a video carries.",
    ),
    CommandEntry(
        name="plan", panel=MACHINE, help="Say what a video would take: tensor shapes, parameters, operations, memory."
    ),
    CommandEntry(name="doctor", panel=MACHINE, heeds_settings=False, help="Say what this machine can do."),
    CommandEntry(
        name="inspect",
        panel=WEIGHTS,
        heeds_settings=False,
        help="Say what weights are: part, architecture, dialect, storage, sizes, and what is missing.",
    ),
    CommandEntry(
        name="verify", panel=WEIGHTS, heeds_settings=False, help="Read every tensor and compare every recorded hash."
    ),
    CommandEntry(
        name="convert", panel=WEIGHTS, heeds_settings=False, help="Write weights in another layout, tensor by tensor."
    ),
    CommandEntry(
        name="download",
        panel=WEIGHTS,
        heeds_settings=False,
        help="Fetch the files of a model that kinoform needs; a broken download goes on where it stopped.",
    ),
    CommandEntry(
        name="evaluate",
        panel=MODELS,
        help="Measure prompt-following on the world's held-back prompts; the same videos on every machine.",
    ),
    CommandEntry(
        name="train",
        panel=MODELS,
        help="Train a LoRA from your clips, the embedded model, an adapter or your own plan; Ctrl-C saves and stops.",
    ),
    CommandEntry(
        name="cache",
        panel=MODELS,
        heeds_settings=False,
        help="Encode the clips of a dataset for trainings to come; or say what such a cache holds, and check it.",
    ),
    CommandEntry(
        name="report",
        panel=MODELS,
        heeds_settings=False,
        help="Write curves, samples and settings of a training as one HTML page; the training may still run.",
    ),
)
"""All commands, in the order of `kinoform --help`."""


def entry_of(name: str) -> CommandEntry:
    """Return the entry of a command."""
    return next(entry for entry in COMMANDS if entry.name == name)
