"""Writes small stand-ins for the data sets of the papers' suites, in their real layouts, to rehearse a suite.

    python examples/stand_in_data.py FOLDER
    PRUNINGBENCH_DATA=FOLDER pruningbench plan cassano2025 --check-data

Every image is noise with one ellipse; the ellipse is the object in boxes and masks. People answer at random, mostly
right. Nothing that is measured on these data means anything.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from pruningbench_data._names import CATEGORIES, VOC_CLASSES
from pruningbench_data.imagenette import WNIDS
from pruningbench_data.model_vs_human import SUBJECTS

THINGS = ("cat", "dog", "person", "car")
"""Classes of the objects."""
Box = tuple[int, int, int, int]


def picture(draw: np.random.Generator, size: tuple[int, int] = (120, 96)) -> tuple[Image.Image, Box]:
    """Return a picture of noise with an ellipse, and the ellipse's box (corners, inclusive)."""
    width, height = size
    noise = draw.integers(0, 120, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    left, top = int(draw.integers(4, width // 2)), int(draw.integers(4, height // 2))
    box = (left, top, left + width // 3, top + height // 3)
    colour = tuple(int(value) for value in draw.integers(130, 255, 3))
    ImageDraw.Draw(image).ellipse(box, fill=colour)
    return image, box


def save(image: Image.Image, path: Path) -> None:
    """Write an image, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def class_folders(root: Path, names: Iterable[str], count: int, draw: np.random.Generator, ending: str) -> None:
    """Write `count` images for each class, as ``ROOT/CLASS/N.ENDING``."""
    for name in names:
        for number in range(count):
            save(picture(draw, (64, 64))[0], root / name / f"{name}_{number}{ending}")


def voc(root: Path, year: str, count: int, draw: np.random.Generator) -> None:
    """Write a PASCAL VOC of one year: images, boxes, masks and lists."""
    base = root / f"voc{year[2:]}/VOCdevkit/VOC{year}"
    names = [f"{year}_{number:06d}" for number in range(count)]
    for kind in ("Main", "Segmentation"):
        (base / f"ImageSets/{kind}").mkdir(parents=True)
        for split in ("train", "val", "trainval", "test"):
            (base / f"ImageSets/{kind}/{split}.txt").write_text("".join(f"{name}\n" for name in names))
    (base / "Annotations").mkdir()
    palette = [value for i in range(256) for value in (i, 255 - i, 7 * i % 256)]
    for number, name in enumerate(names):
        thing = THINGS[number % len(THINGS)]
        image, box = picture(draw)
        save(image, base / f"JPEGImages/{name}.jpg")
        mask = Image.new("P", image.size, 0)
        mask.putpalette(palette)
        ImageDraw.Draw(mask).ellipse(box, fill=VOC_CLASSES.index(thing) + 1, outline=255)
        save(mask, base / f"SegmentationClass/{name}.png")
        corners = zip(("xmin", "ymin", "xmax", "ymax"), (side + 1 for side in box), strict=True)
        sides = "".join(f"<{side}>{value}</{side}>" for side, value in corners)
        (base / f"Annotations/{name}.xml").write_text(
            f"<annotation><size><width>{image.width}</width><height>{image.height}</height></size>"
            f"<object><name>{thing}</name><difficult>0</difficult><bndbox>{sides}</bndbox></object></annotation>"
        )


def coco(root: Path, count: int, draw: np.random.Generator) -> None:
    """Write COCO 20k: a list, annotations and images."""
    names = [f"COCO_train2014_{number:012d}.jpg" for number in range(count)]
    notes = []
    for number, name in enumerate(names):
        image, (left, top, right, bottom) = picture(draw)
        save(image, root / "coco/train2014" / name)
        box = [left, top, right + 1 - left, bottom + 1 - top]
        notes.append({"id": number, "image_id": number, "category_id": 1, "iscrowd": 0, "bbox": box})
    images = [{"id": number, "file_name": name} for number, name in enumerate(names)]
    (root / "coco/annotations").mkdir()
    content = json.dumps({"images": images, "annotations": notes})
    (root / "coco/annotations/instances_train2014.json").write_text(content)
    (root / "coco/coco_20k_filenames.txt").write_text("".join(f"train2014/{name}\n" for name in names))


def model_vs_human(root: Path, experiment: str, draw: np.random.Generator) -> None:
    """Write one image for each category, and the decisions of three people."""
    stimuli = root / f"model-vs-human/stimuli/{experiment}/dnn/session-1"
    answers = root / f"model-vs-human/raw-data/{experiment}"
    answers.mkdir(parents=True)
    conflicts = experiment == "cue-conflict"
    images = [f"{name}1-{CATEGORIES[i - 1]}1" if conflicts else f"{name}1" for i, name in enumerate(CATEGORIES)]
    for number, (name, image) in enumerate(zip(CATEGORIES, images, strict=True), start=1):
        save(picture(draw, (64, 64))[0], stimuli / f"{number:04d}_exp_dnn_0_{name}_00_{image}.png")
    for person in (1, 2, 3):
        lines = ["subj,session,trial,rt,object_response,category,condition,imagename"]
        for number, (name, image) in enumerate(zip(CATEGORIES, images, strict=True), start=1):
            said = name if draw.random() < 0.8 else CATEGORIES[int(draw.integers(len(CATEGORIES)))]
            shown = f"{number:04d}_exp_s{person:02d}_0_{name}_00_{image}.png"
            lines.append(f"subject-{person:02d},1,{number},0.5,{said},{name},0,{shown}")
        (answers / f"{experiment}_subject-{person:02d}_session_1.csv").write_text("\n".join(lines) + "\n")


def write(root: Path, imagenet: Sequence[str], imagenette: Sequence[str], seed: int = 0) -> None:
    """Write all stand-ins.

    Args:
        root: the folder of all data sets, which must be empty or absent.
        imagenet: WordNet ids of the classes of ImageNet.
        imagenette: those of Imagenette.
        seed: of the images and answers.
    """
    draw = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    if any(root.iterdir()):
        raise SystemExit(f"{root}: is not empty; name a new folder")
    class_folders(root / "imagenet/train", imagenet, 2, draw, ".JPEG")
    class_folders(root / "imagenet/val", imagenet, 1, draw, ".JPEG")
    class_folders(root / "imagenette/imagenette2-320/train", imagenette, 8, draw, ".JPEG")
    class_folders(root / "imagenette/imagenette2-320/val", imagenette, 4, draw, ".JPEG")
    voc(root, "2007", 8, draw)
    voc(root, "2012", 8, draw)
    coco(root, 8, draw)
    for experiment in SUBJECTS:
        model_vs_human(root, experiment, draw)


def main(folder: str) -> None:
    """Write the stand-ins for all classes that the suites name."""
    from timm.data import ImageNetInfo

    write(Path(folder), sorted(ImageNetInfo().label_names()), WNIDS)
    sys.stdout.write(f"stand-ins are in {folder}\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("name the folder to write to")
    main(sys.argv[1])
