"""Labels: of a suite's tasks (the name, extended if the suite uses it more than once), and of the dense model."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from pruningbench.base.identity import content_hash
from pruningbench.contract.component import Use

DENSE = "dense"
"""Label of the dense model, in place of a pruner's."""
LONGEST = 60
"""Maximum number of characters, because labels are parts of file names."""


def labelled(uses: Iterable[Use]) -> dict[str, Use]:
    """Return tasks by label, in order.

    A name that is used once is its own label. Several uses of one name append the fields in which they differ:
    ``transfer-cifar10-test``. If these fields do not tell all uses apart, or if the label would be longer than 60
    characters, six digits of the hash of the identity are appended instead.
    """
    items = list(uses)
    same: dict[str, list[Use]] = {}
    for use in items:
        same.setdefault(use.name, []).append(use)
    distinctions = {name: iter(_distinctions(group)) for name, group in same.items()}
    labels: dict[str, Use] = {}
    for use in items:
        distinction = next(distinctions[use.name])
        label = f"{use.name}{distinction}"
        if distinction is None or len(label) > LONGEST:
            label = f"{use.name}-{content_hash(use.identity(), length=6)}"
        labels[label] = use
    return labels


def with_distinguishing_fields(uses: Sequence[Use]) -> tuple[Use, ...]:
    """Return the uses with unique labels; uses with the same label show the fields in which they differ.

    A component that is listed again for other models keeps one label.
    """
    labels = Counter(label for label, _ in {(use.label, content_hash(use.identity())) for use in uses})
    distinguished = []
    differing: dict[str, tuple[str, ...]] = {}
    for use in uses:
        if labels[use.label] == 1:
            distinguished.append(use)
            continue
        if use.name not in differing:
            differing[use.name] = tuple(_differing([other.fields() for other in uses if other.name == use.name]))
        distinguished.append(dataclasses.replace(use, distinguishing=differing[use.name]))
    return tuple(distinguished)


def _differing(fields: Sequence[dict[str, object]]) -> list[str]:
    """Return the names of the fields in which uses of one component differ; spelling them out is slow."""
    return [name for name in fields[0] if any(other[name] != fields[0][name] for other in fields)]


def _distinctions(same: Sequence[Use]) -> list[str | None]:
    """Return a suffix such as ``-cifar10-test`` for each use of one name; all None if the suffixes are not distinct."""
    if len(same) == 1:
        return [""]
    fields = [use.fields() for use in same]
    differing = _differing(fields)
    suffixes = [_distinction(use, values, differing) for use, values in zip(same, fields, strict=True)]
    return list(suffixes) if len(set(suffixes)) == len(suffixes) else [None] * len(suffixes)


def _distinction(use: Use, fields: dict[str, object], differing: Sequence[str]) -> str:
    text = " ".join(use.references[name].label if name in use.references else str(fields[name]) for name in differing)
    return "-" + re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")
