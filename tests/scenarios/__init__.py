"""The 112 scenarios of the reliability page: what is done to the operator, and what must hold afterwards."""

import pytest

PLAYS = (
    "crashes",
    "watches",
    "api_errors",
    "ways",
    "ownership",
    "specs",
    "fields",
    "deletion",
    "leaders",
    "gitops",
    "autoscalers",
    "several_nodes",
    "pods",
    "tenants",
)
"""The modules that register scenarios."""

pytest.register_assert_rewrite("scenarios.enumeration", *(f"scenarios.{name}" for name in PLAYS))
