"""The front page: the question, the answers, and why to believe them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from pruningbench.leaderboard.contests import contests
from pruningbench.leaderboard.rows import Board
from pruningbench.leaderboard.summary import rank_sentences, spot_sentences
from pruningbench.site.files import File
from pruningbench.site.heat import answer_files
from pruningbench.site.html import Content, Html, Page, e, join
from pruningbench.site.links import page_of
from pruningbench.site.parts import BOARD_SCRIPTS, segments
from pruningbench.site.source import Source

SPOTS = 8
"""Most sweet spots that the front page spells out."""
EXPLAINED = (
    "Each cell is the paired difference to the dense reference of the same recipe, divided by what that reference has "
    "over chance (over zero where a metric has no chance level), and turned so that more is better: 0 % is the dense "
    "reference, −100 % is chance. An ability is the mean over its tasks of their main metrics; a metric that was "
    "measured on less than half as many rows as another one of the ability is left out of the mean.",
    "▲▼: at least one metric is significantly better or worse than dense (p ≤ .05, Holm's correction over the model's "
    "whole table). Hatched with †: at chance, so it has no rank. –: not measured, or dense itself is at chance.",
    "Best: the highest measured value among the pruners in view that are above chance. Significantly ahead: the paired "
    "difference to another pruner has p ≤ .05 after correction for all pairs, because the best is chosen by looking.",
    "Kept up to: the largest measured sparsity below the first one at which the metric is lost, that is shown to be "
    "worse than dense by more than one point. In brackets: up to where it is shown to be kept, and where it is lost. "
    "Undecided: the samples are too few to show either. "
    "★: sweet spots, where the metric is significantly better than dense while accuracy is kept within one point.",
)


def pages(source: Source) -> Iterator[Page | File]:
    """Yield the front page and its data."""
    yield from answer_files(source)
    yield Page(
        "index.html",
        "Which pruner keeps which ability?",
        _body(source),
        scripts=(*BOARD_SCRIPTS, "assets/heat.js", "assets/front.js"),
        data=("boards", "answers-0") if source.boards else ("boards",),
        intro="What is left of a vision model after pruning, at which sparsity, for which model, and how sure that is.",
    )


def _body(source: Source) -> Html:
    controls = e(
        "form",
        e("div", id="boards"),
        segments("model", "Model", ()),
        segments("recipe", "Recipe", ()),
        e(
            "div",
            e("label", "Sparsity ", e("output", id="shown", for_="sparsity"), for_="sparsity"),
            e("input", type="range", id="sparsity", min="0", max="0", step="1", value="0"),
            e("div", id="ticks", class_="ticks", aria_hidden="true"),
            class_="field slider",
        ),
        class_="controls",
        id="controls",
    )
    answers = e(
        "section",
        controls,
        e("div", id="map"),
        e("div", id="scale", class_="scale"),
        e("h2", "Best", id="best-title"),
        e("ul", id="best", class_="answers", aria_live="polite"),
        e("div", id="opened"),
        e("h2", "Kept up to", id="kept-title"),
        e("div", id="kept"),
        id="answers",
    )
    noscript = e("noscript", e("p", "This page needs scripts; they are files of this folder."))
    explained = e("details", e("summary", "How to read this"), [e("p", text, class_="note") for text in EXPLAINED])
    return join([answers, explained, noscript, _findings(source), _sure(source)])


def _findings(source: Source) -> Html | None:
    """Sweet spots and ranks in sentences, for people who will read nothing else."""
    items = []
    for board, spots in zip(source.boards, source.spots, strict=True):
        said = [
            *spot_sentences(spots, SPOTS),
            *rank_sentences(contests(board, draws=0)),
            *board.statements,
        ]
        title = e("h3", board.title) if len(source.boards) > 1 else None
        items.append(join([title, e("ul", [e("li", sentence) for sentence in said])]))
    return e("section", e("h2", "Sweet spots and ranks"), items) if items else None


def _sure(source: Source) -> Html:
    """Why to believe the answers: what was measured how often, what is marked, and the runs behind it."""
    return e("section", e("h2", "Why believe this"), [_facts(board) for board in source.boards], _runs(source))


def _facts(board: Board) -> Html:
    pruned = [row for row in board.rows if not row.dense]
    seeds = Counter(len(row.seeds) for row in pruned)
    samples = [entry.n for row in board.rows for entry in row.cells.values() if entry.n]
    facts: list[Content] = [
        f"{_count(len(pruned), 'pruned network')} of {_count(len({row.model for row in board.rows}), 'model')}, each "
        f"compared with a dense reference on the same samples; {_seeds(seeds)}.",
    ]
    if samples:
        facts.append(
            f"Each value has a 95 % interval over {min(samples)} to {max(samples)} samples"
            + (" and over seeds." if max(seeds, default=1) > 1 else "; one seed says nothing about other seeds.")
        )
    trust = Counter(row.trust for row in pruned)
    if any(trust):
        facts.append(
            "; ".join(
                f"{_count(n, 'network')} {word or 'from run folders that nobody else has checked'}"
                for word, n in trust.items()
            )
            + "."
        )
    collapsed = sum(row.collapsed for row in pruned)
    if collapsed:
        facts.append(f"{_count(collapsed, 'network')} collapsed to chance: shown, but never best.")
    if board.failed:
        facts.append(f"{_count(len(board.failed), 'task')} gave no values: see the pages of the runs.")
    facts += board.notes
    return e("ul", [e("li", fact) for fact in facts])


def _runs(source: Source) -> Html:
    names = dict.fromkeys(source.run_names)
    links = [[", " if i else "", e("a", name, href=page_of("run", name))] for i, name in enumerate(names)]
    return e("p", "Everything can be repeated: suite, environment and data are on the page of ",
             "the run " if len(names) == 1 else "each run: ", links, ".")  # fmt: skip


def _count(number: int, one: str) -> str:
    return f"{number:,} {one}{'' if number == 1 else 's'}"


def _seeds(seeds: Counter[int]) -> str:
    if not seeds:
        return "no seeds"
    low, high = min(seeds), max(seeds)
    return _count(low, "seed") + " each" if low == high else f"{low} to {high} seeds"
