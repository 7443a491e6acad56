"""The version of pruningbench."""

__version__ = "0.1.0"
