"""Which samples are taken, and the fingerprints that tell selections apart."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.cases import cases
from kit.files import class_folders, opened, save
from pruningbench_data import _digests
from pruningbench_data._sampling import Sampled
from pruningbench_data.folder import Folder

from pruningbench.contract import Samples
from pruningbench.errors import UsageError

pytestmark = pytest.mark.usefixtures("root")

# ---- sampling ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Toy(Sampled):
    def load(self, context: object) -> Samples:
        raise NotImplementedError


@st.composite
def labelled(draw: st.DrawFn) -> tuple[list[str], list[int], list[str]]:
    names = ["a", "b", "c", "d"][: draw(st.integers(1, 4))]
    labels = draw(st.lists(st.integers(0, len(names) - 1), min_size=1, max_size=60))
    return [f"{names[label]}/{i}" for i, label in enumerate(labels)], labels, names


@cases(60)
@given(
    data=labelled(), limit=st.integers(1, 70), more=st.integers(0, 20), seed=st.integers(0, 5), balanced=st.booleans()
)
def test_a_smaller_limit_takes_a_part_of_a_larger_one(
    data: tuple[list[str], list[int], list[str]], limit: int, more: int, seed: int, balanced: bool
) -> None:
    keys, labels, names = data
    few = Toy(limit=limit, seed=seed, balanced=balanced).chosen(keys, labels, names)
    many = Toy(limit=limit + more, seed=seed, balanced=balanced).chosen(keys, labels, names)
    assert len(few.positions) == min(limit, len(keys))
    assert set(few.positions) <= set(many.positions)
    assert list(few.positions) == sorted(few.positions)
    assert [labels[i] for i in few.positions] == list(few.labels)
    # which ones are taken depends on keys alone, not on their order
    turned = Toy(limit=limit, seed=seed, balanced=balanced).chosen(keys[::-1], labels[::-1], names)
    assert {keys[::-1][i] for i in turned.positions} == {keys[i] for i in few.positions}


@cases(60)
@given(data=labelled(), limit=st.none() | st.integers(1, 70))
def test_balance_is_as_even_as_the_data_allows(data: tuple[list[str], list[int], list[str]], limit: int | None) -> None:
    keys, labels, names = data
    there = Counter(labels)
    taken = Counter(Toy(limit=limit, balanced=True).chosen(keys, labels, names).labels)
    if limit is None:
        assert set(taken.values()) == {min(there.values())}
    free = [taken[label] for label in range(len(names)) if taken[label] < there[label]]
    if free:
        assert max(free) - min(free) <= 1
        assert max(taken.values()) <= min(free) + 1


def test_seeds_take_other_samples_and_no_limit_takes_all() -> None:
    keys, labels = [str(i) for i in range(100)], [0] * 100
    picks = {Toy(limit=10, seed=seed).chosen(keys, labels, ["x"]).positions for seed in range(20)}
    assert len(picks) == 20
    assert Toy(seed=3).chosen(keys, labels, ["x"]).positions == tuple(range(100))
    # pinned, so that results do not silently change between versions or machines
    assert Toy(limit=5).chosen(keys, labels, ["x"]).positions == (8, 14, 49, 57, 60)


def test_classes_are_kept_in_the_order_named() -> None:
    choice = Toy(classes=("c", "a")).chosen(list("pqrst"), [0, 1, 2, 0, 2], ["a", "b", "c"])
    assert (choice.positions, choice.labels, choice.classes) == ((0, 2, 3, 4), (1, 0, 1, 0), ("c", "a"))
    with pytest.raises(UsageError, match=r"no class 'tulp'; did you mean 'tulip'\?"):
        Toy(classes=("tulp",)).chosen(["x"], [0], ["tulip"])
    with pytest.raises(UsageError, match="no sample belongs to the classes"):
        Toy(classes=("b",)).chosen(["x"], [0], ["a", "b"])


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"limit": 0}, "limit"), ({"seed": -1}, "seed"), ({"classes": ()}, "empty"), ({"classes": ("a", "a")}, "repeat")],
)
def test_bad_sampling_is_refused(fields: dict[str, Any], words: str) -> None:
    assert words in (Toy(**fields).problem() or "")


# ---- fingerprints ------------------------------------------------------------------------------------


def test_a_fingerprint_follows_content_names_and_labels(root: Path) -> None:
    class_folders(root / "mine", {"a": 2, "b": 1})
    first = opened(Folder(path="mine")).fingerprint
    assert opened(Folder(path="mine")).fingerprint == first
    (root / "mine").rename(root / "elsewhere")
    assert opened(Folder(path="elsewhere")).fingerprint == first  # where it stands does not matter
    save(root / "elsewhere/a/0.png", 99)
    changed = opened(Folder(path="elsewhere")).fingerprint
    save(root / "elsewhere/a/0.png", 0)
    assert opened(Folder(path="elsewhere")).fingerprint == first
    (root / "elsewhere/a").rename(root / "elsewhere/c")
    prints = {first, changed, opened(Folder(path="elsewhere")).fingerprint,
              opened(Folder(path="elsewhere", limit=2)).fingerprint,
              opened(Folder(path="elsewhere", classes=("b",))).fingerprint}  # fmt: skip
    assert len(prints) == 5


def test_unchanged_files_are_hashed_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_folders(root / "mine", {"a": 3})
    monkeypatch.setattr(_digests, "SETTLED", -1.0)
    hashed: list[str] = []
    really_hash = _digests._hash
    monkeypatch.setattr(_digests, "_hash", lambda name: hashed.append(name) or really_hash(name))
    first = opened(Folder(path="mine")).fingerprint
    assert opened(Folder(path="mine")).fingerprint == first
    assert len(hashed) == 3
    path = root / "mine/a/1.png"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"?")  # as many bytes as before
    assert opened(Folder(path="mine")).fingerprint != first
    assert len(hashed) == 4


def test_files_changed_just_now_are_hashed_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_folders(root / "mine", {"a": 1})
    hashed: list[str] = []
    really_hash = _digests._hash
    monkeypatch.setattr(_digests, "_hash", lambda name: hashed.append(name) or really_hash(name))
    opened(Folder(path="mine"))
    opened(Folder(path="mine"))
    assert len(hashed) == 2  # a change within the clock's tick would go unnoticed otherwise


def test_large_selections_are_told_apart_by_names_and_sizes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_folders(root / "mine", {"a": 2})
    monkeypatch.setattr(_digests, "CONTENT_LIMIT", 10)
    monkeypatch.setattr(_digests, "_hash", lambda _name: pytest.fail("content was read"))
    first = opened(Folder(path="mine")).fingerprint
    (root / "mine/a/0.png").write_bytes(b"x" + (root / "mine/a/0.png").read_bytes())
    assert opened(Folder(path="mine")).fingerprint != first


def test_digests_without_a_cache_cost_time_only(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_folders(root / "mine", {"a": 1})
    first = opened(Folder(path="mine")).fingerprint
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PRUNINGBENCH_CACHE", str(tmp_path / "file"))
    assert opened(Folder(path="mine")).fingerprint == first


@given(st.lists(st.text(), min_size=1, max_size=4), st.lists(st.text(), min_size=1, max_size=4))
def test_fingerprints_do_not_mix_up_where_parts_end(a: list[str], b: list[str]) -> None:
    assert (_digests.fingerprint(a) == _digests.fingerprint(b)) == (a == b)
    assert _digests.fingerprint(a, b) != _digests.fingerprint([*a, *b])
