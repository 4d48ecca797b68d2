"""Images in the engine: features stand in their places however the prompt is cut, packed and computed again."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from malmoi.core.errors import RequestError
from malmoi.engine import Attachment, Engine, Generation, Request, SamplingParams
from malmoi.nn.multimodal import Multimodal
from malmoi.nn.quantized import quantize
from malmoi.testing.models import IMAGE_TOKEN, tiny_llama, tiny_llava

# An answer that holds a placeholder could not be compared with a model that counts them.
PARAMS = SamplingParams(temperature=0, max_tokens=10, logprobs=260, logit_bias={IMAGE_TOKEN: -100})
PROMPTS = [
    [5, 6, *[IMAGE_TOKEN] * 4, 7, 8, *[IMAGE_TOKEN] * 4],
    [40, 41, 42],
    [*[IMAGE_TOKEN] * 4, 9],
    list(range(60, 83)),
]
STARTS = [[2, 8], [], [0], []]  # of the images in each


@pytest.fixture(scope="module")
def model() -> Multimodal:
    return tiny_llava()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def requests(model: Multimodal, images: Tensor) -> list[Request]:
    with torch.inference_mode():
        features = iter(model.encode(images=images)["images"].split(4))
    return [
        Request(
            tokens=p,
            attachments=[Attachment(start=s, features=next(features)) for s in starts],
            params=PARAMS,
        )
        for p, starts in zip(PROMPTS, STARTS, strict=True)
    ]


def run(engine: Engine, requests: Sequence[Request]) -> list[Generation]:
    generations = [engine.add(request) for request in requests]
    while any(generation.finish_reason is None for generation in generations):
        engine.step()
    return generations


def logprobs(generation: Generation) -> Tensor:
    rows = [sorted(choice.top) for choice in generation.choices]  # by token
    return torch.tensor([[candidate.logprob for candidate in row] for row in rows])


def assert_same(ours: Generation, wanted: Generation) -> None:
    assert ours.tokens == wanted.tokens
    torch.testing.assert_close(logprobs(ours), logprobs(wanted), rtol=0, atol=1e-5)


def test_an_answer_about_images_is_the_models_without_a_cache(
    model: Multimodal, images: Tensor, requests: list[Request]
) -> None:
    [generation] = run(Engine(model, block_size=4), requests[:1])
    ids = list(PROMPTS[0])
    for token, row in zip(generation.tokens, logprobs(generation), strict=True):
        with torch.inference_mode():
            wanted = model(torch.tensor([ids]), images=images[:2]).logits[0, -1].log_softmax(-1)
        torch.testing.assert_close(row, wanted, rtol=0, atol=1e-5)
        assert token == int(torch.where(torch.arange(260) == IMAGE_TOKEN, -torch.inf, wanted).argmax())
        ids.append(token)


@pytest.mark.parametrize("is_tied", [False, True])
def test_a_model_of_rounded_weights_takes_images(requests: list[Request], is_tied: bool) -> None:
    text = replace(tiny_llava().config.text, is_tied=is_tied)
    model = quantize(tiny_llava(text=text), "int8")
    for generation in run(Engine(model, block_size=4), requests):
        generation.raise_if_failed()
        assert len(generation.tokens) == PARAMS.max_tokens


def test_the_image_matters(model: Multimodal, requests: list[Request]) -> None:
    blind = Request(tokens=PROMPTS[0], params=PARAMS)
    seeing, not_seeing = run(Engine(model), [requests[0], blind])
    assert not torch.allclose(logprobs(seeing)[0], logprobs(not_seeing)[0], atol=1e-2)


def test_an_image_whose_last_place_alone_is_not_cached_is_seen_where_steps_are_replayed() -> None:
    text = replace(tiny_llava().config.text, num_heads=2, num_kv_heads=1, head_dim=16)  # as kernels take it
    engine = Engine(model := tiny_llava(text=text), block_size=4)
    with torch.inference_mode():
        [features] = model.encode(images=torch.randn(1, 3, 8, 8))["images"].split(4)
    tokens = [5, 6, 7, 8, 9, *[IMAGE_TOKEN] * 4]
    request = Request(tokens=tokens, attachments=[Attachment(start=5, features=features)], params=PARAMS)
    [first], [again] = run(engine, [request]), run(engine, [request])
    assert (first.num_cached, again.num_cached) == (0, 8)
    assert_same(again, first)


@pytest.mark.parametrize("tokens_per_step", [4, 5, 9])
def test_an_image_may_be_cut_anywhere(
    model: Multimodal, requests: list[Request], tokens_per_step: int
) -> None:
    [whole] = run(Engine(model), requests[:1])
    [chunked] = run(Engine(model, tokens_per_step=tokens_per_step, max_requests=1), requests[:1])
    assert_same(chunked, whole)


def test_each_request_sees_its_own_images_among_others(model: Multimodal, requests: list[Request]) -> None:
    together = run(Engine(model, tokens_per_step=16, block_size=4), requests)
    for request, generation in zip(requests, together, strict=True):
        assert_same(generation, run(Engine(model), [request])[0])


def test_a_preempted_request_sees_its_images_again(model: Multimodal, requests: list[Request]) -> None:
    engine = Engine(model, block_size=4)
    generations = [engine.add(request) for request in requests]
    for _ in range(3):
        engine.step()
    engine.refresh()
    while any(generation.finish_reason is None for generation in generations):
        engine.step()
    for request, generation in zip(requests, generations, strict=True):
        assert_same(generation, run(Engine(model), [request])[0])


@pytest.mark.parametrize(
    "spans",
    [[(-1, 2)], [(5, 0)], [(9, 4)], [(0, 3), (2, 2)], [(6, 2), (0, 2)]],
    ids=["before the prompt", "empty", "behind the prompt", "overlapping", "in another order"],
)
def test_features_that_have_no_places_are_refused(model: Multimodal, spans: list[tuple[int, int]]) -> None:
    attachments = [Attachment(start=start, features=torch.zeros(size, 32)) for start, size in spans]
    request = Request(tokens=PROMPTS[0], attachments=attachments)
    with pytest.raises(
        RequestError, match=r"an attachment is to stand at the tokens .*, but there are 12 tokens"
    ):
        Engine(model).add(request)


@pytest.mark.parametrize(
    ("features", "said"),
    [
        (
            torch.zeros(2, 31),
            r"the shape \(2, 31\) and the type torch.float32, but this model takes rows of 32",
        ),
        (torch.zeros(2), r"the shape \(2,\)"),
        (torch.zeros(2, 1, 32), r"the shape \(2, 1, 32\)"),
        (torch.tensor(0.0), r"the shape \(\)"),
        (torch.zeros(2, 32, dtype=torch.int64), "the type torch.int64"),
        (torch.full((2, 32), torch.nan), "not finite numbers"),
        (torch.full((2, 32), -torch.inf), "not finite numbers"),
    ],
    ids=["width", "one axis", "three axes", "no axis", "ints", "nan", "inf"],
)
def test_features_that_the_model_cannot_take_are_refused(
    model: Multimodal, features: Tensor, said: str
) -> None:
    request = Request(tokens=PROMPTS[0], attachments=[Attachment(start=2, features=features)])
    with pytest.raises(RequestError, match=said):
        Engine(model).add(request)


def test_an_attachment_that_starts_between_tokens_is_refused(model: Multimodal) -> None:
    attachment = Attachment(start=2, features=torch.zeros(2, 32))
    object.__setattr__(attachment, "start", 2.5)  # the test runner would refuse it in Attachment(...)
    with pytest.raises(RequestError, match="an attachment starts at 2.5. Give the number of a token"):
        Engine(model).add(Request(tokens=PROMPTS[0], attachments=[attachment]))


def test_attachments_for_a_model_of_text_are_refused() -> None:
    request = Request(tokens=[1, 2], attachments=[Attachment(start=0, features=torch.zeros(1, 32))])
    with pytest.raises(RequestError, match="a model of the kind Decoder takes tokens alone"):
        Engine(tiny_llama()).add(request)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float8_e4m3fn])
def test_features_in_another_precision_do_not_change_those_of_others(
    model: Multimodal, requests: list[Request], dtype: torch.dtype
) -> None:
    other = Request(
        tokens=PROMPTS[2],
        attachments=[Attachment(start=0, features=torch.ones(4, 32).to(dtype))],
        params=PARAMS,
    )
    assert_same(run(Engine(model), [requests[0], other])[0], run(Engine(model), requests[:1])[0])
