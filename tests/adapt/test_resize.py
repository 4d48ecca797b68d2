import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import pre_tokenizers
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from malmoi.adapt import INITS, resize, shrink_model
from malmoi.adapt.directory import NamedIds, write_adapted
from malmoi.adapt.rows import vocabulary_of
from malmoi.core.errors import CheckpointError, ConfigError, TokenizerError
from malmoi.models import build_model, initialise, load_model, save_model
from malmoi.models.bart import BartConfig
from malmoi.models.bert import BertConfig
from malmoi.nn.quantized import quantize
from malmoi.nn.stack import Model
from malmoi.testing.models import tiny_gpt2, tiny_llama, tiny_llava, tiny_lstm, tiny_t5
from malmoi.testing.tokenizer import SPECIAL_TOKENS, ByteTokenizer
from malmoi.text.tokenizer import Tokenizer
from malmoi.text.training import train_bpe
from malmoi.text.vocabulary.expand import expand
from malmoi.text.vocabulary.shrink import shrink

TEXTS = ["나는 학교에 간다. 너는 학교에서 온다. 학교에 간다 ㅋㅋ"] * 3
ROWS = 263  # four more than the byte tokenizer has


def tiny_bart() -> Model:
    config = BartConfig(
        vocab_size=ROWS, hidden_size=24, num_layers=1, num_heads=4, intermediate_size=40,
        num_decoder_layers=1, num_decoder_heads=4, decoder_intermediate_size=40, max_positions=64,
    )  # fmt: skip
    model = initialise(build_model(config), seed=0, std=0.3).eval()
    model.decoder.head.bias.data.normal_()
    return model


def tiny_bert() -> Model:
    config = BertConfig(
        vocab_size=ROWS, hidden_size=24, intermediate_size=40, num_layers=2, num_heads=4, max_positions=64,
        head="masked-token",
    )  # fmt: skip
    return initialise(build_model(config), seed=0, std=0.3).eval()


MODELS: dict[str, Callable[[], Model]] = {
    "llama": lambda: tiny_llama(vocab_size=ROWS),
    "llama, tied": lambda: tiny_llama(vocab_size=ROWS, is_tied=True),
    "gpt2": lambda: tiny_gpt2(vocab_size=ROWS),
    "lstm": lambda: tiny_lstm(vocab_size=ROWS),
    "t5": lambda: tiny_t5(vocab_size=ROWS),
    "bart, with a head's bias": tiny_bart,
    "bert, masked tokens": tiny_bert,
}


@pytest.fixture(params=MODELS.values(), ids=MODELS.keys())
def model(request: pytest.FixtureRequest) -> Model:
    made: Model = request.param()
    return made


OLD = ByteTokenizer()
NEW = expand(OLD, TEXTS, num_added=20)


def logits(model: Model, ids: list[int]) -> Tensor:
    tokens = torch.tensor([ids])
    with torch.no_grad():
        if type(model).__name__ == "EncoderDecoder":
            return model(tokens, decoder_tokens=tokens).logits
        return model(tokens).logits


def embedding(model: Model) -> Tensor:
    name = next(name for name, _ in model.named_parameters() if name.endswith("embedding.tokens.weight"))
    return model.get_parameter(name).detach()


def same(ours: Tensor, theirs: Tensor) -> bool:
    return bool((ours - theirs).abs().max() <= 1e-5 * theirs.abs().max())


@pytest.mark.parametrize("init", INITS)
def test_a_model_says_the_same_about_old_tokens(model: Model, init: str) -> None:
    resized = resize(model, OLD, NEW, init=init)
    ids = OLD.encode("나는 a")
    assert vocabulary_of(resized.model.config) == NEW.vocab_size
    assert same(logits(resized.model, ids)[..., : OLD.vocab_size], logits(model, ids)[..., : OLD.vocab_size])
    assert (resized.num_kept, resized.num_kept + resized.num_from_pieces + resized.num_from_all) == (259, 279)
    assert resized.num_spare == 4


def test_only_rows_of_tokens_are_new_and_the_model_is_as_before(model: Model) -> None:
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    resized = resize(model, OLD, NEW).model
    for name, parameter in resized.named_parameters(remove_duplicate=False):
        old = model.get_parameter(name)
        assert parameter is old if parameter.shape == old.shape else parameter.shape[0] == NEW.vocab_size
    assert all(torch.equal(before[name], tensor) for name, tensor in model.named_parameters())


def test_what_is_tied_stays_tied() -> None:
    resized = resize(tiny_llama(is_tied=True), OLD, NEW).model
    assert resized.head.weight is resized.embedding.tokens.weight
    resized = resize(tiny_llama(), OLD, NEW).model
    assert resized.head.weight is not resized.embedding.tokens.weight


def test_a_new_row_is_the_mean_of_its_pieces(model: Model) -> None:
    old, new = embedding(model), embedding(resize(model, OLD, NEW).model)
    for token_id in range(OLD.vocab_size, NEW.vocab_size):
        pieces = [3 + byte for byte in NEW.token_bytes(token_id)]
        assert torch.allclose(new[token_id], old[pieces].mean(0), atol=1e-6)


def test_the_mean_of_all_leaves_padding_out() -> None:
    model = tiny_llama(vocab_size=ROWS)
    model.embedding.tokens.weight.data[259:] = 1e6
    new = embedding(resize(model, OLD, NEW, init="mean").model)
    assert torch.allclose(new[259:], embedding(model)[:259].mean(0).expand(20, -1), atol=1e-6)


def test_with_the_mean_new_tokens_take_no_more_than_their_share() -> None:
    """Hewitt's bound: a logit that is the mean of the others is at most their log-mean-exp."""
    model = tiny_llama()
    probabilities = logits(resize(model, OLD, NEW, init="mean").model, [5, 6, 7]).softmax(-1)
    assert (probabilities[..., 259:].sum(-1) <= 20 / 279 + 1e-6).all()


def test_noise_is_drawn_around_the_mean_as_wide_as_the_rows_and_by_the_seed() -> None:
    model = tiny_llama()
    big = expand(OLD, TEXTS, num_added=20)
    rows = torch.cat(
        [embedding(resize(model, OLD, big, init="noise", seed=seed).model)[259:] for seed in range(20)]
    )
    old = embedding(model)
    assert torch.allclose(rows.mean(0), old.mean(0), atol=4 * float(old.std()) / len(rows) ** 0.5)
    assert torch.allclose(rows.std(0), old.std(0), rtol=0.2)
    again = (embedding(resize(model, OLD, big, init="noise", seed=3).model) for _ in range(2))
    assert torch.equal(next(again), next(again))


def test_padding_that_is_left_stays() -> None:
    model = tiny_llama(vocab_size=300)
    resized = resize(model, OLD, NEW)
    assert vocabulary_of(resized.model.config) == 300
    assert resized.num_spare == 20
    assert torch.equal(embedding(resized.model)[279:], embedding(model)[279:])
    assert not torch.equal(embedding(resized.model)[259:279], embedding(model)[259:279])


def test_align_finds_tokens_by_what_they_stand_for() -> None:
    old = train_bpe(TEXTS, vocab_size=290)
    new = train_bpe(
        [*TEXTS, "말모이 hello hello"] * 2, vocab_size=300, special_tokens=("<|im_end|>", "<other>")
    )
    model = tiny_llama(vocab_size=290)
    with pytest.raises(TokenizerError, match="not an expansion of it. Use --init align") as caught:
        resize(model, old, new)
    assert "id 0 is '<|endoftext|>' in the model's tokenizer and '<|im_end|>' in the new one" in str(
        caught.value
    )
    resized = resize(model, old, new, init="align")
    rows, were = embedding(resized.model), embedding(model)
    assert vocabulary_of(resized.model.config) == 300
    for token_id in range(300):
        piece = new.token_bytes(token_id)
        same_tokens = [i for i in range(290) if old.token_bytes(i) == piece]
        if token_id == 1:  # <other>
            assert torch.allclose(rows[token_id], were.mean(0), atol=1e-6)
        elif same_tokens:
            assert torch.equal(rows[token_id], were[same_tokens[0]])
        else:
            name = new.backend.id_to_token(token_id)
            pieces = [token.id for token in old.backend.model.tokenize(name)]
            assert torch.allclose(rows[token_id], were[pieces].mean(0), atol=1e-6)
    assert resized.new_ids[old.special_tokens["<|im_end|>"]] == 0
    assert old.special_tokens["<|im_start|>"] not in resized.new_ids


def test_a_token_that_is_another_is_shown_as_it_is_read_and_as_the_file_has_it() -> None:
    cut = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    [(name, _)] = cut.pre_tokenize_str("에")

    def with_token(token: str) -> Tokenizer:
        content = json.loads(ByteTokenizer().backend.to_str())
        content["model"]["vocab"][token] = 259
        return Tokenizer(json.dumps(content))

    said = f"id 259 is '에' (named {name}) in the model's tokenizer and <ec 97> (named {name[:2]}) in the new one"
    with pytest.raises(TokenizerError, match=re.escape(said)):
        resize(tiny_llama(vocab_size=260), with_token(name), with_token(name[:2]))
    with pytest.raises(TokenizerError, match="id 259 is '에' .* and no token in the new one"):
        resize(tiny_llama(vocab_size=260), with_token(name), ByteTokenizer())


def test_align_goes_from_one_alphabet_to_another() -> None:
    """From bytes to characters: ▁한 is the bytes of a space and of 한."""
    content = {"type": "BPE", "vocab": {"▁": 0, "한": 1, "▁한": 2}, "merges": [["▁", "한"]]}
    source = {
        "version": "1.0", "added_tokens": [], "model": content,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "decoder": {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
    }  # fmt: skip
    model = tiny_llama()
    rows = embedding(resize(model, OLD, Tokenizer(json.dumps(source)), init="align").model)
    were = embedding(model)
    assert torch.equal(rows[0], were[3 + ord(" ")])
    assert torch.allclose(rows[2], were[[3 + byte for byte in " 한".encode()]].mean(0), atol=1e-6)


def test_bf16_rows_are_meant_in_fp32() -> None:
    model = tiny_llama().to(torch.bfloat16)
    new = embedding(resize(model, OLD, NEW).model)
    assert new.dtype == torch.bfloat16
    pieces = [3 + byte for byte in NEW.token_bytes(278)]
    assert torch.equal(new[278], embedding(model)[pieces].float().mean(0).to(torch.bfloat16))


def test_a_model_that_sees_keeps_its_placeholder() -> None:
    old = ByteTokenizer([*SPECIAL_TOKENS, "<image>"])
    model = tiny_llava()
    resized = resize(model, old, expand(old, TEXTS, num_added=4)).model
    images = torch.rand(1, 3, 8, 8)
    tokens = torch.tensor([[9, 3, 3, 3, 3, 10]])
    with torch.no_grad():
        ours, before = (each(tokens, images=images).logits for each in (resized, model))
    assert same(ours[..., :260], before)
    without_image = shrink(ByteTokenizer(), ["가"])
    with pytest.raises(ConfigError, match="image_token is 3, and the new vocabulary has no such token"):
        resize(model, old, without_image.tokenizer, init="align")


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="init='zeros' is not known. Use subword-mean, mean, noise, align"):
        resize(tiny_llama(), OLD, NEW, init="zeros")
    with pytest.raises(ConfigError, match="has 100 rows, and its tokenizer ids up to 258"):
        resize(tiny_llama(vocab_size=100), OLD, NEW)
    with pytest.raises(ConfigError, match="quantised. Change the vocabulary of the full one"):
        resize(quantize(tiny_llama(hidden_size=64, intermediate_size=128), "int8"), OLD, NEW)
    with pytest.raises(ConfigError, match="id 900 is not in the model's vocabulary of 259"):
        shrink_model(tiny_llama(), [1, 900])


def test_a_shrunk_model_says_the_same_about_what_is_left(model: Model) -> None:
    kept = [0, 1, 2, *(3 + byte for byte in b"helo wrd")]
    small = shrink_model(model, kept)
    ids = [4, 5, 6, 6, 3]
    assert same(logits(small, ids), logits(model, [kept[i] for i in ids])[..., kept])


def saved(model: Model, directory: Path) -> Path:
    save_model(model, directory)
    OLD.save(directory)
    (directory / "chat_template.jinja").write_text("{{ messages }}", "utf-8")
    generation = {"eos_token_id": [2, 0], "pad_token_id": 0, "top_p": 0.9, "suppress_tokens": [100]}
    (directory / "generation_config.json").write_text(json.dumps(generation), "utf-8")
    return directory


def test_transformers_loads_what_is_written_and_agrees(tmp_path: Path) -> None:
    source, out = saved(tiny_llama(), tmp_path / "old"), tmp_path / "new"
    resized = resize(load_model(source), OLD, NEW)
    assert write_adapted(resized.model, NEW, out, source=source, new_id=resized.new_ids.get) == []
    theirs = AutoModelForCausalLM.from_pretrained(out).eval()
    ids = AutoTokenizer.from_pretrained(out).encode("학교에서 나는", add_special_tokens=False)
    assert ids == NEW.encode("학교에서 나는")
    with torch.no_grad():
        assert same(logits(load_model(out), ids), theirs(torch.tensor([ids])).logits)
    assert theirs.config.vocab_size == 279
    assert theirs.generation_config.eos_token_id == [2, 0]
    assert (out / "chat_template.jinja").read_text("utf-8") == "{{ messages }}"


def test_named_ids_are_renumbered_and_those_of_gone_tokens_are_left_out(tmp_path: Path) -> None:
    source, out = saved(tiny_llama(), tmp_path / "old"), tmp_path / "new"
    config = json.loads((source / "config.json").read_text("utf-8")) | {"bos_token_id": 1, "eos_token_id": 5}
    (source / "config.json").write_text(json.dumps(config), "utf-8")
    assert NamedIds.read(source).ids() == {0, 1, 2, 100}
    kept = [0, 1, 2, 50, 60]
    small = shrink_model(load_model(source), kept)
    new_id = {old: new for new, old in enumerate(kept)}.get
    assert write_adapted(small, OLD, out, source=source, new_id=new_id) == ["suppress_tokens"]
    generation = json.loads((out / "generation_config.json").read_text("utf-8"))
    assert generation == {"bos_token_id": 1, "eos_token_id": [2, 0], "pad_token_id": 0, "top_p": 0.9}


def test_nothing_is_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = saved(tiny_llama(), tmp_path / "old"), tmp_path / "new"
    model = load_model(source)
    with pytest.raises(CheckpointError, match="is not empty. Write to a new directory"):
        write_adapted(model, OLD, source, source=source)

    def full(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Tokenizer, "save", full)
    with pytest.raises(KeyboardInterrupt):
        write_adapted(model, OLD, out, source=source)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize("page", ["adapt-vocabulary.md", "adapt-vocabulary.ko.md"])
def test_the_page_about_vocabularies_has_a_program_that_runs(page: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / page).read_text("utf-8")
    [program] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(program, page, "exec"), {})  # what it says of itself it asserts
