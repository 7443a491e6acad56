"""What statements of plugins say about the papers' claims, with numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from kit.findings import ACCURACY, board, change, column, dense, row
from kit.paired import correct, measured, write
from kit.paired import dense as dense_of
from pruningbench_interpretability.statements import sharper_maps
from pruningbench_suites.statements import sweet_spot_claims

from pruningbench.leaderboard import Row
from pruningbench.leaderboard.comparison import BoardComparison
from pruningbench.leaderboard.differences import Pairs
from pruningbench.leaderboard.references import References
from pruningbench.plugins import load_registry

GINI = ("maps", "saliency", "gini")
COLUMNS = (column(ACCURACY, "accuracy"), column(GINI, "interpretability", unit=""))
VALUES = {ACCURACY: 0.9, GINI: 0.5}
SAME, BETTER, WORSE = change(0.0, 0.004, 0.9), change(0.05, 0.02, 1e-6), change(-0.1, 0.02, 1e-9)


def results(*rows: Row, columns: Sequence = COLUMNS) -> BoardComparison:
    models = dict.fromkeys(one.model for one in rows)
    found = board([*(dense(model, VALUES) for model in models), *rows], columns)
    return BoardComparison((), Pairs(), References(()), found)


def maps(sparsity: float, gini=SAME, accuracy=SAME, **other: object) -> Row:  # type: ignore[no-untyped-def]
    return row(sparsity, VALUES, {ACCURACY: accuracy, GINI: gini}, **other)  # type: ignore[arg-type]


# cassano2025


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([maps(0.5, BETTER), maps(0.8)], "agrees, 1 of 2 values are one; clearest net, a, none: saliency gini +0.050 [+0.030, +0.070] at 50%"),
        ([maps(0.5, WORSE), maps(0.8, BETTER, WORSE)], "disagrees, all 2 values are worse than dense or have lost accuracy"),
        ([maps(0.5), maps(0.8, WORSE)], "undecided, none is shown, and 1 of 2 values are excluded"),
    ],
)  # fmt: skip
def test_sweet_spots_exist(rows: list[Row], said: str) -> None:
    (sentence,) = sweet_spot_claims(results(*rows))
    assert sentence == f"Claim of cassano2025, sweet spots exist: {said}."


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (maps(0.5, WORSE, model="vit"), "agrees, of 1 comparisons with another model 0 are shared and 1 excluded; saliency gini "
         "at 50% +0.050 [+0.030, +0.070], but -0.100 [-0.120, -0.080] on vit"),
        (maps(0.5, BETTER, WORSE, model="vit"), "agrees, of 1 comparisons with another model 0 are shared and 1 excluded; saliency "
         "gini at 50% +0.050 [+0.030, +0.070], but +0.050 [+0.030, +0.070] on vit with accuracy lost"),
        (maps(0.5, BETTER, model="vit"), "disagrees, of 2 comparisons with another model 2 are shared and 0 excluded"),
        (maps(0.5, SAME, model="vit"), "undecided, of 1 comparisons with another model 0 are shared and 0 excluded"),
        (maps(0.8, SAME, model="vit"), "undecided, there is no sweet spot to compare"),
    ],
)  # fmt: skip
def test_they_depend_on_the_architecture(other: Row, said: str) -> None:
    _, sentence = sweet_spot_claims(results(maps(0.5, BETTER), other))
    assert sentence == f"Claim of cassano2025, sweet spots depend on the architecture: {said}."


@pytest.mark.parametrize(
    ("recipes", "said"),
    [
        (("lrr(epochs=90)", "lrr(epochs=300)"), "agrees, of 1 comparisons with another model 0 are shared and 1 excluded; "
         "saliency gini at 50% +0.050 [+0.030, +0.070], but -0.100 [-0.120, -0.080] on vit"),
        (("lrr(epochs=90)", "tune(epochs=90)"), "undecided, there is no sweet spot to compare"),
    ],
)  # fmt: skip
def test_architectures_trained_by_one_recipe_with_other_settings_are_compared(
    recipes: tuple[str, str], said: str
) -> None:
    rows = (maps(0.5, BETTER, recipe=recipes[0]), maps(0.5, WORSE, model="vit", recipe=recipes[1]))
    _, sentence = sweet_spot_claims(results(*rows))
    assert sentence == f"Claim of cassano2025, sweet spots depend on the architecture: {said}."


def test_settings_tell_recipes_apart_if_a_model_has_several() -> None:
    both = [maps(0.5, BETTER, recipe=f"tune(epochs={epochs})") for epochs in (1, 2)]
    other = maps(0.5, WORSE, model="vit", recipe="tune(epochs=2)")
    _, sentence = sweet_spot_claims(results(*both, other))
    assert ": agrees, of 1 comparisons with another model 0 are shared and 1 excluded; " in sentence


def test_nothing_is_said_where_the_claim_says_nothing() -> None:
    assert list(sweet_spot_claims(results(maps(0.5, BETTER), columns=COLUMNS[1:]))) == []  # no accuracy
    efficiency = (COLUMNS[0], column(GINI, "efficiency", unit=""))
    assert list(sweet_spot_claims(results(maps(0.5, BETTER), columns=efficiency))) == []


# suwal2025


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([maps(0.1, BETTER), maps(0.3), maps(0.5, WORSE)], "agrees, 1 of 2 values sharper, 0 less sharp; largest change +0.050"),
        ([maps(0.1, WORSE), maps(0.3)], "disagrees, 0 of 2 values sharper, 1 less sharp; largest change -0.100"),
        ([maps(0.1, WORSE), maps(0.3, BETTER)], "undecided, 1 of 2 values sharper, 1 less sharp"),
        ([maps(0.1), maps(0.3)], "undecided, 0 of 2 values sharper, 0 less sharp"),
    ],
)  # fmt: skip
def test_light_pruning_sharpens_maps(rows: list[Row], said: str) -> None:
    (sentence,) = sharper_maps(results(*rows))
    assert sentence.startswith(f"Claim of suwal2025, light pruning sharpens maps: net, a, none: {said}")
    assert sentence.endswith("saliency.")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([maps(0.1, BETTER, WORSE), maps(0.3)], "undecided, 0 of 1 values sharper, 0 less sharp; largest change +0.000 "
         "[-0.004, +0.004] at 30%, saliency; 1 left out, because accuracy is lost"),
        ([maps(0.1, BETTER, WORSE), maps(0.3, BETTER, WORSE)], "undecided, accuracy is lost for all 2 values"),
    ],
)  # fmt: skip
def test_sharp_maps_of_networks_that_see_little_are_not_the_claim(rows: list[Row], said: str) -> None:
    (sentence,) = sharper_maps(results(*rows))
    assert sentence == f"Claim of suwal2025, light pruning sharpens maps: net, a, none: {said}."


def test_without_light_pruning_nothing_is_said() -> None:
    assert list(sharper_maps(results(maps(0.5, BETTER), maps(0.7, BETTER)))) == []


# iurada2025


@pytest.mark.parametrize(
    ("source", "target", "verdict"),
    [
        ((0.9, 0.9), (0.8, 0.8), "agrees"),
        ((0.9, 0.9), (0.8, 0.6), "disagrees"),  # lost at 80 %, the smallest high sparsity
        ((0.6, 0.9), (0.8, 0.8), "disagrees"),  # lost below it
        ((0.9, 0.9), (0.8, 0.78), "undecided"),
        ((0.9,), (0.8,), "undecided"),  # kept, but no high sparsity was measured
    ],
)
def test_p1(tmp_path: Path, source: tuple[float, ...], target: tuple[float, ...], verdict: str) -> None:
    zero_shot = {"task": "zero-shot"}
    measurements = [
        dense_of(correct(0.9), variant="source", **zero_shot), dense_of(correct(0.8, 1), variant="target-0", **zero_shot)
    ]  # fmt: skip
    for sparsity, own, unseen in zip((0.5, 0.8), source, target, strict=False):
        measurements.append(measured(correct(own), variant="source", sparsity=sparsity, **zero_shot))
        measurements.append(measured(correct(unseen, 1), variant="target-0", sparsity=sparsity, **zero_shot))
    (found,) = write(tmp_path / "run", *measurements)
    assert found.statements[0].startswith(f"P1, net, a, none (zero-shot accuracy): {verdict}: the source ")


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [((0.1, 0.0), "agrees"), ((-0.1, 0.0), "disagrees"), ((0.1, -0.1), "undecided"), ((0.0, 0.0), "undecided")],
)
def test_p2(tmp_path: Path, changes: tuple[float, float], verdict: str) -> None:
    measurements = []
    for variant, share in (("source", 0.9), ("target-0", 0.8)):
        common = {"task": "zero-shot", "variant": variant}
        measurements.append(dense_of(correct(share, 1), **common))
        for sparsity, lift in zip((0.5, 0.8), changes, strict=True):
            measurements.append(measured(correct(0.7, 1), sparsity=sparsity, **common))
            trained = correct(0.7 + lift, 1)
            measurements.append(measured(trained, sparsity=sparsity, recipe="finetune", **common))
    (found,) = write(tmp_path / "run", *measurements)
    assert found.statements[-1].startswith(f"P2, net, a, finetune (zero-shot accuracy): {verdict}: unseen tasks lifted")


def test_claims_are_registered_and_reach_the_board(tmp_path: Path) -> None:
    names = load_registry().names("statement")
    assert {"sweet-spot-claims", "sharper-maps", "transfer-claims"} <= set(names)
    looking = {"task": "looking", "metric": "gini", "dimension": "interpretability"}
    values = correct(0.5, 2)
    (found,) = write(
        tmp_path / "run",
        dense_of(correct(0.9), dimension="accuracy"), dense_of(values, **looking),
        measured(correct(0.9), dimension="accuracy", sparsity=0.1), measured(correct(0.7, 2), sparsity=0.1, **looking),
    )  # fmt: skip
    assert [sentence.partition(":")[0] for sentence in found.statements] == [
        "Claim of suwal2025, light pruning sharpens maps", "Claim of cassano2025, sweet spots exist",
    ]  # fmt: skip
    assert all("agrees, " in sentence for sentence in found.statements)
