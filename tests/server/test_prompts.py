"""What /v1/completions goes on from: a text, ids, several of either; and the prompt before its answer."""

from typing import Any

import pytest
import torch
from tests.server.conftest import Serve, Served, wait_until

from malmoi.testing.models import tiny_llm, tiny_t5

TEXT = "/v1/completions"
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 5, "ignore_eos": True}


def choices(served: Served, **body: Any) -> list[dict[str, Any]]:
    response = served.post(TEXT, **{**GREEDY, **body})
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["choices"]
    return found


def test_ids_are_gone_on_from_as_their_text_is(tiny: Served) -> None:
    ids = tiny.llm.builder.prompt_ids("말모이")
    assert choices(tiny, prompt=ids) == choices(tiny, prompt="말모이")
    streamed = tiny.chunks(TEXT, prompt=ids, **GREEDY)
    text = "".join(choice["text"] for chunk in streamed for choice in chunk["choices"])
    assert text == choices(tiny, prompt=ids)[0]["text"]


@pytest.mark.parametrize("prompts", [["말", "모이"], [[5, 6, 7], [8, 9]]], ids=["texts", "ids"])
def test_several_prompts_are_answered_each_as_alone_and_in_order(tiny: Served, prompts: list[Any]) -> None:
    both = choices(tiny, prompt=prompts, n=2)
    alone = [choice for prompt in prompts for choice in choices(tiny, prompt=prompt, n=2)]
    assert [choice["index"] for choice in both] == [0, 1, 2, 3]
    assert [choice["text"] for choice in both] == [choice["text"] for choice in alone]


def test_tokens_of_several_prompts_are_counted_together(tiny: Served) -> None:
    usage = tiny.post(TEXT, prompt=[[5, 6, 7], [8, 9]], n=2, **GREEDY).json()["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (5, 20, 25)


@pytest.mark.parametrize(
    ("prompt", "word"), [([], "prompt"), ([[]], "prompt"), ([1, "a"], "prompt"), ([10**9], "1000000000")]
)
def test_what_is_no_prompt_is_refused(tiny: Served, prompt: Any, word: str) -> None:
    response = tiny.post(TEXT, prompt=prompt)
    assert response.status_code == 400
    assert word in response.json()["error"]["message"]


def test_an_echo_is_the_prompt_before_its_answer(tiny: Served) -> None:
    for prompts in (["말", "모이"], [[104, 105], [106]]):
        for prompt, echoed in zip(prompts, choices(tiny, prompt=prompts, echo=True), strict=True):
            text = prompt if isinstance(prompt, str) else tiny.llm.tokenizer.decode(prompt)
            assert echoed["text"] == text + choices(tiny, prompt=prompt)[0]["text"]


def test_an_echo_has_the_likelihood_of_each_token_of_the_prompt(tiny: Served) -> None:
    ids = [104, 105, 106, 107]
    [echoed] = choices(tiny, prompt=ids, echo=True, logprobs=2)
    logprobs = echoed["logprobs"]
    assert "".join(logprobs["tokens"][:4]) == tiny.llm.tokenizer.decode(ids)
    assert logprobs["text_offset"][:5] == [0, 1, 2, 3, 4]
    assert {len(values) for values in logprobs.values()} == {len(ids) + 5}
    assert (logprobs["token_logprobs"][0], logprobs["top_logprobs"][0]) == (None, None)
    with torch.no_grad():
        wanted = tiny.llm.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    for place in range(1, len(ids)):
        assert logprobs["token_logprobs"][place] == pytest.approx(
            wanted[place - 1, ids[place]].item(), abs=1e-4
        )
        best = max(logprobs["top_logprobs"][place].values())
        assert best == pytest.approx(wanted[place - 1].max().item(), abs=1e-4)


def test_an_encoder_decoder_predicts_no_prompt(serve: Serve) -> None:
    served = serve(tiny_llm(tiny_t5()))
    assert served.post(TEXT, prompt="말", echo=True).json()["error"]["param"] == "echo"
    assert served.post(TEXT, prompt=[5, 6], **GREEDY).status_code == 200


def test_who_goes_away_ends_the_answers_to_all_prompts(endless: Served) -> None:
    connection = endless.request(TEXT, prompt=["말", "모이"], max_tokens=8000, ignore_eos=True)
    wait_until(lambda: len(endless.llm.engine.scheduler.running) == 2)
    connection.close()
    endless.until_idle()
    assert endless.num_blocks_in_use == 0
