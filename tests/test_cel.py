"""Every rule of the CRD has its file. The API server judges them in tests/component/test_cel_rules.py."""

from __future__ import annotations

import pytest

from cel_files import RuleFile, messages, rule_files


def test_every_rule_has_a_file_and_every_file_a_rule() -> None:
    assert sorted(file.message for file in rule_files().values()) == sorted(messages())


@pytest.mark.parametrize("file", rule_files().values(), ids=rule_files().keys())
def test_a_file_shows_both_sides(file: RuleFile) -> None:
    assert file.accepted
    assert file.rejected
    for case in file.rejected:
        assert case.field, case
        assert case.says, case
