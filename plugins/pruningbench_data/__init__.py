"""Embedded data: handwritten digits, and scenes composed of them with exact boxes and masks."""

from __future__ import annotations

from pruningbench.hookspecs import Register, hookimpl


@hookimpl
def pruningbench_register_datasets(register: Register) -> None:
    """Register the embedded data sets."""
    register("digits", "pruningbench_data.digits:Digits")
    register("digit-scenes", "pruningbench_data.scenes:DigitScenes")
