"""Names shared by data sets and their readers; a component imports its reader only when it opens the data."""

from __future__ import annotations

COCO_LIST = "coco_20k_filenames.txt"
COCO_ANNOTATIONS = "annotations/instances_train2014.json"
THINGS_CONCEPTS = "variables/unique_id.txt"
VOC_CLASSES = ("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
           "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
           "tvmonitor")  # fmt: skip
"""The twenty classes; class i has mask value i + 1."""
CATEGORIES = ("airplane", "bear", "bicycle", "bird", "boat", "bottle", "car", "cat", "chair", "clock",
              "dog", "elephant", "keyboard", "knife", "oven", "truck")  # fmt: skip
"""The sixteen categories from which people chose."""
CONTROLS = {
    "colour": "cr", "contrast": "c100", "high-pass": "inf", "low-pass": "0", "phase-scrambling": "0",
    "power-equalisation": "0", "false-colour": "true", "rotation": "0", "eidolonI": "1-10-10", "eidolonII": "1-3-10",
    "eidolonIII": "1-0-10", "uniform-noise": "0",
}  # fmt: skip
"""The unmanipulated condition of each experiment, as named by the authors."""
