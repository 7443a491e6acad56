"""What represents a patch by default: as published for each family of networks, and stored as it was resolved."""

from __future__ import annotations

from pathlib import Path

import pytest
from kit.discovery import Patchy, context, scenes
from kit.runs import run
from pruningbench_discovery.task import Discovery, facet_for
from pruningbench_timm.build import FAMILIES, family_of, known_source, on_meta
from torch import Tensor, nn

from pruningbench.contract import Boxes, Preprocessing
from pruningbench.plugins import Registry, load_registry
from pruningbench.store.journal import read_journal
from pruningbench.suite.binding import bind

SUITE = """\
name: facets
models: [{use: digits-vit, plain_epochs: 0, epochs: 1}]
pruners: [magnitude]
sparsities: [0, 0.5]
recipes: [none]
tasks:
  - {use: discovery, data: {use: digit-scenes, count: 8}, method: lost}
"""
PUBLISHED = {
    "vit_small_patch16_224.dino": ("dino", "keys"),
    "vit_base_patch14_dinov2.lvd142m": ("dinov2", "keys"),
    "vit_base_patch14_reg4_dinov2.lvd142m": ("dinov2", "keys"),
    "deit3_base_patch16_224.fb_in22k_ft_in1k": ("deit", "values"),
    "vit_base_patch16_clip_224.openai": ("clip", "values"),
    "vit_base_patch16_224.augreg_in21k_ft_in1k": ("", "keys"),
    "resnet50_clip.openai": ("", "keys"),  # no values without attention
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_auto_is_what_is_published_for_the_weights(name: str) -> None:
    """Darcet et al., Vision transformers need registers (ICLR 2024), section 3.3; Siméoni et al., LOST (BMVC 2021)."""
    source = known_source(name)
    model = seeing(family_of(source, on_meta(source, args={}, size=None)))
    assert (model.family, facet_for(model)) == PUBLISHED[name]
    assert model.family in (*FAMILIES, "")


class Seeing(Patchy):
    """Remembers which facet it was asked for."""

    asked: list[str]

    def patch_features(self, images: Tensor, facet: str = "keys") -> Tensor:
        self.asked.append(facet)
        return super().patch_features(images)


def seeing(family: str) -> Seeing:
    model = Seeing(nn.Conv2d(1, 1, 1), Preprocessing((0.5,), (0.5,)), family=family)
    model.asked = []
    return model


def boxes(model: Seeing, **fields: object) -> Boxes:
    task = Discovery(data="scenes", exhibits=0, **fields)  # type: ignore[arg-type]
    ((_, outputs),) = task.run(model, context(scenes(4)))
    return outputs


@pytest.mark.parametrize(("family", "facet"), [("dino", "keys"), ("dinov2", "keys"), ("deit", "values"), ("", "keys")])
def test_the_task_asks_for_what_it_says(family: str, facet: str) -> None:
    model = seeing(family)
    assert boxes(model).settings == {"facet": facet} and set(model.asked) == {facet}
    assert boxes(model, facet="queries").settings == {"facet": "queries"} and model.asked[-1] == "queries"


def test_the_task_supplies_the_remedy_and_none_that_is_in_use() -> None:
    assert boxes(seeing("dino")).remedy.endswith("try `facet: values` or `normalise: channels`")
    assert boxes(seeing("clip")).remedy.endswith("try `normalise: channels`")
    assert boxes(seeing("clip"), normalise="channels").remedy == "patch features resemble each other"


def test_a_copy_keeps_its_family() -> None:
    assert seeing("clip").clone().family == "clip"


def test_models_with_registers_are_of_the_family_and_leave_registers_out() -> None:
    for name, prefix in (("vit_small_patch14_dinov2", 1), ("vit_small_patch14_reg4_dinov2", 5)):
        reference = {"use": "timm", "name": f"{name}.lvd142m", "size": 56}
        component = bind(load_registry(), "model", reference).component
        skeleton = component.skeleton()  # type: ignore[attr-defined]
        assert skeleton.num_prefix_tokens == prefix
        assert family_of(component.source(), skeleton) == "dinov2"  # type: ignore[attr-defined]


def test_records_hold_what_auto_meant(toy_registry: Registry, tmp_path: Path) -> None:
    run(SUITE, toy_registry, tmp_path / "run")
    records, _ = read_journal(tmp_path / "run" / "results.jsonl")
    assert {record.made_of["setting facet"] for record in records} == {"keys"}
