"""What holds for every test: offline, few threads, the same random numbers each time.

The environment is set here, before anything imports torch or huggingface_hub, so that the processes that
tests start inherit it. Shapes in annotations are checked by `--jaxtyping-packages` (pyproject.toml).
"""

import os
import random
import sys

import pytest
from hypothesis import settings
from hypothesis.internal.constants_ast import Constants

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test of the hub starts its own local one and unsets this
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Tensors of a few numbers are computed faster by one thread than handed out to several.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Two libraries as the tests need them. A version that has no such name any more is an AttributeError here.
lasting = pytest.MonkeyPatch()
# beartype draws which item of a list it checks. It has a generator of its own for that, as a server's thread may check
# while Hypothesis holds that whoever changes the state of the global one is a strategy (HypothesisDeprecationWarning).
checked_items = random.Random()
lasting.setattr("beartype._check.code.codemain.getrandbits", checked_items.getrandbits)
# Hypothesis draws now and then a constant of the modules that are imported. Which those are depends on what ran before.
lasting.setattr("hypothesis.internal.conjecture.providers._get_local_constants", Constants)

settings.register_profile("local", deadline=None)  # the first torch call of a process takes seconds
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    """Seed the global generators before each test, so that no result depends on which tests ran before."""
    random.seed(0)
    checked_items.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
