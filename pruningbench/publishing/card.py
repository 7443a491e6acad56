"""The cards (README.md with metadata) of published results: one for the data set, one for the site."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pruningbench.errors import UsageError
from pruningbench.leaderboard.labels import elide
from pruningbench.leaderboard.markdown import escaped
from pruningbench.version import __version__

LARGEST_TABLE = 100_000
"""Number of characters of the tables from which the card only names their file."""
TAGS = ("pruning", "sparsity", "benchmark", "interpretability", "pruningbench")
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]{0,39}")
_MOST = 200
"""Largest number of submissions that the card lists."""


@dataclass(frozen=True)
class Entry:
    """What the card says about a submission: names, and the numbers of cells and measured values."""

    run: str
    suites: tuple[str, ...]
    models: tuple[str, ...]
    cells: int
    values: int
    versions: tuple[str, ...]


def check_licence(licence: str) -> str:
    """Return the identifier of a licence.

    Raises:
        UsageError: if it is not an identifier in lower case, as hubs use them.
    """
    if not _LICENCE.fullmatch(licence):
        raise UsageError(f"licence {licence[:60]!r} must be an identifier in lower case, for example cc-by-4.0 or mit")
    return licence


def dataset_card(repo: str, entries: Sequence[Entry], tables: str, *, licence: str, with_site: bool) -> str:
    """Return the card of the data set.

    Args:
        repo: ``OWNER/NAME``.
        entries: all submissions in the data set.
        tables: the leaderboard as Markdown.
        licence: identifier of the licence.
        with_site: whether there is a space of the same name.
    """
    suites = dict.fromkeys(suite for entry in entries for suite in entry.suites)
    metadata = {
        "license": licence,
        "pretty_name": elide("pruningbench: " + ", ".join(suites), 100),
        "tags": list(TAGS),
        "configs": [{"config_name": "measurements", "data_files": "measurements/*.parquet"}],
    }
    shown = tables if len(tables) <= LARGEST_TABLE else "The tables are in `tables/leaderboard.md`.\n"
    site = f"\nThe same results as pages to browse: the space [{repo}](/spaces/{repo}).\n" if with_site else ""
    return f"""{_front_matter(metadata)}
# Pruned vision models, measured by pruningbench

What pruning does to a vision model's representation, beyond accuracy. Each value comes with its per-sample values, the
suite that requested it, and the code, weights and data that it was made from. The values are those that the authors of
the submissions report; `pruningbench verify` checks a submission, and computes parts of it again.
{site}
## Use

```sh
pruningbench leaderboard hub:{repo}
pruningbench compare hub:{repo} runs/mine
```

```python
import pruningbench as pb

table = pb.load_results("hub:{repo}")  # add @COMMIT to fix the revision
```

`submissions/` holds one file per run, `measurements/` the same values without the per-sample values as parquet, and
`tables/` the leaderboard as Markdown and CSV.

## Submissions

{_listing(entries)}

## Leaderboard

{shown}
## Licence

{licence}. Made with pruningbench {__version__}.
"""


def space_card(repo: str, *, licence: str) -> str:
    """Return the card of the space that shows the site."""
    metadata = {
        "title": elide(f"pruningbench: {repo.partition('/')[2]}", 60),
        "emoji": "🔍",
        "colorFrom": "blue",
        "colorTo": "yellow",
        "sdk": "static",
        "app_file": "index.html",
        "pinned": False,
        "license": licence,
        "short_description": "What pruning does to vision models",
        "tags": list(TAGS),
        "datasets": [repo],
    }
    return f"""{_front_matter(metadata)}
# Pruned vision models, measured by pruningbench

The pages are made from the data set [{repo}](/datasets/{repo}) by `pruningbench publish`; changes belong there.
"""


def _front_matter(metadata: Mapping[str, Any]) -> str:
    import yaml

    return f"---\n{yaml.safe_dump(dict(metadata), sort_keys=False, allow_unicode=True, width=1000)}---\n"


def _listing(entries: Sequence[Entry]) -> str:
    lines = ["| submission | suite | models | cells | values | pruningbench |", "| :-- | :-- | :-- | --: | --: | :-- |"]
    for entry in entries[:_MOST]:
        names = (entry.run, ", ".join(entry.suites), ", ".join(entry.models))
        cells = [*(escaped(elide(name, 80)) for name in names), f"{entry.cells:,}", f"{entry.values:,}",
                 escaped(elide(", ".join(entry.versions), 40))]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    more = [f"\n… and {len(entries) - _MOST:,} more."] if len(entries) > _MOST else []
    return "\n".join([*lines, *more])
