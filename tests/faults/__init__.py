"""The fault stand: a proxy between the operator and a real API server, and oracles that judge what came of it."""

import pytest

pytest.register_assert_rewrite("faults.oracles")
