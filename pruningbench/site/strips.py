"""Strips: the same pictures from dense to sparse, made from the samples that a run stored for figures."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pruningbench.base.text import displayable
from pruningbench.contract.reporting import ShownExhibit
from pruningbench.leaderboard.canvas import spread
from pruningbench.leaderboard.exhibits import UNREADABLE, dense_beside, exhibited
from pruningbench.leaderboard.figures import drawn_exhibits
from pruningbench.leaderboard.references import as_loaded
from pruningbench.leaderboard.saving import figure_png
from pruningbench.site.frames import MAKERS, Condition, Layout, SampleStrips, grouped
from pruningbench.site.images import Images

if TYPE_CHECKING:
    import pandas as pd

    from pruningbench.plugins import Registry
    from pruningbench.store.runfolder import RunFolder

SAMPLES, SPARSITIES, CONDITIONS, DRAWINGS = 6, 24, 24, 8
"""Most samples on a page and sparsities in a strip, and most pairs of pruner and recipe and drawings for a variant."""
LIMITED = "Pictures are missing because the pictures of a site are limited in size."


@dataclass(frozen=True)
class Pictures:
    """What a page of pictures shows.

    Attributes:
        run, task, model: labels.
        kind: the kind of the exhibits.
        sparsities: ascending; of all frames.
        signed: whether any map has negative values.
        samples: for the kinds ``maps``, ``boxes`` and ``concepts``.
        drawings: for other kinds, the (variant, address) of each drawing.
        notes: sentences on what is left out.
    """

    run: str
    task: str
    model: str
    kind: str
    sparsities: tuple[float, ...] = ()
    signed: bool = False
    samples: tuple[SampleStrips, ...] = ()
    drawings: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def pictures_of(
    run: RunFolder, name: str, frame: pd.DataFrame, registry: Registry, images: Images
) -> Iterator[Pictures]:
    """Yield the pages of pictures of a run, and write their pictures.

    Args:
        run: the run folder.
        name: what the site calls the run.
        frame: its results (`pruningbench.leaderboard.results.load_results`).
        registry: where the drawers of other kinds are looked up.
        images: where pictures are written.

    Warns:
        UserWarning: for damaged sample files, and for exhibits that no installed plugin can draw.
    """
    pages: dict[tuple[str, str, str], list[tuple[str, list[ShownExhibit]]]] = {}
    current = ""
    for (task, variant), model, shown in exhibited(run, frame):
        if task != current:  # the samples of one task at a time are in memory
            yield from _pages(name, pages, registry, images)
            pages, current = {}, task
        pages.setdefault((task, model, shown[0].kind), []).append((variant, shown))
    yield from _pages(name, pages, registry, images)


def _pages(
    run: str,
    pages: Mapping[tuple[str, str, str], list[tuple[str, list[ShownExhibit]]]],
    registry: Registry,
    images: Images,
) -> Iterator[Pictures]:
    for (task, model, kind), variants in pages.items():
        page = Pictures(run, task, model, kind)
        try:
            made = _with_strips(page, variants, images) if kind in MAKERS else _drawn(page, variants, registry, images)
        except UNREADABLE as error:  # arrays of a stranger: of any type and shape
            warnings.warn(f"{run}: pictures of {task} on {model} cannot be shown ({displayable(error)})", stacklevel=2)
            made = replace(page, notes=("The stored samples cannot be shown: their arrays do not fit together.",))
        if made.samples or made.drawings or made.notes:
            yield made


def _drawn(
    page: Pictures, variants: Iterable[tuple[str, list[ShownExhibit]]], registry: Registry, images: Images
) -> Pictures:
    """Draw exhibits of a plugin's own kind as that plugin does."""
    failed: list[str] = []
    drawings: list[tuple[str, str]] = []
    more = False
    refused = images.refused
    for variant, shown in variants:
        for i, (name, figure) in enumerate(drawn_exhibits(registry, [page.task, variant, page.model], shown, failed)):
            if i == DRAWINGS:
                more = True
                break
            content = figure_png(name, figure, failed)
            address = images.add(content, "png") if content is not None else ""
            if address:
                drawings.append((variant, address))
    for text in failed:
        warnings.warn(f"{page.run}: {text}; the numbers are complete without it", stacklevel=2)
    notes = [
        f"Pictures are missing: {failed[0]}." if failed else "",
        f"The run's folder of figures has more than the first {DRAWINGS} drawings." if more else "",
        LIMITED if images.refused > refused else "",
    ]
    return replace(page, drawings=tuple(drawings), notes=tuple(filter(None, notes)))


def _with_strips(page: Pictures, variants: Iterable[tuple[str, list[ShownExhibit]]], images: Images) -> Pictures:
    conditions, left_out = [], 0
    for variant, shown in variants:
        of_variant = _conditions(variant, grouped(shown) if page.kind == "concepts" else shown)
        left_out += max(len(of_variant) - CONDITIONS, 0)
        conditions += of_variant[:CONDITIONS]
    known = sorted({sparsity for one in conditions for sparsity in one.columns})
    layout = Layout(tuple(spread(known, SPARSITIES)), any(map(_signed, conditions)))
    keys = _keys(conditions)
    refused = images.refused
    made = [MAKERS[page.kind](layout, key, conditions, images) for key in keys[:SAMPLES]]
    dropped = len(known) - len(layout.sparsities)
    notes = [
        f"Shown: {SAMPLES} of {len(keys)} stored samples." if len(keys) > SAMPLES else "",
        f"Not shown: {left_out} further combinations of variant, pruner and recipe." if left_out else "",
        f"Shown: {SPARSITIES} of {len(known)} sparsities." if dropped else "",
        LIMITED if images.refused > refused else "",
    ]
    samples = tuple(sample for sample in made if sample is not None)
    return replace(
        page,
        sparsities=layout.sparsities,
        signed=layout.signed,
        samples=samples,
        notes=tuple(filter(None, notes)),
    )


def _signed(condition: Condition) -> bool:
    """Whether any map has a negative value."""
    samples = [sample for column in condition.columns.values() for sample in column.values()]
    return any(sample.map is not None and bool((sample.map < 0).any()) for sample in samples)


def _conditions(variant: str, shown: Sequence[ShownExhibit]) -> list[Condition]:
    """Return the samples of a variant by recipe and pruner, each beside its dense reference."""
    dense = dense_beside(shown)
    found: dict[tuple[str, str], Condition] = {}
    for one in shown:
        if one.sparsity:
            fresh = Condition(variant, one.pruner, one.recipe, dense(one.recipe))
            found.setdefault((one.pruner, one.recipe), fresh).columns[one.sparsity] = one.samples
    if not found:
        alone = shown[0]
        found["", ""] = Condition(variant, alone.pruner, alone.recipe, {0.0: alone.samples})
    return sorted(found.values(), key=lambda c: (not as_loaded(c.recipe), c.recipe, c.pruner))


def _keys(conditions: Sequence[Condition]) -> list[str]:
    """Return the keys of all samples, those that most conditions have first."""
    counts: dict[str, int] = {}
    for condition in conditions:
        for samples in condition.columns.values():
            for key in samples:
                counts[key] = counts.get(key, 0) + 1
    return sorted(counts, key=lambda key: -counts[key])
