"""A new study in a few lines, for the person who made it."""

from __future__ import annotations

from smnas_optuna.duration import format_seconds
from smnas_optuna.new_study.create import Created
from smnas_optuna.new_study.scale import Scale, hours_for

FEW_TRIALS = 10
"""Trainings of stage 1 below which a surrogate has hardly learnt anything."""


def summary_lines(created: Created) -> list[str]:
    """Return what was found and chosen, one fact a line."""
    facts, device, values = created.facts, created.device, created.values
    scale, space = values.scale, values.scale.space
    test = f", {facts.num_test:,} test images" if facts.num_test else ""
    held = ", held out by a hash of their content" if facts.held_out else ""
    why = f" ({facts.why})" if facts.why else ""
    structural, modular = values.trials
    return [
        f"data: {facts.title}{why}",
        f"data: {facts.num_train:,} training and {facts.num_val:,} validation images{held}{test}; "
        f"{facts.num_classes} classes, {len(facts.boxes):,} objects for training; {facts.size_in_words}",
        *(f"note: {note}" for note in created.notes),
        f"device: {device.in_words}",
        f"inputs: {', '.join(space.input_sizes)}; base widths {', '.join(map(str, space.backbone_widths))}; "
        f"backbones {', '.join(space.backbones)}",
        f"time: about {structural} trainings of stage 1 and {modular} of stage 2, "
        f"of {format_seconds(scale.training_s)} each in the mean by one worker",
        *((_too_short(scale),) if not scale.cheap and structural < FEW_TRIALS else ()),
    ]


def _too_short(scale: Scale) -> str:
    """Return what to do where not even the smallest study has enough trainings."""
    hours = hours_for(FEW_TRIALS, scale.trial_s)
    return (
        "note: the hours are few for this data: even at the smallest useful scale fewer detectors are trained than a "
        f"search wants; {FEW_TRIALS} of stage 1 want about {hours:,.1f} hours in all, or a faster device"
    )
