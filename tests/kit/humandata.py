"""Data sets with answers of people, on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit.files import save
from kit.human import answers, stimuli


def two_people(root: Path) -> None:
    stimuli(root, "edge", [("0", "cat", "cat1"), ("0", "dog", "dog1"), ("0", "dog", "dog2")])
    answers(root, "edge", [
        ("subject-02", "dog", "dog", "0", "dog2"), ("subject-02", "cat", "cat", "0", "cat1"),
        ("subject-02", "truck", "dog", "0", "dog1"),
        ("subject-01", "na", "cat", "0", "cat1"), ("subject-01", "cat", "dog", "0", "dog1"),
    ])  # fmt: skip


@pytest.fixture
def things(root: Path) -> Path:
    folder = root / "things"
    for i, name in enumerate(("apple", "bee", "cup", "door")):
        save(folder / f"object_images/{name}/{name}_0{2 if name == 'cup' else 1}b.jpg", 60 * i, (16, 16))
    save(folder / "object_images/apple/apple_00a.jpg", 255)
    (folder / "variables").mkdir()
    (folder / "variables/unique_id.txt").write_text("apple\nbee\ncup\ndoor\n")
    (folder / "triplet_dataset").mkdir()
    (folder / "triplet_dataset/validationset.txt").write_text("3 0 2\n0 2 3\n")
    return folder


NIGHTS_HEAD = "id,left_vote,right_vote,votes,ref_path,left_path,right_path,split,is_imagenet"


NIGHTS_ROWS = """\
7,0,1,6,ref/000/007.png,distort/000/007_0.png,distort/000/007_1.png,test,True
8,1,0,8,ref/000/008.png,distort/000/008_0.png,distort/000/008_1.png,test,False
9,1,0,3,ref/000/009.png,distort/000/009_0.png,distort/000/009_1.png,test,True
10,1,0,9,ref/000/010.png,distort/000/010_0.png,distort/000/010_1.png,train,True
"""


@pytest.fixture
def nights(root: Path) -> Path:
    folder = root / "nights"
    for i in range(7, 11):
        save(folder / f"ref/000/{i:03d}.png", 10 * i)
        save(folder / f"distort/000/{i:03d}_0.png", 10 * i + 1)
        save(folder / f"distort/000/{i:03d}_1.png", 10 * i + 2)
    (folder / "data.csv").write_text(f"{NIGHTS_HEAD}\n{NIGHTS_ROWS}")
    return folder
