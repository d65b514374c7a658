"""Answers as images: each input with its answer drawn on it, in a folder."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from pilotfish.cascade import Artefact
from pilotfish.errors import UnreadableSample
from pilotfish.files import atomic_path
from pilotfish.runtime.answers import Answer
from pilotfish.tasks.drawing import as_image, enlarged, with_caption

FORBIDDEN = re.compile(r'[/\\:*?"<>|\x00-\x1f]')
LONGEST = 60  # characters of a file name


def save_answers(
    answers: Sequence[Answer], read: Callable[[int], Any], artefact: Artefact, folder: str | Path
) -> list[Path]:
    """Draw each answer on its input and write it into *folder* as a PNG of the input's name; the files, in order.

    Inputs that have an error are left out. UsageError if inputs are not images.

    answers  to all inputs
    read     reads the i-th input again
    """
    target, files = Path(folder), []
    for i, name in enumerate(file_names([answer.input for answer in answers])):
        answer = answers[i]
        if answer.error is not None:
            continue
        assert answer.stage is not None
        try:
            image = as_image(read(i), answer.input)
        except UnreadableSample:  # it is gone, or changed, since it was answered
            continue
        stage, task = artefact.stages[answer.stage], artefact.task
        drawn = enlarged(image)[0] if task.draw is None else task.draw(image, answer.prediction, stage.class_names)
        path = target / name
        with atomic_path(path) as temporary:
            with_caption(drawn, caption(answer, stage.name)).save(temporary, "PNG")
        files.append(path)
    return files


def caption(answer: Answer, stage: str) -> str:
    """The answer, its confidence, and the stage that gave it."""
    said = answer.prediction if answer.name is None else answer.name or "nothing"
    sure = "" if answer.confidence is None or np.isnan(answer.confidence) else f" · {answer.confidence:.3f}"
    return f"{said}{sure} · stage {answer.stage}, {stage}"


def file_names(inputs: Sequence[str]) -> list[str]:
    """A file name for each input: its own with the suffix .png, including its folders if two have the same name."""
    short = [PurePath(name).stem or name for name in inputs]
    longer = [PurePath(name).name or name for name in inputs]
    seen, seen_longer = Counter(short), Counter(longer)
    found: dict[str, None] = {}
    for name, stem, whole in zip(inputs, short, longer, strict=True):
        unique = stem if seen[stem] == 1 else whole if seen_longer[whole] == 1 else name
        safe = FORBIDDEN.sub("_", unique[-LONGEST:]).lstrip(".") or "_"
        while safe in found:
            safe = f"{safe}_"
        found[safe] = None
    return [f"{name}.png" for name in found]
