"""The contract as checks that anyone can run on a component, including the built-in ones.

    from pruningbench.testing import check, findings

    for finding in findings("pruner", "my-pruner"):
        print(finding)

    check("pruner", "my-pruner")   # raises one error that lists all findings

In pytest, one line tests everything that a distribution registers; each component is a test:

    @pytest.mark.parametrize("keeps_the_contract", checks_of("my-distribution"))
    def test_components(keeps_the_contract):
        keeps_the_contract()

`pruningbench plugin check my-distribution` does the same on the command line, and checks the import as well.
"""

from pruningbench.testing.checks import Finding, check, findings
from pruningbench.testing.packages import checks_of, package_findings

__all__ = ["Finding", "check", "checks_of", "findings", "package_findings"]
