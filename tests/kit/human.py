"""Stimuli and answers of model-vs-human."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kit.files import save

HEAD = "subj,session,trial,rt,object_response,category,condition,imagename"


Row = tuple[str, str, str, str, str]


def stimuli(root: Path, experiment: str, images: Iterable[tuple[str, str, str]]) -> Path:
    """Write stimuli (condition, category, image), each of its own grey."""
    folder = root / f"model-vs-human/stimuli/{experiment}/dnn/session-1"
    for n, (condition, category, image) in enumerate(images, start=1):
        save(folder / f"{n:04d}_exp_dnn_{condition}_{category}_00_{image}.png", n)
    return folder


def answers(root: Path, experiment: str, rows: Iterable[Row], head: str = HEAD) -> None:
    """Write one file a subject, with images in another order and under other names than the stimuli's."""
    folder = root / f"model-vs-human/raw-data/{experiment}"
    folder.mkdir(parents=True, exist_ok=True)
    by_subject: dict[str, list[str]] = {}
    for subject, response, category, condition, image in rows:
        lines = by_subject.setdefault(subject, [head])
        name = f"{len(lines):04d}_exp_s01_{condition}_{category}_00_{image}.png"
        lines.append(f"{subject},1,{len(lines)},0.5,{response},{category},{condition},{name}")
    for subject, lines in by_subject.items():
        (folder / f"{experiment}_{subject}_session_1.csv").write_text("\n".join(lines) + "\n")
