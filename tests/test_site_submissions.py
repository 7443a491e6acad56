"""Sites of submissions: the pages say who has checked them, and hold nothing of the machine that reads them."""

from __future__ import annotations

from pathlib import Path

from kit.sites import active_content, broken_links, pages_of, parsed
from kit.submissions import digest_of, finished, members, submitted

from pruningbench.plugins import Registry
from pruningbench.site import build_site
from pruningbench.store.trust import VALUES, Outcome, Verification, write_verification

__all__ = ["finished", "members", "submitted"]  # fixtures of the kit


def test_a_run_page_says_whether_its_submission_was_checked(
    submitted: Path, tmp_path: Path, toy_registry: Registry
) -> None:
    digest = digest_of(submitted)
    words = {}
    for place in ("before", "after"):
        build_site([submitted], tmp_path / place, registry=toy_registry)
        (page,) = (tmp_path / place / "run").iterdir()
        words[place] = parsed(page).words
        write_verification(
            submitted,
            Verification(submission=digest, pruningbench="1", checks=[Outcome(name=VALUES, passed=True, detail="")]),
        )
    assert "Origin self-reported" in words["before"] and "Origin checked" in words["after"]
    assert all(digest in said for said in words.values())


def test_a_site_of_a_submission_is_whole_and_private(submitted: Path, tmp_path: Path, toy_registry: Registry) -> None:
    build_site([submitted], tmp_path / "site", registry=toy_registry)
    assert broken_links(tmp_path / "site") == [] and active_content(tmp_path / "site") == []
    for file in (tmp_path / "site").rglob("*"):
        if file.suffix in (".html", ".js", ".json"):
            assert str(tmp_path) not in file.read_text("utf-8"), file
    model = next(page for page in pages_of(tmp_path / "site") if page.parent.name == "model")
    assert "toy-net" in parsed(model).words
