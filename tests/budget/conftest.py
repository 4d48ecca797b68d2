"""The tiny models of every family are those of `tests/models`."""

from tests.models.conftest import all_cases, pytest_generate_tests

__all__ = ["all_cases", "pytest_generate_tests"]
