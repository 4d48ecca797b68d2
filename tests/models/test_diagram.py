"""A drawing is of the model: nothing is left out, and layers that differ are apart."""

from typing import Any

import pytest

from malmoi.budget import on_paper
from malmoi.models import count_parameters
from malmoi.models.diagram import Layers, diagram
from malmoi.models.registry import find_preset


def test_every_parameter_is_drawn(case: Any) -> None:
    model = on_paper(case.config)
    drawn = 0
    for column in diagram(model):
        for item in column.items:
            times = len(item.numbers) if isinstance(item, Layers) else 1
            drawn += times * item.num_parameters
    # A part that several places share is drawn in each.
    everywhere = sum(p.numel() for _, p in model.named_parameters(remove_duplicate=False))
    assert count_parameters(model) <= drawn <= everywhere


def test_layers_that_differ_are_drawn_apart() -> None:
    [column] = diagram(on_paper(find_preset("gemma3-1b")))
    kinds = [item for item in column.items if isinstance(item, Layers)]
    assert [layers.ranges for layers in kinds] == ["1-5, 7-11, 13-17, 19-23, 25-26", "6, 12, 18, 24"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mistral-7b", "sees a window of 4,096"),
        ("mixtral-8x7b", "8 experts, 2 a token"),
        ("llama3-8b", "32 heads × 128, 8 key/value heads"),
        ("t5-small", "over the encoder's states"),
        ("llava-1.5-7b", "patches of 14 × 14 pixels"),
    ],
)
def test_a_drawing_says_what_makes_the_model(name: str, words: str) -> None:
    assert words in str(diagram(on_paper(find_preset(name))))
