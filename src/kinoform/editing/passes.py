"""The passes of an edit: each is denoised once, and what is kept of one is not made again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from kinoform.pipelines.generate import Callback
from kinoform.pipelines.pipeline import Pipeline
from kinoform.pipelines.request import Request
from kinoform.types import Latents

ELSEWHERE = {"version", "machine"}
"""Parameters of a video that say where it is made, and not what."""


@runtime_checkable
class Passes(Protocol):
    """A store for the passes of one edit."""

    def made(self, number: int) -> Latents | None:
        """The latents of a pass that an earlier run made; None where it made none."""
        ...

    def keep(self, number: int, latents: Latents) -> None:
        """Hear of a pass that has come to its end."""
        ...


class Unkept:
    """A store that knows nothing and keeps nothing."""

    def made(self, number: int) -> Latents | None:
        return None

    def keep(self, number: int, latents: Latents) -> None:
        return None


UNKEPT = Unkept()


def latents_of(pipeline: Pipeline, asked: Request, number: int, passes: Passes, tell: Callback) -> Latents:
    """The latents of a pass: those of an earlier run, else denoised now, and kept."""
    found = passes.made(number)
    if found is None:
        found = next(pipeline.latents([asked], tell))
        passes.keep(number, found)
    return found


def identity(params: Mapping[str, object], **own: object) -> str:
    """A hash of all that decides what the passes come to: the parameters of the video, and what an edit adds."""
    what = {name: value for name, value in params.items() if name not in ELSEWHERE} | own
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()
