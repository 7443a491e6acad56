"""What several test modules share: toy networks and data, servers, runs, and boards.

Tests import it as `kit`; fixtures that several modules use are in `conftest.py`.
"""

from pathlib import Path

import pytest

pytest.register_assert_rewrite(*(f"kit.{path.stem}" for path in Path(__file__).parent.glob("[!_]*.py")))
