"""Whisper writes down what transformers writes down, and is as large as it was published."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import WhisperConfig as Theirs
from transformers import WhisperForConditionalGeneration

from malmoi.core.errors import ConfigError, RequestError
from malmoi.models import build_model, count_parameters, load_model, whisper
from malmoi.models.huggingface import ConfigReader
from malmoi.nn.audio import AudioToText
from malmoi.nn.context import Context

CONFIG = whisper.write_config(whisper.sized(4, num_heads=6))


def read(config: dict[str, Any]) -> whisper.WhisperConfig:
    reader = ConfigReader(config, where="config.json")
    found = whisper.read_config(reader)
    reader.finish()
    return found


@torch.no_grad()
def test_greedy_generation_equals_the_reference(tmp_path: Path, randomise: Any) -> None:
    """The sound is encoded once; its keys are cached with the first tokens."""
    small = {
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
    }
    config = Theirs(
        **small, vocab_size=61, d_model=24, encoder_ffn_dim=40, decoder_ffn_dim=40, num_mel_bins=5,
        max_source_positions=10, max_target_positions=32, bos_token_id=None, eos_token_id=None,
        pad_token_id=None, begin_suppress_tokens=None, decoder_start_token_id=0,
    )  # fmt: skip
    theirs = randomise(WhisperForConditionalGeneration(config)).eval()
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    assert isinstance(ours, AudioToText)
    audio, prompts = torch.randn(3, 5, 20), torch.randint(61, (3, 4))
    wanted = theirs.generate(audio, decoder_input_ids=prompts, max_new_tokens=16, do_sample=False)
    caches, source, tokens, written, num_cached = ours.new_caches(), ours.encode(audio), prompts, [], 0
    for _ in range(16):
        context = Context.dense(
            tokens, specs=ours.cache_specs(), caches=caches, num_cached=num_cached, source=source
        )
        num_cached += tokens.shape[1]
        source = source[:, :0]
        tokens = ours.head(ours.hidden(tokens, context)[:, -1:]).argmax(-1)
        written.append(tokens)
    assert torch.equal(torch.cat(written, dim=1), wanted)


@pytest.mark.parametrize(
    ("preset", "num_parameters"),
    [
        ("whisper-tiny", 37_760_640),
        ("whisper-base", 72_593_920),
        ("whisper-large-v3", 1_543_490_560),
        ("whisper-large-v3-turbo", 808_878_080),
    ],
)
def test_presets_have_as_many_parameters_as_the_published_files(preset: str, num_parameters: int) -> None:
    """As the checkpoints of openai/whisper-* on the hub hold, their stored sinusoids included."""
    with torch.device("meta"):
        assert count_parameters(build_model(whisper.PRESETS[preset]())) == num_parameters


def test_base_has_as_many_parameters_as_its_authors_count() -> None:
    """71,825,920, says the notebook in OpenAI's repository, for which the sinusoids are a buffer."""
    with torch.device("meta"):
        model = build_model(whisper.PRESETS["whisper-base"]())
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 71_825_920


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation_function": "relu"}, "activation_function='relu' is not supported"),
        ({"scale_embedding": True}, "scale_embedding=True is not supported"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings=False is not supported"),
        ({"is_encoder_decoder": False}, "is_encoder_decoder=False is not supported"),
        ({"num_hidden_layers": 5}, "num_hidden_layers=5 is not supported here. Supported: 4"),
        ({"num_mel_bins": 0}, "num_mel_bins=0 is not above 0"),
        ({"rope_theta": 1e4}, "'rope_theta'"),
    ],
    ids=str,
)
def test_what_we_do_not_compute_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    assert read(CONFIG).num_layers == 4
    with pytest.raises(ConfigError, match=message):
        read(CONFIG | change)


def test_more_text_than_learned_positions_is_refused() -> None:
    model = build_model(whisper.sized(1, num_heads=1, vocab_size=61))
    with pytest.raises(RequestError, match="has learned only 448 positions"):
        model(torch.zeros(1, 449, dtype=torch.long), audio=torch.zeros(1, 80, 3000))
