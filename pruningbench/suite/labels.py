"""Labels of a suite's tasks: the name, or what tells two uses of one name apart."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from pruningbench.base.identity import content_hash
from pruningbench.contract.component import Use

_LONGEST = 60
"""Characters; labels are parts of file names."""


def labelled(uses: Iterable[Use]) -> dict[str, Use]:
    """Return tasks by label, in their order.

    A name that stands alone is its own label. Uses of one name add the fields in which they differ:
    ``transfer-cifar10-test``. Where these do not tell all of them apart, and where the label would be longer than 60
    characters, six digits of the hash of the identity stand instead.
    """
    listed = list(uses)
    same: dict[str, list[Use]] = {}
    for use in listed:
        same.setdefault(use.name, []).append(use)
    distinctions = {name: iter(_distinctions(group)) for name, group in same.items()}
    labels: dict[str, Use] = {}
    for use in listed:
        distinction = next(distinctions[use.name])
        label = f"{use.name}{distinction}"
        if distinction is None or len(label) > _LONGEST:
            label = f"{use.name}-{content_hash(use.identity(), length=6)}"
        labels[label] = use
    return labels


def _distinctions(same: Sequence[Use]) -> list[str | None]:
    """Return what tells each use of one name from the others: ``-cifar10-test``; all None where that is not enough."""
    if len(same) == 1:
        return [""]
    fields = [use.fields() for use in same]  # once each: spelling a component out is what costs
    differing = [name for name in fields[0] if any(other[name] != fields[0][name] for other in fields)]
    found = [_distinction(use, own, differing) for use, own in zip(same, fields, strict=True)]
    return list(found) if len(set(found)) == len(found) else [None] * len(found)


def _distinction(use: Use, fields: dict[str, object], differing: Sequence[str]) -> str:
    text = " ".join(use.references[name].label if name in use.references else str(fields[name]) for name in differing)
    return "-" + re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")
