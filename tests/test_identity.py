"""Canonical JSON, hashes and derived seeds."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruningbench.base.identity import canonical_json, content_hash, derive_seed

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def reversed_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(item) for item in value] if isinstance(value, list) else value


@given(json_values)
def test_order_of_keys_does_not_matter_and_the_text_says_the_same(value: Any) -> None:
    text = canonical_json(value)
    assert text == canonical_json(reversed_keys(value))
    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text
    assert text.isascii()


@given(json_values, json_values)
def test_equal_text_means_equal_values(a: Any, b: Any) -> None:
    if canonical_json(a) == canonical_json(b):
        assert a == b
    else:
        assert content_hash(a, length=64) != content_hash(b, length=64)
        assert derive_seed(a) != derive_seed(b)


def test_the_text_is_pinned() -> None:
    value = {"b": (1, 2.0, True, None), "a": {"é": 1e-7, "sparsity": 0.1}}
    assert canonical_json(value) == '{"a":{"sparsity":0.1,"\\u00e9":1e-07},"b":[1,2.0,true,null]}'
    assert content_hash(value) == hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]
    assert derive_seed("a", 1) == 697930202312019326  # results of earlier versions depend on it


def test_minus_zero_is_zero_and_a_float_is_no_integer() -> None:
    assert canonical_json(-0.0) == canonical_json(0.0) == "0.0"
    assert len({canonical_json(v) for v in (1, 1.0, True, "1")}) == 4


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_equal_to_nothing_has_no_identity(value: float) -> None:
    with pytest.raises(ValueError, match="cannot be part of an identity"):
        canonical_json({"a": [value]})


@pytest.mark.parametrize("value", [{1: 2}, {None: 1}, {"a": {2, 3}}, [object()], b"bytes", 1j])
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        canonical_json(value)


@given(st.lists(json_values, max_size=3))
def test_seeds_fit_every_generator(parts: list[Any]) -> None:
    seed = derive_seed(*parts)
    assert 0 <= seed < 2**63
    assert seed == derive_seed(*parts)


def test_seeds_of_neighbours_differ() -> None:
    seeds = {derive_seed("pruner", seed, layer) for seed in range(50) for layer in range(50)}
    assert len(seeds) == 2500
    assert len({derive_seed(), derive_seed(None), derive_seed([]), derive_seed("a", "b"), derive_seed("ab")}) == 5
