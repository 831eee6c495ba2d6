"""The page on theory shows what the code says."""

import doctest
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "theory.md"


def test_the_table_of_the_page_is_true():
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted >= 3
    assert result.failed == 0
