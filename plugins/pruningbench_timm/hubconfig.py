"""The configuration of a model in a hub repository: read, checked, and bounded.

It is untrusted and may only describe an architecture: it cannot choose files, addresses or code, or sizes that no
network has.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from pruningbench.contract import PruningBenchError, read_json

LARGEST_CONFIG = 2**24
"""Maximum bytes of a config.json, 16 MiB; one with the names of 21,843 classes has about 2 MiB."""
LARGEST_NUMBER = 2**15
"""Largest count in a configuration: ImageNet-22k has 21,843 classes, and all other counts are smaller."""
LARGEST_NETWORK = 2**33
"""Maximum parameters of a network that a configuration describes; timm's largest has 4.4 billion."""
DEEPEST = 8
LOADER_ARGUMENTS = frozenset(
    ("cache_dir", "checkpoint_path", "exportable", "feature_cfg", "features_only", "kwargs_filter", "model_cfg",
     "model_name", "no_jit", "scriptable")
)  # fmt: skip
"""Arguments of timm's builders, besides all that begin with ``pretrained``, that do not describe an architecture."""


def read_config(path: Path) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return the contents of a ``config.json``: timm's name of the architecture, its settings, and its arguments.

    Settings are timm's pretrained configuration: mean, std, size, crop, classes and their names.

    Raises:
        PruningBenchError: naming the file and the field, if the file is not a configuration of a timm model, a
            value has the wrong type or size, or arguments say what timm loads and from where: weights come only
            from the pinned repository.
    """
    config = read_json(path, LARGEST_CONFIG)
    if not isinstance(config, dict) or not isinstance(config.get("architecture"), str):
        raise PruningBenchError(f"{path}: not a configuration of a timm model (it names no architecture)")
    inner = config.get("pretrained_cfg") or {key: value for key, value in config.items() if key != "architecture"}
    if not isinstance(inner, dict):
        raise PruningBenchError(f"{path}: pretrained_cfg is a {type(inner).__name__}, not a mapping")
    settings = dict(inner)
    for key in ("num_classes", "label_names", "label_descriptions"):
        if key in config:
            settings[key] = config[key]
    if "labels" in settings:
        settings["label_names"] = settings.pop("labels")
    for key, (fits, what) in _FIELDS.items():
        if settings.get(key) is not None and not fits(settings[key]):
            raise PruningBenchError(f"{path}: {key} is {_short(settings[key])}, but must be {what}")
    return config["architecture"], settings, _model_args(path, config)


def _model_args(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    arguments = config.get("model_args") or {}
    if not isinstance(arguments, Mapping):
        raise PruningBenchError(f"{path}: model_args is a {type(arguments).__name__}, not a mapping")
    loading = sorted(name for name in map(str, arguments) if name in LOADER_ARGUMENTS or name.startswith("pretrained"))
    if loading:
        raise PruningBenchError(
            f"{path}: model_args holds {loading[0]!r}, which would load weights or code from outside the "
            "repository; such repositories are refused"
        )
    for name, value in arguments.items():
        if not _bounded(value):
            raise PruningBenchError(
                f"{path}: model_args holds {name!r} of {_short(value)}; numbers must be finite and at most "
                f"{LARGEST_NUMBER:,}, and lists neither long nor deeply nested"
            )
    return dict(arguments)


def _bounded(value: object, depth: int = 0) -> bool:
    if isinstance(value, (dict, list)):
        inner = list(value.values()) if isinstance(value, dict) else value
        return depth < DEEPEST and len(inner) <= LARGEST_NUMBER and all(_bounded(v, depth + 1) for v in inner)
    return not isinstance(value, (int, float)) or (abs(value) <= LARGEST_NUMBER and isfinite(value))


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= LARGEST_NUMBER


def _is_share(value: object) -> bool:
    return type(value) in (int, float) and 0 < value <= 2  # type: ignore[operator]


def _is_shape(value: object) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(_is_count(side) and side for side in value)


def _are_numbers(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(type(v) in (int, float) and abs(v) < 1e6 for v in value)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _are_layers(value: object) -> bool:
    return isinstance(value, str) or _are_texts(value)


_COUNT = (_is_count, f"a whole number in 0..{LARGEST_NUMBER}")
_SHAPE = (_is_shape, "channels, height and width, whole numbers of at least 1")
_NUMBERS = (_are_numbers, "a list of numbers, one per channel")
_SHARE = (_is_share, "a number in (0, 2]")
_TEXT = (_is_text, "a string")
_LAYERS = (_are_layers, "the name of a layer, or a list of names")
_FIELDS = {
    "num_classes": _COUNT,
    "input_size": _SHAPE,
    "test_input_size": _SHAPE,
    "min_input_size": _SHAPE,
    "mean": _NUMBERS,
    "std": _NUMBERS,
    "crop_pct": _SHARE,
    "test_crop_pct": _SHARE,
    "interpolation": _TEXT,
    "crop_mode": _TEXT,
    "first_conv": _LAYERS,
    "classifier": _LAYERS,
    "label_names": (_are_texts, "a list of strings"),
    "label_descriptions": (lambda value: isinstance(value, (dict, list)), "a mapping or a list of strings"),
}
"""Requirement for each setting that is used."""


def _short(value: object) -> str:
    """Return a value for a message; integers with thousands of digits cannot even be printed."""
    if isinstance(value, int) and abs(value) >= 10**20:
        return "a number of more than 20 digits"
    text = (
        str(value)
        if isinstance(value, (str, int, float))
        else f"a {type(value).__name__} of {len(str(value))} characters"
    )
    return repr(text[:60]) if isinstance(value, str) else text[:60]
