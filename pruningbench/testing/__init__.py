"""The contract as checks that anyone can run on a component, including the built-in ones.

    from pruningbench.testing import check, findings

    for finding in findings("pruner", "my-pruner"):
        print(finding)

    check("pruner", "my-pruner")   # raises one error that lists all findings

In pytest, use ``@pytest.mark.parametrize("name", [...])`` and `check` to test each component.
"""

from pruningbench.testing.checks import Finding, check, findings

__all__ = ["Finding", "check", "findings"]
