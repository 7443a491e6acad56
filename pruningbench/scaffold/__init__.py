"""Makes the files of a new plugin."""

from pruningbench.scaffold.new import KINDS, new_plugin

__all__ = ["KINDS", "new_plugin"]
