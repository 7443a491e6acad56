"""Data sets with human answers, in their published layouts, made here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow.parquet
import pytest
import torch
from kit.files import binary, cifar_images, opened, png_table, save
from kit.human import HEAD, answers, stimuli
from kit.humandata import two_people
from PIL import Image
from pruningbench_data._answers import condition_name, parse_name, texture_of
from pruningbench_data._names import CATEGORIES, CONTROLS
from pruningbench_data.cifar import CIFAR10, Cifar10, Cifar10H
from pruningbench_data.model_vs_human import SUBJECTS, Experiment, ModelVsHuman
from pruningbench_data.triplets import Nights, Things

from pruningbench.contract import (
    NO_ANSWER,
    NOT_SHOWN,
    HumanDecisions,
    HumanLabelCounts,
    HumanOddOneOut,
    HumanTwoAlternatives,
)
from pruningbench.errors import DataError, MissingDataError

pytestmark = pytest.mark.usefixtures("root")

# ---- model-vs-human ----------------------------------------------------------------------------------

"""subject, response, category, condition, image"""


def test_decisions_stand_by_their_images(root: Path) -> None:
    two_people(root)
    samples = opened(ModelVsHuman())
    human = samples.human
    assert isinstance(human, HumanDecisions)
    assert human.categories == samples.classes == CATEGORIES
    assert human.subjects == ("subject-01", "subject-02")
    cat, dog, truck = (CATEGORIES.index(name) for name in ("cat", "dog", "truck"))
    assert human.answers.tolist() == [[NO_ANSWER, cat, NOT_SHOWN], [cat, truck, dog]]
    assert human.truth.tolist() == samples.labels.tolist() == [cat, dog, dog]
    assert human.conditions == ("0", "0", "0")
    assert (human.texture, human.controls) == (None, ())
    assert [int(s.image[0, 0, 0]) for s in samples] == [1, 2, 3]


def test_a_limit_takes_images_with_their_answers(root: Path) -> None:
    two_people(root)
    whole, kept = opened(ModelVsHuman()), opened(ModelVsHuman(limit=2))
    places = [whole.keys.index(key) for key in kept.keys]
    assert torch.equal(kept.human.answers, whole.human.answers[:, places])
    assert torch.equal(kept.human.truth, whole.human.truth[places])
    dogs = opened(ModelVsHuman(classes=("dog",)))
    assert dogs.labels.tolist() == [0, 0]
    assert dogs.human.truth.tolist() == [CATEGORIES.index("dog")] * 2


def test_answers_are_part_of_the_fingerprint(root: Path) -> None:
    two_people(root)
    before = opened(ModelVsHuman()).fingerprint
    path = root / "model-vs-human/raw-data/edge/edge_subject-01_session_1.csv"
    path.write_text(path.read_text().replace(",na,", ",cat,"))
    assert opened(ModelVsHuman()).fingerprint != before


def test_images_in_several_conditions_are_told_apart(root: Path) -> None:
    stimuli(root, "uniform-noise", [("0.00", "car", "n1_1"), ("0.10", "car", "n1_1"), ("0.10", "boat", "n2_7")])
    answers(root, "uniform-noise", [
        ("subject-01", "car", "car", "0.0", "n1_1"), ("subject-01", "boat", "car", "0.1", "n1_1"), ("subject-01", "boat", "boat", "0.10", "n2_7"),
    ], HEAD.replace("session", "Session"))  # fmt: skip
    human = opened(ModelVsHuman(experiment="uniform-noise")).human
    car, boat = CATEGORIES.index("car"), CATEGORIES.index("boat")
    assert human.conditions == ("0", "0.1", "0.1")
    assert human.answers.tolist() == [[car, boat, boat]]
    assert human.controls == ("0",)


def test_the_column_says_the_condition(root: Path) -> None:
    stimuli(root, "contrast", [("c05", "car", "n1_1")])
    answers(root, "contrast", [("subject-01", "car", "car", "c05", "n1_1")])
    change("contrast_subject-01_session_1.csv", "s01_c05_", "s01_unknown_")(root)
    assert opened(ModelVsHuman(experiment="contrast")).human.conditions == ("c05",)


def test_of_two_sessions_the_first_answer_counts(root: Path) -> None:
    stimuli(root, "edge", [("0", "cat", "cat1"), ("0", "dog", "dog1")])
    answers(root, "edge", [("subject-01", "cat", "cat", "0", "cat1")])
    second = root / "model-vs-human/raw-data/edge/edge_subject-01_session_2.csv"
    second.write_text(
        f"{HEAD}\nsubject-01,2,1,.5,dog,cat,0,0001_exp_s01_0_cat_00_cat1.png\n"
        "subject-01,2,2,NaN,NaN,dog,0,0002_exp_s01_0_dog_00_dog1.png\n"
    )
    (second.parent / "edge_resnet50_session_1.csv").write_text("a network's answers are not people's\n")
    human = opened(ModelVsHuman()).human
    assert human.answers.tolist() == [[CATEGORIES.index("cat"), NO_ANSWER]]


def test_cue_conflict_images_have_a_texture(root: Path) -> None:
    stimuli(root, "cue-conflict", [("0", "oven", "oven1-cat1"), ("0", "cat", "cat10-knife2")])
    answers(
        root,
        "cue-conflict",
        [("subject-01", "cat", "oven", "0", "oven1-cat1"), ("subject-01", "cat", "cat", "0", "cat10-knife2")],
    )
    human = opened(ModelVsHuman(experiment="cue-conflict")).human
    assert [CATEGORIES[i] for i in human.texture.tolist()] == ["cat", "knife"]
    assert [CATEGORIES[i] for i in human.truth.tolist()] == ["oven", "cat"]


def change(name: str, old: str, new: str) -> Callable[[Path], object]:
    def work(root: Path) -> None:
        (path,) = root.rglob(name)
        path.write_text(path.read_text().replace(old, new, 1))

    return work


FIRST = "edge_subject-01_session_1.csv"


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (change(FIRST, "imagename", "picture"), rf"{FIRST}: there is no column 'imagename'; the columns are: subj, session"),
        (change(FIRST, "object_response", "answer"), rf"{FIRST}: there is no column 'object_response'"),
        (change(FIRST, ",na,", ",zebra,"), rf"{FIRST}, line 2: column 'object_response' holds 'zebra'"),
        (change(FIRST, "na,cat", "na,zebra"), rf"{FIRST}, line 2: column 'category' holds 'zebra'"),
        (change(FIRST, "na,cat", "na,dog"), rf"{FIRST}, line 2: column 'category' says 'dog', but .* is called 'cat'"),
        (change(FIRST, "cat1.png", "cat7.png"), rf"{FIRST}, line 2: column 'imagename': image 'cat7' in condition '0'"),
        (change(FIRST, "0001_exp_s01_0_cat_00_cat1.png", "x.png"), r"column 'imagename' holds 'x.png', which names no"),
        (change(FIRST, HEAD, ""), rf"{FIRST}: there is no column 'subj'"),
        (lambda root: save(next(root.rglob("session-1")) / "0009_exp_dnn_0_bear_00_bear1.png"),
         r"0009_exp_dnn_0_bear_00_bear1.png: .*raw-data/edge has no answer to this image \(column 'imagename'\)"),
        (lambda root: save(next(root.rglob("session-1")) / "cat.png"), r"cat.png: the name is not TRIAL_EXPERIMENT"),
        (lambda root: save(root / "model-vs-human/stimuli/edge/dnn/session-2/0001_exp_dnn_0_cat_00_cat1.png"),
         "shows the same image and condition as"),
        (lambda root: [p.unlink() for p in root.rglob("*.csv")], r"raw-data/edge: holds no answer files"),
        (lambda root: [p.unlink() for p in root.rglob("*.png")], r"stimuli/edge/dnn: holds no stimuli"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_in_one_line(root: Path, break_it: Callable[[Path], object], words: str) -> None:
    two_people(root)
    break_it(root)
    with pytest.raises(DataError, match=words) as caught:
        opened(ModelVsHuman())
    assert "\n" not in str(caught.value)


def test_all_seventeen_experiments_can_be_fetched() -> None:
    assert len(SUBJECTS) == 17
    assert set(get_args(Experiment)) == set(SUBJECTS)
    assert set(CONTROLS) < set(SUBJECTS)
    downloads = ModelVsHuman(experiment="sketch").downloads()
    assert len(downloads) == 7 + 1
    assert downloads[6].url.endswith("/raw-data/sketch/sketch_subject-07_session_1.csv")
    assert downloads[7].url.endswith("/v0.1/sketch.tar.gz")
    lack = ModelVsHuman(experiment="sketch").missing() or ""
    assert "`pruningbench data fetch model-vs-human --set experiment=sketch`" in lack


def test_names_of_stimuli() -> None:
    found = parse_name("0001_cr_dnn_bw_boat_40_n04273569_517.JPEG")
    assert found is not None
    assert (found.image, found.category) == (("bw", "n04273569_517"), "boat")
    assert parse_name("0001_cr_dnn_bw_plane_40_x.png") is None
    assert parse_name("cat.png") is None
    assert [condition_name(t) for t in ("0.00", "0", "inf", "True", "4-10-10", "0.10")] == [
        "0", "0", "inf", "true", "4-10-10", "0.1",
    ]  # fmt: skip
    assert (texture_of("oven1-cat12"), texture_of("cat1"), texture_of("cat1-x2")) == ("cat", None, None)


# ---- CIFAR-10H ---------------------------------------------------------------------------------------


@pytest.fixture
def cifar10h(root: Path) -> np.ndarray[Any, Any]:
    folder = root / "cifar10"
    (folder / "cifar-10-batches-bin").mkdir(parents=True)
    (folder / "cifar-10-batches-bin/test_batch.bin").write_bytes(binary(cifar_images(20), [i % 10 for i in range(20)]))
    counts = np.random.default_rng(0).integers(0, 50, (10_000, 10)).astype(np.float64)
    np.save(folder / "cifar10h-counts.npy", counts)
    return counts


def test_counts_stand_by_their_images(cifar10h: np.ndarray[Any, Any]) -> None:
    samples = opened(Cifar10H())
    assert isinstance(samples.human, HumanLabelCounts)
    assert samples.human.counts.dtype == torch.int64
    assert np.array_equal(samples.human.counts, cifar10h[:20])
    assert torch.equal(samples.images, opened(Cifar10()).images)
    assert samples.fingerprint != opened(Cifar10()).fingerprint


def test_counts_follow_the_rows_and_classes_kept(root: Path, cifar10h: np.ndarray[Any, Any]) -> None:
    samples = opened(Cifar10H(classes=("truck", "cat"), limit=3))
    rows = [int(key.removeprefix("test-")) for key in samples.keys]
    columns = [CIFAR10.index("truck"), CIFAR10.index("cat")]
    assert np.array_equal(samples.human.counts, cifar10h[np.ix_(rows, columns)])
    # in a parquet file the column `index` says which row of the counts is meant
    images, index = cifar_images(4), [900, 3, 77, 5]
    pyarrow.parquet.write_table(png_table(images, [0, 1, 2, 3], index=index), root / "cifar10/test.parquet")
    assert np.array_equal(opened(Cifar10H()).human.counts, cifar10h[index])


@pytest.mark.parametrize("array", [np.zeros((10, 10)), np.full((10_000, 10), 0.5), np.array([{"a": 1}], dtype=object)])
def test_counts_of_another_form_are_refused(root: Path, cifar10h: object, array: np.ndarray[Any, Any]) -> None:
    np.save(root / "cifar10/cifar10h-counts.npy", array, allow_pickle=True)
    with pytest.raises(
        DataError, match=r"cifar10h-counts.npy: (must hold 10,000 x 10 counts|cannot be read as an array)"
    ):
        opened(Cifar10H())


def test_cifar10h_fetches_only_what_lacks(root: Path, cifar10h: object) -> None:
    (root / "cifar10/cifar10h-counts.npy").unlink()
    assert "cifar10h-counts.npy is missing; get it with `pruningbench data fetch cifar10h`" in (
        Cifar10H().missing() or ""
    )
    assert [item.file for item in Cifar10H().downloads()] == ["cifar10h-counts.npy"]


# ---- THINGS ------------------------------------------------------------------------------------------


def test_trials_point_to_photographs(things: Path) -> None:
    samples = opened(Things())
    assert isinstance(samples.human, HumanOddOneOut)
    assert samples.keys == ("apple", "cup", "door")  # nobody was shown the bee
    assert samples.human.triplets.tolist() == [[2, 0, 1], [0, 1, 2]]
    assert samples.human.odd.tolist() == [2, 2]
    assert [round(int(s.image[0, 0, 0]) / 60) for s in samples] == [0, 2, 3]
    one = opened(Things(limit=1))
    assert one.human.triplets.shape == (1, 3)
    assert one.fingerprint != samples.fingerprint


@pytest.mark.parametrize("line", ["0 1", "0 1 4", "0 1 x", "0 -1 2", "0 1 2 3"])
def test_lines_that_are_no_triplets_are_named(things: Path, line: str) -> None:
    (things / "triplet_dataset/validationset.txt").write_text(f"0 1 2\n{line}\n")
    with pytest.raises(
        DataError, match=rf"validationset.txt, line 2: '{line}' does not hold three object numbers in 0..3"
    ):
        opened(Things())


def test_things_says_how_to_get_it(things: Path) -> None:
    with pytest.raises(MissingDataError, match=r"trainset.txt is missing; THINGS asks for a password"):
        opened(Things(split="train"))
    (things / "object_images/cup/cup_02b.jpg").unlink()
    with pytest.raises(DataError, match=r"object_images/cup: holds no photograph of the object \(cup_01b.jpg\)"):
        opened(Things())
    (things / "triplet_dataset/validationset.txt").write_text("\n")
    with pytest.raises(DataError, match="validationset.txt: holds no trials"):
        opened(Things())


# ---- NIGHTS ------------------------------------------------------------------------------------------


def pixels(samples: Any) -> list[list[int]]:
    return [[int(samples[i].image[0, 0, 0]) for i in triplet] for triplet in samples.human.triplets.tolist()]


def test_triplets_are_reference_left_right(nights: Path) -> None:
    samples = opened(Nights())
    assert isinstance(samples.human, HumanTwoAlternatives)
    assert pixels(samples) == [[70, 71, 72], [80, 81, 82]]  # triplet 9 has too few votes, 10 is for training
    assert samples.human.right.tolist() == [1, 0]
    assert len(samples) == 6
    assert samples.labels is None
    assert pixels(opened(Nights(votes=1))) == [[70, 71, 72], [80, 81, 82], [90, 91, 92]]
    assert pixels(opened(Nights(images="imagenet"))) == [[70, 71, 72]]
    assert pixels(opened(Nights(images="other"))) == [[80, 81, 82]]
    assert len(opened(Nights(limit=1)).human.triplets) == 1


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("left_path", "left", r"data.csv: there is no column 'left_path'; the columns are: id, left_vote"),
        ("7,0,1,6", "7,0,1,many", r"data.csv, triplet 7: column 'votes' holds 'many', which is not a number"),
        ("7,0,1,6", "7,0,2,6", r"column 'right_vote' must hold shares in \[0, 1\]"),
        (",test,", ",dev,", "8"),
    ],
)
def test_damaged_tables_of_triplets_are_named(nights: Path, old: str, new: str, words: str) -> None:
    path = nights / "data.csv"
    if old == ",test,":
        path.write_text(path.read_text().replace(old, new))
        with pytest.raises(DataError, match="no triplet of split 'test' has 6 votes or more"):
            opened(Nights())
        return
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=words):
        opened(Nights())


def test_a_triplet_without_its_image_is_named(nights: Path) -> None:
    (nights / "distort/000/008_1.png").unlink()
    with pytest.raises(DataError, match=r"008_1.png: cannot be read"):
        opened(Nights())
    assert "at least 1" in (Nights(votes=0).problem() or "")


def test_images_of_people_are_decoded_as_any_other(nights: Path) -> None:
    Image.fromarray(np.full((3, 4), 5, dtype=np.uint8)).save(nights / "ref/000/007.png")
    assert opened(Nights())[opened(Nights()).keys.index("ref/000/007.png")].image.shape == (3, 3, 4)
