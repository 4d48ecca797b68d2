"""Measurements that are over soon: what they say is not what these tests are about."""

from collections.abc import Iterator

import pytest

from malmoi.bench import roofline


@pytest.fixture(scope="package", autouse=True)
def short_measurements() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(roofline, "LONG_ENOUGH", 0.01)
        yield
