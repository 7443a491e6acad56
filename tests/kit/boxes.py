"""Annotations of VOC and COCO."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kit.files import save


def thing(name: str, box: tuple[Any, ...], difficult: int = 0, part: str = "") -> str:
    sides = "".join(
        f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object><name>{name}</name>{part}<difficult>{difficult}</difficult><bndbox>{sides}</bndbox></object>"


def voc(root: Path, things: dict[str, str], year: str = "2007", split: str = "test", kind: str = "Main") -> Path:
    base = root / f"voc{year[2:]}/VOCdevkit/VOC{year}"
    (base / "Annotations").mkdir(parents=True, exist_ok=True)
    (base / f"ImageSets/{kind}").mkdir(parents=True, exist_ok=True)
    (base / f"ImageSets/{kind}/{split}.txt").write_text("".join(f"{name}\n" for name in things))
    for value, (name, objects) in enumerate(things.items()):
        save(base / f"JPEGImages/{name}.jpg", 40 * value, (20, 10))
        (base / f"Annotations/{name}.xml").write_text(f"<annotation>{objects}</annotation>")
    return base


def coco(root: Path, notes: list[dict[str, Any]], images: int = 3) -> None:
    names = [f"COCO_train2014_{i:012d}.jpg" for i in range(images)]
    for i, name in enumerate(names):
        save(root / "coco/train2014" / name, i, (30, 20))
    (root / "coco/annotations").mkdir()
    content = {"images": [{"id": 100 + i, "file_name": n} for i, n in enumerate(names)], "annotations": notes}
    (root / "coco/annotations/instances_train2014.json").write_text(json.dumps(content))
    (root / "coco/coco_20k_filenames.txt").write_text("".join(f"train2014/{n}\n" for n in names))


def note(image: int, *box: float, crowd: int = 0) -> dict[str, Any]:
    return {"image_id": image, "bbox": list(box), "iscrowd": crowd, "category_id": 1}
