"""Benchmarks run on one CPU; the machine is named above the table.

Run them with ``pytest bench --benchmark-enable``; ``python bench/compare.py`` makes the table of the README.
"""

import machine

machine.pin()


def pytest_report_header() -> str:
    return machine.describe()
