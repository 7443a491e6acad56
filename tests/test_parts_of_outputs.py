"""Outputs in parts: the same values as at once, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from click import BadParameter
from kit.cache import NoCache
from kit.interpretability import pictures, tiny
from kit.methods import look_up
from kit.runs import measured as table_of_values
from kit.runs import run as run_suite
from pruningbench_interpretability.mapstore import MapStore
from pruningbench_interpretability.task import Interpretability

from pruningbench.cli.common import parse_memory
from pruningbench.contract import Attributions, Context, Metric, Outputs, Task, Use, VisionModel
from pruningbench.errors import PluginError, UsageError
from pruningbench.harness.measure import Measured, measure
from pruningbench.leaderboard.results import load_results
from pruningbench.plugins import Registry, load_registry
from pruningbench.suite.binding import bind
from pruningbench.suite.cells import TaskRun

COUNT, BATCH = 23, 4
LITTLE = 1
"""Bytes so few that each batch is a part of its own."""


def attribution_metrics() -> list[Use]:
    registry = load_registry()
    uses = [bind(registry, "metric", name) for name in registry.names("metric")]
    return [use for use in uses if isinstance(use.component, Metric) and use.component.consumes is Attributions]


def context(memory: int, *, whole: bool = False) -> Context:
    samples = pictures(COUNT)
    return Context(
        torch.device("cpu"), 7, NoCache(), lambda reference: samples, batch_size=BATCH, memory=memory, whole=whole,
        dense=dense_twin(), component=look_up,
    )  # fmt: skip


def dense_twin() -> VisionModel:
    """A model that answers alike for most images."""
    twin = tiny()
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in twin.network.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=draw)
    return twin


def measured(task: Interpretability, memory: int, metrics: list[Use]) -> tuple[Measured, int]:
    parts = []

    class Watched(Interpretability):
        def run(self, model: VisionModel, context: Context) -> Iterator[tuple[str, Attributions]]:
            for label, outputs in super().run(model, context):
                parts.append(len(outputs.maps))
                yield label, outputs

    watched = Watched(**{field.name: getattr(task, field.name) for field in fields(task)})
    use = replace(bind(load_registry(), "task", {"use": "interpretability", "data": "digits"}), component=watched)
    found = measure(TaskRun("interpretability", use, tuple(metrics)), tiny(), context(memory))
    return found, max(parts)


@pytest.mark.parametrize("target", ["predicted", "dense", "label"])
@pytest.mark.parametrize("samples", ["all", "correct", "correct-dense", "correct-both"])
def test_values_do_not_depend_on_parts(samples: Any, target: Any) -> None:
    quick = [use for use in attribution_metrics() if use.name in ("gini", "deletion", "relevance-mass", "map-ssim")]
    assert len(quick) == 4
    agree(Interpretability("pictures", methods=("saliency", "smoothgrad"), samples=samples, target=target), quick)


def test_no_metric_of_maps_depends_on_parts() -> None:
    metrics = attribution_metrics()
    assert len(metrics) > 12
    found = agree(Interpretability("pictures", methods=("integrated-gradients",), samples="correct-both"), metrics)
    assert len(found.measurements) > 12


def agree(task: Interpretability, metrics: list[Use]) -> Measured:
    whole, most = measured(task, 1 << 30, metrics)
    parts, most_of_parts = measured(task, LITTLE, metrics)
    assert most > BATCH >= most_of_parts
    assert whole.measurements
    for one, other in zip(whole.measurements, parts.measurements, strict=True):
        assert repr(one) == repr(other)
    assert whole.samples.keys() == parts.samples.keys()
    for name, array in whole.samples.items():
        np.testing.assert_array_equal(array, parts.samples[name], err_msg=name)
    assert [(f.variant, f.metric) for f in whole.failures] == [(f.variant, f.metric) for f in parts.failures]
    assert (whole.inapplicable, whole.exhibits.keys()) == (parts.inapplicable, parts.exhibits.keys())
    return whole


@dataclass(frozen=True)
class Numbers(Outputs):
    numbers: torch.Tensor

    @property
    def count(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True)
class Counting(Task):
    """Yields 0 to 9 in parts of a size."""

    size: int = 3
    declared: bool = True

    def run(self, model: VisionModel, context: Context) -> Iterator[tuple[str, Numbers]]:
        for start in range(0, 10, 10 if context.whole else self.size):
            part = torch.arange(10.0)[start : start + (10 if context.whole else self.size)]
            yield "", Numbers(part, part=self.declared and not context.whole)


@dataclass(frozen=True)
class Mean(Metric):
    consumes = Numbers

    def values(self, outputs: Numbers) -> torch.Tensor:
        return outputs.numbers

    def chance(self, outputs: Numbers) -> torch.Tensor:
        return outputs.numbers / 2


@dataclass(frozen=True)
class Drawn(Mean):
    """Draws from the global generator, as a careless plugin does."""

    def values(self, outputs: Numbers) -> torch.Tensor:
        return torch.rand(len(outputs.numbers))


@dataclass(frozen=True)
class Centred(Mean):
    joint: ClassVar[bool] = True

    def values(self, outputs: Numbers) -> torch.Tensor:
        return outputs.numbers - outputs.numbers.mean()


@dataclass(frozen=True)
class FailsLate(Mean):
    def values(self, outputs: Numbers) -> torch.Tensor:
        if outputs.numbers[-1] > 5:
            raise ValueError("no")
        return outputs.numbers


def counted(metric: Metric, **options: Any) -> Measured:
    use = Use("counting", Counting(**options), {}, "", "")
    uses = (Use("mean", Mean(), {}, "", ""), Use("own", metric, {}, "", ""))
    return measure(TaskRun("counting", use, uses), tiny(), context(1, whole=metric.joint))


def test_metrics_of_plugins() -> None:
    """The numbers are those of all samples, also of a metric that draws; one that fails on a part has none."""
    for metric in (Mean(), Drawn()):
        torch.manual_seed(0)
        at_once = counted(metric, size=10)
        torch.manual_seed(0)
        in_parts = counted(metric, size=3)
        assert repr(at_once.measurements) == repr(in_parts.measurements)
        assert at_once.measurements[0].estimate.value == 4.5
        assert (at_once.measurements[0].estimate.n, at_once.measurements[0].chance) == (10, 2.25)
    failed = counted(FailsLate())
    assert [m.metric for m in failed.measurements] == ["mean"]
    assert [(f.variant, f.metric) for f in failed.failures] == [("", "own")], "it is said once"
    assert counted(Centred()).measurements[1].estimate.value == 0, "it has seen all samples at once"


def test_a_variant_that_comes_twice_without_saying_so_is_refused() -> None:
    with pytest.raises(PluginError, match="yielded variant '' twice"):
        counted(Mean(), declared=False)


def test_maps_are_made_once_and_go_to_a_file_if_they_are_many() -> None:
    made: list[int] = []

    def explain(index: Any) -> torch.Tensor:
        made.extend(index)
        return torch.tensor(list(index), dtype=torch.float32).view(-1, 1, 1).expand(-1, 2, 3)

    for memory, on_disk in ((10 * 6 * 4, False), (10 * 6 * 4 - 1, True)):
        made.clear()
        store = MapStore(explain, 10, 4, memory)
        assert store.rows([9, 1])[:, 0, 0].tolist() == [9, 1]
        assert made == [0, 1, 2, 3, 8, 9], "whole batches, as if all were made"
        assert store.rows([5, 0, 5]).shape == (3, 2, 3)
        assert made == [0, 1, 2, 3, 8, 9, 4, 5, 6, 7]
        assert store.on_disk is on_disk


@pytest.mark.parametrize(("text", "size"), [("8GB", 8 << 30), ("1.5 gb", 3 << 29), ("500MiB", 500 << 20), ("2T b", None),
                                            ("8", None), ("-1GB", None), ("GB", None), ("nanGB", None)])  # fmt: skip
def test_sizes_have_units(text: str, size: int | None) -> None:
    if size is None:
        with pytest.raises(BadParameter, match="must be a size with its unit"):
            parse_memory(None, None, text)  # type: ignore[arg-type]
    else:
        assert parse_memory(None, None, text) == size  # type: ignore[arg-type]


def test_a_run_with_little_memory_has_the_same_values(toy_registry: Registry, tmp_path: Any) -> None:
    text = """
name: little
models: [digits-vit]
pruners: [magnitude]
sparsities: [0, 0.5]
limit: 40
batch_size: 8
tasks:
  - {use: interpretability, data: {use: digits, split: test}, methods: [saliency, grad-cam], samples: correct-both}
metrics: [map-ssim]
"""
    run_suite(text, toy_registry, tmp_path / "much")
    run_suite(text, toy_registry, tmp_path / "little", memory=1 << 20)
    much, little = (table_of_values(load_results(tmp_path / name)) for name in ("much", "little"))
    pd.testing.assert_frame_equal(much, little, check_exact=True)
    assert set(much["variant"]) == {"saliency", "grad-cam"}
    assert (much["metric"] == "map-ssim").sum() == 4
    assert (much[much["sparsity"] == 0.5]["n"] == 0).all(), "of the collapsed network nothing is correct"
    with pytest.raises(UsageError, match=r"--memory 8 bytes: must be at least 1 MB"):
        run_suite(text, toy_registry, tmp_path / "none", memory=8)
