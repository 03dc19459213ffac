"""Options of a video that is longer than what a model makes at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from kinoform.cli.options import LONG, option

if TYPE_CHECKING:
    from kinoform.conditions.inputs import Inputs
    from kinoform.pipelines.windows import Windows
    from kinoform.plan.video_plan import VideoPlan
    from kinoform.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowOptions:
    """The windows in which a long video is made."""

    window: Annotated[
        int | None, option(LONG, "Frames that are made at once of a longer video; with --seconds the model's own.")
    ] = None
    window_overlap: Annotated[
        int | None, option(LONG, "Frames that a window takes over; by default a fifth, two latent frames at least.")
    ] = None
    no_anchor: Annotated[
        bool, option(LONG, "Show windows only the frames before them, and not the first.", "--no-anchor/--anchor")
    ] = False

    def asked(self, recipe: Recipe, seconds: float | None, inputs: Inputs) -> dict[str, Windows | None]:
        """Return the windows that are asked for, as an argument of a request; a length in `seconds` asks for them too,
        unless the inputs say what happens when.

        Raises UsageError for numbers out of range.
        """
        from kinoform.pipelines.windows import Windows, usual_windows

        if self == WindowOptions():
            return {} if seconds is None else {"windows": usual_windows(recipe.num_frames, inputs)}
        frames = recipe.num_frames if self.window is None else self.window
        return {"windows": Windows(frames=frames, overlap=self.window_overlap, anchor=not self.no_anchor)}


def windows_in_words(plan: VideoPlan) -> list[str]:
    """Say in how many windows a long video is made; nothing of one that is made at once."""
    workload = plan.workload
    if workload.windows == 1:
        return []
    forwards = sum(asked.together.forwards for asked in plan.asked)
    loads = f"; each expert is read {workload.windows} times" if len(plan.asked) > 1 else ""
    return [
        f"in {workload.windows} windows of {workload.num_frames} frames, one after the other: {forwards:,} "
        f"forwards in all, in the memory of one window{loads}"
    ]
