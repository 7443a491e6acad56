"""Publishes results: a data set with submissions, tables and a card, and a space that shows them as a site."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pruningbench.base.reading import one_line
from pruningbench.errors import UsageError
from pruningbench.plugins import Registry
from pruningbench.publishing.card import check_licence, space_card
from pruningbench.publishing.dataset import Item, check_extra, dataset_files, without_superseded
from pruningbench.publishing.gathering import gather, is_site, site_content
from pruningbench.publishing.hub import BRANCH, Edit, Hub
from pruningbench.site.build import site_files
from pruningbench.site.source import load_source
from pruningbench.store.hub import FOLDER, ask_listing, fetch_listed
from pruningbench.store.hubclient import Kind, is_repo
from pruningbench.store.origins import from_published

_KEPT = frozenset({".gitattributes", ".gitignore"})
"""Files of a space that a new site leaves alone."""


@dataclass(frozen=True)
class Pushed:
    """A repository after a publication.

    Attributes:
        kind: ``dataset`` or ``space``.
        page: address of its page; "" in a dry run.
        commit: its commit, 40 hex digits; "" in a dry run.
        sizes: size in bytes of each file, by name.
        deleted: names of the files that were removed.
    """

    kind: Kind
    page: str
    commit: str
    sizes: dict[str, int] = field(default_factory=dict)
    deleted: tuple[str, ...] = ()


def publish(
    folder: Path,
    repo: str,
    registry: Registry,
    *,
    private: bool = False,
    with_site: bool = True,
    licence: str = "cc-by-4.0",
    message: str = "",
    replace: bool = False,
    dry_run: bool = False,
) -> list[Pushed]:
    """Publish the runs and submissions in a folder, or a site.

    The data set ``repo`` gets the submissions in one commit, together with the tables and the card of everything that
    it then holds. The space of the same name gets the site of the same results in another commit. If somebody else
    commits meanwhile, tables and site are made again from what is there then, so that nothing is lost.

    Args:
        folder: a run folder, a submission, a folder of several, or a site, of which only the space is made.
        repo: ``OWNER/NAME``.
        registry: the installed components.
        private: create private repositories, and refuse public ones.
        with_site: make the space.
        licence: identifier of the licence of the results.
        message: of the commits; names the submissions by default.
        replace: remove submissions that are there if a new one holds all their values: earlier states of a run.
        dry_run: neither ask the hub nor write anything; the tables and the site are those of `folder` alone.

    Returns:
        One element per repository.

    Raises:
        UsageError: if there is nothing to publish, `repo` is not OWNER/NAME, there is no token, or pyarrow is missing.
        PublishError: if the hub refuses it. FetchError: if what is published there already cannot be read.
    """
    if not is_repo(repo):
        raise UsageError(f"repo {one_line(repo, 100)!r} must be OWNER/NAME")
    check_licence(licence)
    if is_site(folder):
        if not with_site:
            raise UsageError(f"{folder}: is a site, so that nothing is left to publish without it")
        files = site_content(folder)
        return [_only_site(repo, files, private=private, licence=licence, message=message, dry_run=dry_run)]
    check_extra()
    with tempfile.TemporaryDirectory(prefix="pruningbench-") as room:
        items = gather(folder, registry, Path(room))
        work = _Publication(
            repo, items, registry, licence=licence, with_site=with_site, message=message, replace=replace
        )
        return work.preview() if dry_run else work.carry_out(private=private)


class _Publication:
    """Submissions on their way to a data set and a space."""

    def __init__(
        self,
        repo: str,
        items: Sequence[Item],
        registry: Registry,
        *,
        licence: str,
        with_site: bool,
        message: str,
        replace: bool,
    ) -> None:
        self.repo, self.items, self.registry = repo, items, registry
        self.licence, self.with_site, self.replace = licence, with_site, replace
        self.message = message or one_line("Publish " + ", ".join(item.run for item in items), 120)

    def preview(self) -> list[Pushed]:
        """Return what would be published if nothing were there yet."""
        files = self._dataset_files([])
        pushed = [Pushed("dataset", "", "", _sizes(files))]
        if self.with_site:
            pushed.append(Pushed("space", "", "", _sizes(self._site([item.path for item in self.items]))))
        return pushed

    def carry_out(self, *, private: bool) -> list[Pushed]:
        """Publish, and return the commits."""
        hub = Hub()
        kinds: list[Kind] = ["dataset", "space"] if self.with_site else ["dataset"]
        for kind in kinds:
            hub.make(kind, self.repo, private=private)
        pushed = []
        for kind in kinds:
            prepare = self._dataset_edit if kind == "dataset" else self._space_edit
            commit, edit = hub.push(kind, self.repo, prepare, self.message)
            page = hub.page(kind, self.repo)
            pushed.append(Pushed(kind, page, commit, _sizes(edit.files), tuple(sorted(edit.deleted))))
        return pushed

    def _dataset_edit(self) -> Edit:
        commit, listing = ask_listing(self.repo, BRANCH)
        published = fetch_listed(self.repo, commit, listing)
        opened = from_published(published)
        there = {
            f"{FOLDER}/{path.name}": Item(path, origin.run)
            for path, origin in zip(published.files, opened, strict=True)
        }
        kept = without_superseded(there.values(), self.items) if self.replace else list(there.values())
        files = self._dataset_files(kept)
        gone = {part for name, item in there.items() if item not in kept for part in (name, item.table)}
        return Edit(commit, listing, files, frozenset(gone & listing.keys() - files.keys()))

    def _dataset_files(self, others: Sequence[Item]) -> dict[str, bytes]:
        return dataset_files(
            self.repo, self.items, others, licence=self.licence, registry=self.registry, with_site=self.with_site
        )

    def _space_edit(self) -> Edit:
        head, pages = ask_listing(self.repo, BRANCH, "space")  # before the data set: no newer site is ever replaced
        commit, listing = ask_listing(self.repo, BRANCH)
        files = self._site(fetch_listed(self.repo, commit, listing).files)
        return Edit(head, pages, files, frozenset(pages.keys() - files.keys() - _KEPT))

    def _site(self, paths: Sequence[Path]) -> dict[str, bytes]:
        files = {file.address: file.content for file in site_files(load_source(paths, registry=self.registry))}
        return {**files, "README.md": space_card(self.repo, licence=self.licence).encode()}


def _only_site(
    repo: str, files: dict[str, bytes], *, private: bool, licence: str, message: str, dry_run: bool
) -> Pushed:
    content = {**files, "README.md": space_card(repo, licence=licence).encode()}
    if dry_run:
        return Pushed("space", "", "", _sizes(content))
    hub = Hub()
    hub.make("space", repo, private=private)

    def prepare() -> Edit:
        head, pages = ask_listing(repo, BRANCH, "space")
        return Edit(head, pages, content, frozenset(pages.keys() - content.keys() - _KEPT))

    commit, edit = hub.push("space", repo, prepare, message or "Publish the site")
    return Pushed("space", hub.page("space", repo), commit, _sizes(content), tuple(sorted(edit.deleted)))


def _sizes(files: Mapping[str, bytes]) -> dict[str, int]:
    return {name: len(content) for name, content in sorted(files.items())}
