"""Finds plugins, guards against broken ones, and turns names into components and extensions.

A plugin is an entry point in the group ``pruningbench``; the built-ins are loaded in the same way. A
plugin that cannot be imported or that fails while registering is reported, and all others keep working.
"""

from pruningbench.plugins.door import Door
from pruningbench.plugins.loading import ENTRY_POINTS, build_registry, load_registry, wanted_plugins
from pruningbench.plugins.registration import EXTENSIONS, BrokenPlugin, Extension, Plugin, Registration
from pruningbench.plugins.registry import Registry

__all__ = [
    "ENTRY_POINTS",
    "EXTENSIONS",
    "BrokenPlugin",
    "Door",
    "Extension",
    "Plugin",
    "Registration",
    "Registry",
    "build_registry",
    "load_registry",
    "wanted_plugins",
]
