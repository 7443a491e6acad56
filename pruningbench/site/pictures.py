"""Pages of pictures: the same samples from dense to sparse, with one slider for all of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from pruningbench.base.identity import canonical_json
from pruningbench.base.text import displayable
from pruningbench.leaderboard.labels import compact, elide
from pruningbench.site.files import File
from pruningbench.site.frames import Box, Frame, SampleStrips, Strip
from pruningbench.site.html import Html, Page, e
from pruningbench.site.images import SMALL, Images, scale_bar
from pruningbench.site.links import page_of, slug
from pruningbench.site.parts import percent
from pruningbench.site.source import Source
from pruningbench.site.strips import Pictures, pictures_of
from pruningbench.store.runfolder import RunFolder

LONGEST = 60
"""Most characters of a label beside a picture."""
_EXPLAINED = {
    "maps": "Each map lies over its image and is divided by the 99th percentile of its own absolute values, the same "
    "rule for all maps, because the strength of maps often changes by orders of magnitude while they still point at "
    "the same place. “Strength” is that percentile as a multiple of the dense model's; what stands before it is the "
    "task's caption.",
    "boxes": "Solid: boxes that were found. Dashed: true boxes. IoU is the largest overlap of the first box found with "
    "any true box.",
    "concepts": "A row shows one concept by the crops in which it is most active. Rows of pruned models show the "
    "partner of the dense model's concept.",
}


@dataclass(frozen=True)
class PicturePage:
    """Address and subject of a page of pictures, for links from other pages."""

    address: str
    run: str
    task: str
    model: str
    kind: str

    @property
    def title(self) -> str:
        """Title of the page."""
        return f"Pictures: {elide(self.task, LONGEST)} on {elide(self.model, LONGEST)}"


def pages(source: Source, made: list[PicturePage]) -> Iterator[Page | File]:
    """Yield the pages of pictures of all runs with their files, and list the pages in `made`.

    Args:
        source: what the site is made from.
        made: gets one entry for each page.
    """
    images = Images()
    seen: dict[str, int] = {}
    for folder, name in zip(source.runs, source.run_names, strict=True):
        results = source.results[source.results["run"] == name]
        seen[name] = seen.get(name, 0) + 1  # not its path: addresses are the same on every machine
        for shown in pictures_of(RunFolder(folder), name, results, source.registry, images):
            named = canonical_json([name, seen[name], shown.task, shown.model, shown.kind])
            address = f"pictures/{slug(named, readable=f'{shown.task}-{shown.model}')}.html"
            about = PicturePage(address, name, shown.task, shown.model, shown.kind)
            made.append(about)
            yield _page(about, shown, images)
            yield from images.files()


def _page(about: PicturePage, shown: Pictures, images: Images) -> Page:
    explained = _EXPLAINED.get(shown.kind, "")
    body = [
        e("p", explained, class_="note") if explained else None,
        _legend(shown, images),
        [e("p", note, class_="note") for note in shown.notes],
        [_controls(shown), [_sample(shown, i, sample) for i, sample in enumerate(shown.samples)]]
        if shown.samples
        else None,
        [_drawing(about, variant, address) for variant, address in shown.drawings],
    ]
    intro = [
        "From ",
        e("a", elide(about.run, LONGEST), href=f"../{page_of('run', about.run)}"),
        ": the same samples under each pruner and recipe, from dense to sparse.",
    ]
    return Page(
        address=about.address,
        title=about.title,
        intro=intro,
        body=e("div", body, class_="pictures"),
        scripts=("assets/pictures.js",) if shown.samples else (),
        styles=("assets/details.css",),
        trail=(("pages.html", "Pages"), (page_of("task", about.task), elide(about.task, LONGEST)), ("", "pictures")),
        wide=True,
    )


def _legend(shown: Pictures, images: Images) -> Html | None:
    if shown.kind == "maps" and shown.samples:
        ends = ("−99th percentile", "+99th percentile") if shown.signed else ("0", "99th percentile")
        address = images.add(scale_bar(signed=shown.signed), "webp")
        bar = e("img", src=f"../{address}", alt=f"colours from {ends[0]} to {ends[1]}", width=160, height=12)
        return e("p", ends[0], " ", bar, " ", ends[1], class_="note colours")
    if shown.kind == "boxes" and shown.samples:
        signs = [
            [e("i", class_=f"sign {word}"), f" {said} "] for word, said in (("predicted", "found"), ("truth", "true"))
        ]
        return e("p", signs, class_="note colours")
    return None


def _controls(shown: Pictures) -> Html:
    last = len(shown.sparsities) - 1
    words = [_sparsity(sparsity) for sparsity in shown.sparsities]
    slider = e(
        "div",
        e("label", "Sparsity: ", e("output", words[0], for_="sparsity", id="chosen"), for_="sparsity"),
        e("input", type="range", id="sparsity", min=0, max=last, step=1, value=0, autocomplete="off",
          aria_valuetext=words[0], disabled=last == 0, data_values=json.dumps(shown.sparsities)),
        class_="field slider",
    )  # fmt: skip
    views = [("overlay", "Map over image"), ("map", "Map alone"), ("image", "Image alone")]
    view = _choice("view", "Show", [(value, word) for value, word in views]) if shown.kind == "maps" else None
    return e("div", slider, view, _samples(shown), _toggles(shown), class_="controls sticky")


def _samples(shown: Pictures) -> Html | None:
    if len(shown.samples) < 2:
        return None
    options = []
    for i, sample in enumerate(shown.samples):
        picture = (
            e("img", src=f"../{sample.image}", alt=sample.key, title=sample.key, width=44, height=44)
            if sample.image
            else sample.key
        )
        options.append((str(i), picture))
    return _choice(
        "sample", "Concept" if shown.kind == "concepts" else "Image", options, pictures=shown.kind != "concepts"
    )


def _choice(name: str, legend: str, options: Sequence[tuple[str, str]], *, pictures: bool = False) -> Html:
    """Return radio buttons that look like segments; the first is chosen."""
    buttons = [
        e("label",
          e("input", type="radio", name=name, value=value, checked=i == 0, autocomplete="off"), e("span", word))
        for i, (value, word) in enumerate(options)
    ]  # fmt: skip
    return e(
        "fieldset",
        e("legend", legend),
        e("div", buttons, class_=f"segments{' thumbs' if pictures else ''}"),
        class_="field",
    )


def _toggles(shown: Pictures) -> Html | None:
    """Return checkboxes that hide pruners, recipes and variants; None if there is only one of each."""
    strips = [strip for sample in shown.samples for strip in sample.strips]
    groups = []
    for kind, title in (("pruner", "Pruners"), ("recipe", "Recipes"), ("variant", "Variants")):
        labels = list(dict.fromkeys(getattr(strip, kind) for strip in strips))
        if len(labels) < 2:
            continue
        short = compact(labels)
        boxes = [
            e("label",
              e("input", type="checkbox", checked=True, autocomplete="off", data_kind=kind, data_label=_code(label)),
              f" {elide(short[label], LONGEST) or 'default'}", class_="check")
            for label in labels
        ]  # fmt: skip
        groups.append(e("fieldset", e("legend", title), boxes, class_="field"))
    return (
        e("details", e("summary", "Choose what is shown"), e("div", groups, class_="controls"), class_="choose")
        if groups
        else None
    )


def _sample(shown: Pictures, place: int, sample: SampleStrips) -> Html:
    def group(strip: Strip) -> tuple[str, str]:
        return strip.variant, strip.recipe

    blocks = []
    pruners = compact(strip.pruner for strip in sample.strips)
    several = len({strip.recipe for strip in sample.strips}) > 1
    for (variant, recipe), strips in groupby(sample.strips, key=group):
        listed = list(strips)
        title = " · ".join(
            filter(None, (elide(variant, LONGEST), f"recipe {elide(recipe, LONGEST)}" if several and recipe else ""))
        )
        figures = [_strip(shown, sample, strip, elide(pruners[strip.pruner], LONGEST)) for strip in listed]
        if listed[0].frames[0].sparsity == 0 and len(listed[0].frames) > 1 and listed[0].frames[0].state != "missing":
            figures = [_strip(shown, sample, listed[0], "dense", fixed=True), *figures]
        blocks.append(
            e("div", e("h3", title) if title else None, e("div", figures, class_="strips"), class_="block",
              data_variant=_code(variant), data_recipe=_code(recipe))
        )  # fmt: skip
    return e(
        "section",
        e("h2", sample.key),
        blocks,
        class_="sample",
        data_sample=place,
        hidden=place > 0,
        aria_label=f"sample {sample.key}",
    )


def _strip(shown: Pictures, sample: SampleStrips, strip: Strip, name: str, *, fixed: bool = False) -> Html:
    """Return one figure; a fixed one always shows its first frame."""
    frames = strip.frames[:1] if fixed else strip.frames
    subject = " · ".join(filter(None, (strip.variant, strip.pruner, strip.recipe)))
    width, height = sample.size
    small = " small" if max(width, height) <= SMALL else ""
    layers: list[Html | None] = [
        _image(sample.image, "base", width=width, height=height)
        if sample.image else e("canvas", class_="base", width=width, height=height),
        _image(strip.address, "layer") if strip.address else None,
        _drawn_boxes(frames) if shown.kind == "boxes" else None,
        e("span", _state_words(frames[0]), class_="state", hidden=frames[0].state == "shown"),
    ]  # fmt: skip
    described = [{"s": frame.sparsity, "w": _state_words(frame), "c": displayable(frame.caption)} for frame in frames]
    label = _alternative(shown, sample, subject, frames[0])
    picture = e("div", layers, class_=f"frame {shown.kind}{small}", role="img", aria_label=label)
    head = name if fixed or not strip.pruner else e("a", name, href=f"../{page_of('pruner', strip.pruner)}")
    caption = e("figcaption", e("strong", head), " ", e("span", frames[0].caption, class_="said"))
    return e(
        "figure", picture, caption,
        class_=f"strip n{len(strip.frames)}{' fixed' if fixed else ''}",
        data_frames=None if fixed else json.dumps(described),
        data_about=f"{_what(shown)} of {elide(sample.key, LONGEST)}, {elide(subject, 2 * LONGEST)}",
        data_pruner=_code(strip.pruner) if not fixed else None,
    )  # fmt: skip


def _image(address: str, word: str, **size: int) -> Html:
    """Return a picture that is loaded when it comes into view; its frame says what it shows."""
    return e("img", class_=word, src=f"../{address}", alt="", loading="lazy", decoding="async", **size)


def _alternative(shown: Pictures, sample: SampleStrips, subject: str, frame: Frame) -> str:
    about = f"{_what(shown)} of {elide(sample.key, LONGEST)}, {elide(subject, 2 * LONGEST)}"
    return ", ".join(filter(None, (about, _sparsity(frame.sparsity), _state_words(frame) or frame.caption)))


def _what(shown: Pictures) -> str:
    return {"maps": "attribution map", "boxes": "boxes", "concepts": "crops"}.get(shown.kind, "picture")


def _state_words(frame: Frame) -> str:
    return {"shown": "", "blank": "no signal", "missing": "not stored"}[frame.state]


def _sparsity(sparsity: float) -> str:
    return "dense" if sparsity == 0 else f"{percent(sparsity)} pruned"


def _code(label: str) -> str:
    """Return what scripts compare instead of a label."""
    return slug(label)


def _drawn_boxes(frames: Iterable[Frame]) -> Html:
    groups = [
        e("g",
          [_rectangle(box, "truth") for box in frame.truth], [_rectangle(box, "predicted") for box in frame.predicted],
          class_="frame-boxes" if i == 0 else "frame-boxes off")
        for i, frame in enumerate(frames)
    ]  # fmt: skip
    return e("svg", groups, width="100%", height="100%", aria_hidden="true", focusable="false")


def _rectangle(box: Box, word: str) -> Html:
    x0, y0, x1, y1 = (100 * side for side in box)
    place = {"x": x0, "y": y0, "width": max(x1 - x0, 0.0), "height": max(y1 - y0, 0.0)}
    return e("rect", class_=word, **{name: f"{value:.4g}%" for name, value in place.items()})


def _drawing(about: PicturePage, variant: str, address: str) -> Html:
    subject = ", ".join(filter(None, (about.task, variant, about.model)))
    words = f"drawing of {subject} by the plugin of the kind {about.kind}"
    image = e("img", src=f"../{address}", alt=elide(words, 300), loading="lazy", decoding="async", class_="drawing")
    return e("figure", image, e("figcaption", elide(variant or about.task, LONGEST)), class_="whole")
