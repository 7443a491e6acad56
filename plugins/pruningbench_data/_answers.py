"""Read model-vs-human: stimulus names, answer files, and the match between the two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pruningbench.contract import NO_ANSWER, NOT_SHOWN, DataError, HumanDecisions, one_line
from pruningbench_data._csv import read_table
from pruningbench_data._disk import files_as_samples
from pruningbench_data._layouts import SUFFIXES, readable
from pruningbench_data._names import CATEGORIES, CONTROLS
from pruningbench_data._sampling import Choice

if TYPE_CHECKING:
    from pruningbench.contract import Samples

COLUMNS = ("subj", "object_response", "category", "condition", "imagename")
SILENT = ("na", "nan", "none", "")
"""Values with which the files say that there is no answer."""
Image = tuple[str, str]
"""A stimulus within an experiment: its condition and its image."""


@dataclass(frozen=True)
class Stimulus:
    """Information in the name of a stimulus."""

    image: Image
    category: str


@dataclass(frozen=True)
class Answer:
    """One answer of one person; `answer` is a position in the categories or NO_ANSWER."""

    subject: str
    image: Image
    category: str
    answer: int
    where: str


def parse_name(name: str) -> Stimulus | None:
    """Parse ``TRIAL_EXPERIMENT_WHO_CONDITION_CATEGORY_NN_IMAGE.png``; return None for a name of another form."""
    parts = Path(name).stem.split("_", 6)
    if Path(name).suffix.lower() not in SUFFIXES or len(parts) != 7 or parts[4] not in CATEGORIES:
        return None
    return Stimulus((condition_name(parts[3]), parts[6]), parts[4])


def condition_name(text: str) -> str:
    """Return a condition in its standard spelling: ``0.00`` becomes ``0``, and ``True`` becomes ``true``."""
    try:
        return f"{float(text):g}"
    except ValueError:
        return text.lower()


def texture_of(image: str) -> str | None:
    """Return the texture category in the name of a cue-conflict image: ``oven1-cat1`` -> ``cat``."""
    texture = image.rpartition("-")[2].rstrip("0123456789")
    return texture if "-" in image and texture in CATEGORIES else None


def open_experiment(
    experiment: str,
    stimuli_folder: Path,
    answers_folder: Path,
    *,
    chosen: Callable[[Sequence[str], Sequence[int], Sequence[str]], Choice],
    remedy: str,
) -> Samples:
    """Return the stimuli with labels and decisions.

    Args:
        experiment: name of the experiment.
        stimuli_folder: the experiment's images.
        answers_folder: the experiment's answer files.
        chosen: returns which of N samples the data set uses, given keys, labels and class names.
        remedy: what to do about an image that cannot be decoded.

    Raises:
        DataError: naming file and column, for a missing column, a value outside the categories, answers to
            missing images, and images that nobody saw.
    """
    stimuli = read_stimuli(stimuli_folder)
    answers = [answer for path in _answer_files(answers_folder) for answer in read_answers(path)]
    files = list(stimuli)
    _match(stimuli_folder, answers_folder, stimuli, answers)
    labels = [CATEGORIES.index(stimuli[file].category) for file in files]
    choice = chosen(files, labels, CATEGORIES)
    human = _decisions(experiment, [stimuli[files[i]].image for i in choice.positions], choice, answers)
    return files_as_samples(stimuli_folder, files, choice, remedy, human)


def read_stimuli(folder: Path) -> dict[str, Stimulus]:
    """Return the parsed names of all stimuli below a folder, by relative path, sorted."""
    names = sorted(
        readable(folder, p.relative_to(folder).as_posix()) for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES
    )
    if not names:
        raise DataError(f"{folder}: holds no stimuli (session-N/*.png)")
    stimuli: dict[str, Stimulus] = {}
    name_of_image: dict[Image, str] = {}
    for name in names:
        stimulus = parse_name(Path(name).name)
        if stimulus is None:
            raise DataError(
                f"{folder / name}: the name is not TRIAL_EXPERIMENT_WHO_CONDITION_CATEGORY_NN_IMAGE with one of the "
                "16 categories"
            )
        if stimulus.image in name_of_image:
            raise DataError(f"{folder / name}: shows the same image and condition as {name_of_image[stimulus.image]}")
        stimuli[name], name_of_image[stimulus.image] = stimulus, name
    return stimuli


def _answer_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*subject*.csv"))
    if not files:
        raise DataError(f"{folder}: holds no answer files (*subject*.csv)")
    return files


def read_answers(path: Path) -> list[Answer]:
    """Return the answers in one file, which holds one or several sessions of one person.

    Raises:
        DataError: naming the column and the line of the error.
    """
    header, rows = read_table(path)
    columns = {(name or "").strip().lower(): name for name in header}
    for column in COLUMNS:
        if column not in columns:
            raise DataError(
                f"{path}: there is no column {column!r}; the columns are: {one_line(', '.join(columns)) or 'none'}"
            )
    answers = []
    for line, row in rows:
        values = {column: row[columns[column]].strip() for column in COLUMNS}
        answers.append(_answer(values, f"{path}, line {line}"))
    return answers


def _answer(values: dict[str, str], where: str) -> Answer:
    stimulus = parse_name(values["imagename"])
    if stimulus is None:
        raise DataError(f"{where}: column 'imagename' holds {values['imagename']!r}, which names no stimulus")
    if values["category"] not in CATEGORIES:
        raise DataError(
            f"{where}: column 'category' holds {values['category']!r}, which is not one of the 16 categories"
        )
    response = values["object_response"].lower()
    if response not in CATEGORIES and response not in SILENT:
        raise DataError(f"{where}: column 'object_response' holds {response!r}, which is not one of the 16 categories")
    return Answer(
        subject=values["subj"],
        image=(condition_name(values["condition"]), stimulus.image[1]),
        category=values["category"],
        answer=CATEGORIES.index(response) if response in CATEGORIES else NO_ANSWER,
        where=where,
    )


def _match(stimuli_folder: Path, answers_folder: Path, stimuli: dict[str, Stimulus], answers: Sequence[Answer]) -> None:
    """Check that each answer has a stimulus of its category and each stimulus an answer."""
    category_of = {stimulus.image: stimulus.category for stimulus in stimuli.values()}
    for answer in answers:
        condition, image = answer.image
        if answer.image not in category_of:
            raise DataError(
                f"{answer.where}: column 'imagename': image {image!r} in condition {condition!r} is not among the "
                f"{len(stimuli)} stimuli in {stimuli_folder}"
            )
        if category_of[answer.image] != answer.category:
            raise DataError(
                f"{answer.where}: column 'category' says {answer.category!r}, but the stimulus {image!r} is called "
                f"{category_of[answer.image]!r}"
            )
    judged = {answer.image for answer in answers}
    for name, stimulus in stimuli.items():
        if stimulus.image not in judged:
            raise DataError(
                f"{stimuli_folder / name}: {answers_folder} has no answer to this image (column 'imagename')"
            )


def _decisions(experiment: str, images: Sequence[Image], choice: Choice, answers: Sequence[Answer]) -> HumanDecisions:
    """Return the answers to the chosen images, in their order."""
    subjects = sorted({answer.subject for answer in answers})
    column = {image: i for i, image in enumerate(images)}
    row = {subject: i for i, subject in enumerate(subjects)}
    table = torch.full((len(subjects), len(images)), NOT_SHOWN, dtype=torch.int64)
    for answer in answers:
        place = row[answer.subject], column.get(answer.image, -1)
        if place[1] >= 0 and table[place] == NOT_SHOWN:
            table[place] = answer.answer
    truth = torch.tensor([CATEGORIES.index(choice.classes[label]) for label in choice.labels], dtype=torch.int64)
    return HumanDecisions(
        categories=CATEGORIES,
        subjects=tuple(subjects),
        answers=table,
        truth=truth,
        conditions=tuple(condition for condition, _ in images),
        controls=(CONTROLS[experiment],) if experiment in CONTROLS else (),
        texture=_textures([image for _, image in images]) if experiment == "cue-conflict" else None,
    )


def _textures(images: Sequence[str]) -> torch.Tensor:
    textures = [texture_of(image) for image in images]
    for image, texture in zip(images, textures, strict=True):
        if texture is None:
            raise DataError(f"cue-conflict image {image!r}: its name must end in -TEXTURE, one of the 16 categories")
    return torch.tensor([CATEGORIES.index(texture or "") for texture in textures], dtype=torch.int64)
