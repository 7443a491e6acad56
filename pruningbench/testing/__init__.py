"""The contract as checks that anybody can run on a component, the built-in ones included.

    from pruningbench.testing import check, findings

    for finding in findings("pruner", "my-pruner"):
        print(finding)

    check("pruner", "my-pruner")   # raises one error that lists all findings

In pytest, ``@pytest.mark.parametrize("name", [...])`` and `check` make a test of each component.
"""

from pruningbench.testing.checks import Finding, check, findings

__all__ = ["Finding", "check", "findings"]
