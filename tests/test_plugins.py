"""Plugins are found, guarded against when broken, and loaded only when used."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from kit.installs import GOOD, Install

from pruningbench.contract.component import KINDS, Component
from pruningbench.errors import PluginError, UnknownComponentError
from pruningbench.plugins import EXTENSIONS, Registry, build_registry, wanted_plugins
from pruningbench.suite.binding import bind


def reasons(registry: Registry) -> dict[str, str]:
    return {broken.plugin.name: broken.reason for broken in registry.broken}


def test_a_plugin_is_registered_and_imported_only_when_used(install: Install) -> None:
    registry = build_registry(install("toy_good", GOOD))
    assert not registry.broken
    assert [str(plugin) for plugin in registry.plugins] == ["toy_good (toy_good-dist 1.2)"]
    entry = registry.entry("pruner", "toy-good")
    assert entry.where == "toy_good_parts:Good"
    assert entry.summary() == "Prunes well."
    assert "toy_good_parts" not in sys.modules
    component = entry.load()
    assert "toy_good_parts" in sys.modules
    assert issubclass(component, Component)
    assert entry.load() is component
    assert (entry.where, entry.summary()) == ("toy_good_parts:Good", "Prunes well.")
    assert entry in list(registry)


BROKEN = {
    "a module that cannot be imported": (
        "import nowhere_at_all",
        "ModuleNotFoundError: No module named 'nowhere_at_all'",
    ),
    "a syntax error": ("def (:", "SyntaxError"),
    "an exit": ("import sys\nsys.exit(3)", "SystemExit: 3"),
    "any exception": ("raise RuntimeError('boom')", "RuntimeError: boom"),
    "an exception while registering": (
        GOOD + "        raise KeyError('late')\n",
        "KeyError: 'late'",
    ),
    "an exit while registering": (GOOD + "        raise SystemExit('bye')\n", "SystemExit: bye"),
    "a misspelt hook": (
        GOOD.replace("register_pruners", "register_prunners"),
        "unknown hook 'pruningbench_register_prunners'",
    ),
    "a misnamed argument": (GOOD.replace("pruners(register)", "pruners(registry)"), "registry"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_plugin_is_reported_and_the_others_work(install: Install, what: str) -> None:
    source, reason = BROKEN[what]
    install("toy_a_good", GOOD)
    install("toy_broken", source, version="0.3")
    registry = build_registry(install("toy_z_good", GOOD))
    assert registry.names("pruner") == ["toy-a-good", "toy-z-good"]
    assert [plugin.name for plugin in registry.plugins] == ["toy_a_good", "toy_z_good"]
    (broken,) = registry.broken
    assert str(broken.plugin) == "toy_broken (toy_broken-dist 0.3)"
    assert reason in broken.reason
    with pytest.raises(UnknownComponentError, match=r"1 plugin\(s\) failed to load: see `pruningbench doctor`"):
        registry.entry("pruner", "toy-broken")


def test_keyboard_interrupts_are_not_swallowed(install: Install) -> None:
    points = install("toy_slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        build_registry(points)


def test_a_clash_of_names_leaves_both_usable_by_their_full_names(install: Install) -> None:
    install("toy_first", GOOD.replace("{name}", "same"))
    registry = build_registry(
        install("toy_second", GOOD.replace("{name}", "same") + '        register("other", "toy_second_parts:Good")\n')
    )
    assert not registry.broken
    assert registry.names("pruner") == ["other", "toy_first-dist/same", "toy_second-dist/same"]
    with pytest.raises(UnknownComponentError) as caught:
        registry.entry("pruner", "same")
    expected = "pruner 'same' is registered by 2 distributions; write the full name: 'toy_first-dist/same' and 'toy_second-dist/same'"
    assert str(caught.value) == expected
    assert registry.clashes() == [expected]
    for name in ("toy_first", "toy_second"):
        entry = registry.entry("pruner", f"{name}-dist/same")
        assert (entry.plugin.name, entry.where) == (name, f"{name}_parts:Good")
        assert registry.entry("pruner", "same", home=f"{name}-dist") is entry
    assert registry.entry("pruner", "toy_second-dist/other") is registry.entry("pruner", "other")


def test_a_clash_shows_in_labels_and_never_in_identities(install: Install) -> None:
    alone = build_registry(install("toy_first", GOOD.replace("{name}", "same")))
    both = build_registry(install("toy_second", GOOD.replace("{name}", "same")))
    one, two = (bind(both, "pruner", f"toy_{which}-dist/same") for which in ("first", "second"))
    assert (one.label, two.label) == ("toy_first-dist/same", "toy_second-dist/same")
    assert one.identity() != two.identity()
    assert bind(alone, "pruner", "same").label == "same"
    assert bind(alone, "pruner", "same").identity() == one.identity()


def test_a_name_registered_twice_by_one_distribution_is_reported(install: Install) -> None:
    registry = build_registry(
        install("toy_double", GOOD + '        register("toy-double", "toy_double_parts:Better")\n')
    )
    assert registry.entry("pruner", "toy-double").where == "toy_double_parts:Good"
    assert reasons(registry) == {
        "toy_double": "pruner 'toy-double' is registered twice: by plugin toy_double (toy_double-dist 1.2) "
        "and by plugin toy_double (toy_double-dist 1.2); the first is used"
    }


VERSIONS = {
    '"1.0"': None,
    '"0.9"': "it was written for contract 0.9, and this pruningbench has 1.0, which may need changes in the plugin",
    '"1.7"': "it was written for contract 1.7, and this pruningbench has 1.0: upgrade pruningbench",
    '"2.0"': "it was written for contract 2.0, and this pruningbench has 1.0: upgrade pruningbench",
    '"one"': "pruningbench_contract is 'one', but must be text like '1.0'",
    "1.0": "pruningbench_contract is 1.0, but must be text like '1.0'",
}


@pytest.mark.parametrize("stated", VERSIONS)
def test_a_plugin_states_the_contract_it_was_written_for(install: Install, stated: str) -> None:
    """A plugin that states nothing was written for the first contract: all others here state nothing."""
    registry = build_registry(install("toy_stated", f"    pruningbench_contract = {stated}\n{GOOD}"))
    expected = VERSIONS[stated]
    if expected is None:
        assert registry.names("pruner") == ["toy-stated"]
    else:
        assert registry.names("pruner") == []
        assert reasons(registry)["toy_stated"].startswith(expected)


@pytest.mark.parametrize("name", ["Good", "my_pruner", "a--b", "-a", "a-", "", "a b", "../x", "é"])
def test_names_are_kebab_case(install: Install, name: str) -> None:
    registry = build_registry(install("toy_named", GOOD.replace("{name}", name)))
    assert registry.names("pruner") == []
    assert (
        f"pruner name {name!r} of plugin toy_named (toy_named-dist 1.2) is not kebab-case"
        in reasons(registry)["toy_named"]
    )


CLASSES = """
    from dataclasses import dataclass
    from pruningbench.hookspecs import hookimpl
    from pruningbench.contract import Dataset, Pruner

    class Plain:
        pass

    class NoDataclass(Pruner):
        def prune(self, context, sparsity):
            pass

    @dataclass(frozen=True)
    class Abstract(Pruner):
        pass

    @dataclass(frozen=True)
    class Data(Dataset):
        def load(self, context):
            pass

    @dataclass(frozen=True)
    class Good(Pruner):
        def prune(self, context, sparsity):
            pass

    @hookimpl
    def pruningbench_register_pruners(register):
        register("plain", Plain)
        register("no-class", 3)
        register("no-dataclass", NoDataclass)
        register("abstract", Abstract)
        register("data", Data)
        register("no-target", "toy_classes")
        register("good", Good)
"""
WRONG_CLASSES = {
    "plain": "Plain'>, not a Component class",
    "no-class": "is 3, not a Component class",
    "no-dataclass": "NoDataclass lacks @dataclass(frozen=True)",
    "abstract": "Abstract does not define prune",
    "data": "Data is not a pruner",
    "no-target": "'toy_classes' is not 'module:name'",
}


def test_wrong_classes_are_refused_one_by_one(install: Install) -> None:
    registry = build_registry(install("toy_classes", CLASSES))
    assert registry.names("pruner") == ["good"]
    assert registry.entry("pruner", "good").where == "toy_classes:Good"
    assert [plugin.name for plugin in registry.plugins] == ["toy_classes"]
    messages = [broken.reason for broken in registry.broken]
    assert len(messages) == len(WRONG_CLASSES)
    for message, (name, reason) in zip(messages, WRONG_CLASSES.items(), strict=True):
        assert message.startswith(f"pruner {name!r} of plugin toy_classes (toy_classes-dist 1.2)")
        assert reason in message


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ("raise OSError('no such library')", "OSError: no such library"),
        ("import sys\nsys.exit('bye')", "SystemExit: bye"),
        ("", "AttributeError: module 'toy_lazy_parts' has no attribute 'Good'"),
        ("class Good: pass", "not a Component class"),
    ],
)
def test_a_class_that_cannot_be_loaded_names_its_plugin(install: Install, parts: str, reason: str) -> None:
    registry = build_registry(install("toy_lazy", GOOD, parts=parts))
    with pytest.raises(PluginError) as caught:
        registry.entry("pruner", "toy-lazy").load()
    assert str(caught.value).startswith("pruner 'toy-lazy' of plugin toy_lazy (toy_lazy-dist 1.2)")
    assert reason in str(caught.value)


def test_summaries_of_what_cannot_be_read_are_empty(install: Install) -> None:
    registry = build_registry(install("toy_odd", GOOD, parts="def ("))
    assert registry.entry("pruner", "toy-odd").summary() == ""
    elsewhere = build_registry(install("toy_far", GOOD.replace("{module}_parts", "toy_nowhere.deep")))
    assert elsewhere.entry("pruner", "toy-far").summary() == ""


def test_an_installation_without_metadata_still_works(install: Install) -> None:
    registry = build_registry(install("toy_bare", GOOD, metadata=False))
    assert registry.names("pruner") == ["toy-bare"]


def test_the_environment_chooses_plugins(install: Install) -> None:
    install("toy_one", GOOD)
    points = install("toy_two", GOOD)

    def names(value: str | None) -> list[str]:
        environment = {} if value is None else {"PRUNINGBENCH_PLUGINS": value}
        return [plugin.name for plugin in build_registry(points, wanted_plugins(environment)).plugins]

    assert names(None) == ["toy_one", "toy_two"]
    assert names("") == []
    assert names("toy_two") == ["toy_two"]
    assert names(" toy_one-dist , toy_two,") == ["toy_one", "toy_two"]
    assert names("toy_three") == []


def test_built_ins_are_loaded_whatever_the_environment_and_win_nothing(install: Install, tmp_path: Path) -> None:
    install("toy_aaa", GOOD.replace("{name}", "same"))
    points = install("toy_core", GOOD.replace("{name}", "same"))
    metadata = tmp_path / "toy_core_dist-1.2.dist-info/METADATA"
    metadata.write_text(metadata.read_text().replace("toy_core-dist", "pruningbench"))
    only = build_registry(points, wanted_plugins({"PRUNINGBENCH_PLUGINS": ""}))
    assert [p.name for p in only.plugins] == ["toy_core"]
    assert only.entry("pruner", "same").plugin.name == "toy_core"
    everything = build_registry(points)
    assert [p.name for p in everything.plugins] == ["toy_core", "toy_aaa"]
    with pytest.raises(UnknownComponentError, match="'pruningbench/same' and 'toy_aaa-dist/same'"):
        everything.entry("pruner", "same")


def test_an_entry_point_listed_twice_is_loaded_once(install: Install) -> None:
    points = install("toy_twice", GOOD)
    registry = build_registry(points + points)
    assert len(registry.plugins) == 1
    assert not registry.broken


def test_nothing_is_there_without_plugins() -> None:
    registry = build_registry([])
    assert [name for kind in (*KINDS, *EXTENSIONS) for name in registry.names(kind)] == []


def test_a_name_of_another_kind_is_pointed_out(toy_registry: Registry) -> None:
    with pytest.raises(UnknownComponentError, match="unknown pruner 'finetune'; 'finetune' is a recipe"):
        toy_registry.entry("pruner", "finetune")
