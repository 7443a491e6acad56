"""The data set `model-vs-human`: stimuli of 17 experiments, and people's responses to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pruningbench.contract import DataCard, param
from pruningbench.images.fetch import Download
from pruningbench_data._disk import OnDisk
from pruningbench_data._sampling import Sampled

if TYPE_CHECKING:
    from pruningbench.contract import Samples

SUBJECTS = {
    "colour": 4, "contrast": 4, "cue-conflict": 10, "edge": 10, "eidolonI": 4, "eidolonII": 4, "eidolonIII": 4,
    "false-colour": 4, "high-pass": 4, "low-pass": 4, "phase-scrambling": 4, "power-equalisation": 4, "rotation": 4,
    "silhouette": 10, "sketch": 7, "stylized": 5, "uniform-noise": 4,
}  # fmt: skip
"""Number of participants in each experiment, equal to the number of answer files."""
Experiment = Literal[
    "colour", "contrast", "cue-conflict", "edge", "eidolonI", "eidolonII", "eidolonIII", "false-colour", "high-pass",
    "low-pass", "phase-scrambling", "power-equalisation", "rotation", "silhouette", "sketch", "stylized",
    "uniform-noise",
]  # fmt: skip
_COMMIT = "79ed7cd1d9ac3a114e71b6638f0a98bdd627316c"
_HOST = "https://github.com/bethgelab/model-vs-human/releases/download/v0.1"
_RAW = f"https://raw.githubusercontent.com/bethgelab/model-vs-human/{_COMMIT}/raw-data"


@dataclass(frozen=True, kw_only=True)
class ModelVsHuman(OnDisk, Sampled):
    """One of the 17 experiments of model-vs-human: images in 16 categories with the decisions of 4 to 10 people.

    Stimuli are in ``stimuli/EXPERIMENT/dnn/session-N``, answers in ``raw-data/EXPERIMENT/*subject*.csv``. An
    answer belongs to the stimulus with the same condition and image (file names are
    ``TRIAL_EXPERIMENT_WHO_CONDITION_CATEGORY_NN_IMAGE``). ``human`` holds the decisions, with ``na`` as no answer;
    if a person saw an image twice, the first answer counts. Numeric conditions are written in their shortest form.
    In ``cue-conflict`` the labels are those of the shape.
    """

    card: ClassVar[DataCard] = DataCard(
        licence="stated per experiment on the project's page; texture-vs-shape stimuli CC BY 4.0",
        citation="R. Geirhos et al., Partial success in closing the gap between human and machine vision, NeurIPS 2021",
        homepage="https://github.com/bethgelab/model-vs-human",
        size=0,
        checksum="none published",
    )
    name: ClassVar[str] = "model-vs-human"
    place: ClassVar[str] = "model-vs-human"
    decides: ClassVar[tuple[str, ...]] = ("experiment",)

    experiment: Experiment = param("edge", doc="name of the experiment")

    @property
    def stimuli(self) -> Path:
        """Folder of the experiment's images."""
        return self.folder() / "stimuli" / self.experiment / "dnn"

    @property
    def answers(self) -> Path:
        """Folder of the experiment's answers."""
        return self.folder() / "raw-data" / self.experiment

    def needs(self) -> Sequence[str]:
        """Return the folders of stimuli and answers."""
        return (f"stimuli/{self.experiment}/dnn", f"raw-data/{self.experiment}")

    def downloads(self) -> Sequence[Download]:
        """Return the answers, and the archive of stimuli if it is missing."""
        name = self.experiment
        files = [f"{name}_subject-{i:02d}_session_1.csv" for i in range(1, SUBJECTS[name] + 1)]
        answers = [Download(f"{_RAW}/{name}/{file}", f"raw-data/{name}/{file}") for file in files]
        archive = Download(f"{_HOST}/{name}.tar.gz", f"{name}.tar.gz", unpack=True, into="stimuli")
        return (*answers, *(() if self.stimuli.is_dir() else (archive,)))

    def open(self) -> Samples:
        """Return RGB stimuli with labels among the 16 categories and ``human`` decisions."""
        from pruningbench_data._answers import open_experiment

        return open_experiment(self.experiment, self.stimuli, self.answers, chosen=self.chosen, remedy=self.remedy())
