"""The registry of all components and extensions, by kind and name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from pruningbench.contract.component import KINDS, Kind
from pruningbench.errors import PluginError, UnknownComponentError, did_you_mean
from pruningbench.plugins.door import Door
from pruningbench.plugins.registration import EXTENSIONS, BrokenPlugin, Extension, Plugin, Registration

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def _empty() -> dict[str, dict[str, list[Registration]]]:
    return {kind: {} for kind in (*KINDS, *EXTENSIONS)}


@dataclass
class Registry:
    """All components and extensions, and what went wrong while finding them.

    A registration is found by its full name ``distribution/name``, and by its name alone while no other
    distribution has registered the same name for the same kind.

    Attributes:
        entries: kind -> name -> registrations, one for each distribution that registered the name.
        plugins: the plugins that work.
        broken: plugins, or components of plugins, that do not work.
        contained: what plugins changed in the process while they were loaded, which was set back, and what else other
            plugins and the user would notice: long imports, printed text.
        door: calls the hooks of observing plugins.
    """

    entries: dict[str, dict[str, list[Registration]]] = field(default_factory=_empty)
    plugins: list[Plugin] = field(default_factory=list)
    broken: list[BrokenPlugin] = field(default_factory=list)
    contained: list[BrokenPlugin] = field(default_factory=list)
    door: Door = field(default_factory=Door)

    def add(self, kind: Kind | Extension, name: str, target: Any, plugin: Plugin) -> None:
        """Register a component or an extension.

        Raises:
            PluginError: for a name that is not kebab-case or that the same distribution has already registered,
                or for a target that is not of this kind.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise PluginError(f"{kind} name {name!r} of plugin {plugin} is not kebab-case (like 'my-{kind}')")
        same = self.entries[kind].get(name, [])
        for other in same:
            if other.plugin.distribution == plugin.distribution:
                raise PluginError(
                    f"{kind} {name!r} is registered twice: by plugin {other.plugin} and by plugin {plugin}; "
                    "the first is used"
                )
        registration = Registration(kind, name, target, plugin)
        registration.check()
        self.entries[kind][name] = [*same, registration]

    def copy(self) -> Registry:
        """Return a registry with the same entries and door; what is added to it is not added to this one."""
        entries = {kind: {name: list(same) for name, same in by_name.items()} for kind, by_name in self.entries.items()}
        return replace(
            self, entries=entries, plugins=list(self.plugins), broken=list(self.broken), contained=list(self.contained)
        )

    def name_of(self, registration: Registration) -> str:
        """Return the shortest name that finds a registration."""
        alone = len(self.entries[registration.kind].get(registration.name, [])) < 2
        return registration.name if alone else registration.full_name

    def names(self, kind: Kind | Extension) -> list[str]:
        """Return the sorted names of a kind, with full names where a name alone is ambiguous."""
        return sorted(self.name_of(registration) for same in self.entries[kind].values() for registration in same)

    def registrations(self, kind: Kind | Extension) -> list[Registration]:
        """Return all registrations of a kind, sorted by name."""
        return sorted((registration for same in self.entries[kind].values() for registration in same), key=self.name_of)

    def everything(self) -> Iterator[Registration]:
        """Yield the components and then the extensions, kind by kind."""
        for kind in (*KINDS, *EXTENSIONS):
            yield from self.registrations(kind)

    def clashes(self) -> list[str]:
        """Return one line for each name that several distributions have registered for the same kind."""
        return [
            _ambiguous(kind, name, same)
            for kind, by_name in self.entries.items()
            for name, same in sorted(by_name.items())
            if len(same) > 1
        ]

    def entry(self, kind: Kind | Extension, name: str, home: str = "") -> Registration:
        """Return the registration with a name or a full name.

        Args:
            kind: kind of component or extension.
            name: ``name``, or ``distribution/name``.
            home: distribution whose defaults or suite use the name; if the name alone is ambiguous, the one that this
                distribution registered is meant.

        Raises:
            UnknownComponentError: if there is none (the message suggests the nearest names, or the other kind if
                the name exists there), or if several distributions have the name (it gives their full names).
        """
        distribution, _, short = name.rpartition("/")
        same = self.entries[kind].get(short, [])
        matches = [
            registration
            for registration in same
            if not distribution or registration.plugin.distribution == distribution
        ]
        if len(matches) > 1:
            matches = [registration for registration in matches if registration.plugin.distribution == home] or matches
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise UnknownComponentError(_ambiguous(kind, name, matches))
        hint = did_you_mean(name, self.names(kind))
        others = [other for other in (*KINDS, *EXTENSIONS) if name in self.entries[other]]
        if others:
            hint = f"; {name!r} is a {others[0]}"
        elif not hint:
            hint = f"; there are: {', '.join(self.names(kind)) or 'none'}"
        if self.broken:
            hint += f" ({len(self.broken)} plugin(s) failed to load: see `pruningbench doctor`)"
        raise UnknownComponentError(f"unknown {kind} {name!r}{hint}")

    def __iter__(self) -> Iterator[Registration]:
        """Yield the components, kind by kind, without the extensions."""
        for kind in KINDS:
            yield from self.registrations(kind)


def _ambiguous(kind: str, name: str, registrations: list[Registration]) -> str:
    full = " and ".join(repr(registration.full_name) for registration in registrations)
    return f"{kind} {name!r} is registered by {len(registrations)} distributions; write the full name: {full}"
