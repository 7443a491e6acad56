"""Turns results into a folder of pages that open from disk, without a server and without requests."""

from pruningbench.site.build import Built, build_site

__all__ = ["Built", "build_site"]
