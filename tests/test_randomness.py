"""Random state is seeded inside a block and restored after it."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from pruningbench.base.randomness import generator_for, isolated_randomness

Draw = tuple[float, float, float]


def draw() -> Draw:
    return random.random(), float(np.random.random()), float(torch.rand(()))


def test_the_block_is_reproducible_and_leaves_no_trace() -> None:
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = [draw(), draw()]
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    first = draw()
    with isolated_randomness("fit", 3) as seed:
        inside = draw()
    assert [first, draw()] == expected
    with isolated_randomness("fit", 3) as again:
        assert draw() == inside
    assert again == seed
    with isolated_randomness("fit", 4):
        assert draw() != inside


def test_the_state_is_restored_when_the_block_raises() -> None:
    random.seed(2), np.random.seed(2), torch.manual_seed(2)
    expected = draw()
    random.seed(2), np.random.seed(2), torch.manual_seed(2)
    with pytest.raises(KeyError), isolated_randomness(0):
        draw()
        raise KeyError
    assert draw() == expected


def test_blocks_nest() -> None:
    with isolated_randomness(1):
        alone = [draw(), draw()]
    with isolated_randomness(1):
        before = draw()
        with isolated_randomness(2):
            draw()
        assert [before, draw()] == alone


def test_generators_depend_on_their_parts_only() -> None:
    a, b = generator_for(0, "conv1.weight"), generator_for(0, "conv1.weight")
    torch.manual_seed(5)
    assert torch.equal(torch.rand(9, generator=a), torch.rand(9, generator=b))
    others = [generator_for(1, "conv1.weight"), generator_for(0, "conv2.weight"), generator_for("0", "conv1.weight")]
    drawn = {tuple(torch.rand(4, generator=g).tolist()) for g in (generator_for(0, "conv1.weight"), *others)}
    assert len(drawn) == 4
