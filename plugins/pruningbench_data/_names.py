"""Names that data sets and their readers share; the components import no reader before they open."""

from __future__ import annotations

COCO_LIST = "coco_20k_filenames.txt"
COCO_ANNOTATIONS = "annotations/instances_train2014.json"
THINGS_CONCEPTS = "variables/unique_id.txt"
VOC_CLASSES = ("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
           "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
           "tvmonitor")  # fmt: skip
"""The twenty classes; the mask's value of class i is i + 1."""
CATEGORIES = ("airplane", "bear", "bicycle", "bird", "boat", "bottle", "car", "cat", "chair", "clock",
              "dog", "elephant", "keyboard", "knife", "oven", "truck")  # fmt: skip
"""The sixteen categories that people chose from."""
CONTROLS = {
    "colour": "cr", "contrast": "c100", "high-pass": "inf", "low-pass": "0", "phase-scrambling": "0",
    "power-equalisation": "0", "false-colour": "true", "rotation": "0", "eidolonI": "1-10-10", "eidolonII": "1-3-10",
    "eidolonIII": "1-0-10", "uniform-noise": "0",
}  # fmt: skip
"""The condition of each experiment in which nothing is manipulated, as the authors name it."""
