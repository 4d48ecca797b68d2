"""LLaVA beside its laws: what the tower hands over, how prompts and images meet, and files as they were published."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel, SiglipVisionConfig, SiglipVisionModel

from malmoi.core.errors import ConfigError, RequestError
from malmoi.models import build_model, count_parameters, initialise, load_config, load_model, save_model
from malmoi.models.clip import ClipConfig, clip_vit_l_14_336
from malmoi.models.llama import LlamaConfig
from malmoi.models.llava import LlavaConfig, llava_1_5_7b
from malmoi.models.siglip import SiglipConfig, siglip_so400m_14_384
from malmoi.nn.context import Context
from malmoi.nn.multimodal import Multimodal
from malmoi.nn.vision import VisionTower

IMAGE = 60
TOWER: dict[str, Any] = {"hidden_size": 12, "intermediate_size": 20, "num_layers": 3, "num_heads": 3}
TEXT = LlamaConfig(
    vocab_size=61,
    hidden_size=24,
    intermediate_size=40,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=6,
    max_positions=64,
)
LLAVA = LlavaConfig(vision=ClipConfig(**TOWER, image_size=8, patch_size=4), text=TEXT, image_token=IMAGE)
Randomise = Callable[[Any], Any]
Check = Callable[..., None]


@pytest.fixture
def model(randomise: Randomise) -> Multimodal:
    built: Multimodal = randomise(build_model(LLAVA)).eval()
    return built


def images(number: int, size: int = 8) -> Tensor:
    return torch.randn(number, 3, size, size)


def prompt(*parts: int) -> Tensor:
    """A row of so many words, an image, so many words, an image, ..."""
    words = [torch.randint(IMAGE, (1, n)) for n in parts]
    image = torch.full((1, LLAVA.num_image_tokens), IMAGE)
    row = [words[0]]
    for part in words[1:]:
        row += [image, part]
    return torch.cat(row, dim=1)


@torch.no_grad()
def logits(model: Multimodal, tokens: Tensor, **inputs: Any) -> Tensor:
    out: Tensor = model(tokens, **inputs).logits
    return out


# --- towers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("their_config", "their_class"),
    [(CLIPVisionConfig, CLIPVisionModel), (SiglipVisionConfig, SiglipVisionModel)],
    ids=["clip", "siglip"],
)
@torch.no_grad()
def test_the_states_after_every_layer_are_the_references(
    their_config: Any, their_class: Any, tmp_path: Path, randomise: Randomise, assert_close: Check
) -> None:
    shape = {"hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 3, "num_attention_heads": 3}
    theirs = randomise(their_class(their_config(**shape, image_size=12, patch_size=4))).eval()
    theirs.save_pretrained(tmp_path)
    ours, pixels = load_model(tmp_path), images(2, 12)
    assert isinstance(ours, VisionTower)
    wanted = theirs(pixels, output_hidden_states=True)
    out = ours(pixels)
    assert_close(out.hidden, wanted.last_hidden_state)
    assert out.pooled is not None
    assert_close(out.pooled, wanted.pooler_output)
    assert out.logits is None
    for state, their_state in zip(ours.states_after(range(4), pixels), wanted.hidden_states, strict=True):
        assert_close(state, their_state)


def test_layers_that_are_not_shown_are_not_computed(model: Multimodal) -> None:
    tower = model.encoders["images"].tower
    tower.blocks[2].forward = None  # calling it would fail
    assert [len(state) for state in tower.states_after([-2, 0, 1], images(2))] == [2, 2, 2]


@pytest.mark.parametrize("size", [(8, 12), (4, 4)])
def test_images_of_another_size_are_refused(model: Multimodal, size: tuple[int, int]) -> None:
    with pytest.raises(RequestError, match=f"have {size[0]} x {size[1]} pixels, .* takes 8 x 8"):
        model.encode(images=torch.randn(1, 3, *size))


# --- prompts and images ------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["default", "full"])
@pytest.mark.parametrize("vision", [ClipConfig, SiglipConfig])
@pytest.mark.parametrize("layers", [(-2,), (1, -1, 0)])
def test_an_image_makes_as_many_features_as_the_configuration_says(
    vision: Any, strategy: Any, layers: tuple[int, ...]
) -> None:
    tower = vision(**TOWER, image_size=11, patch_size=3)
    config = replace(LLAVA, vision=tower, strategy=strategy, vision_layers=layers)
    features = build_model(config).encode(images=images(2, 11))["images"]
    assert features.shape == (2 * config.num_image_tokens, TEXT.hidden_size)


def test_a_residual_stream_begins_as_deep_as_its_own_stack_is() -> None:
    """The decoder as it would alone, the tower as it would alone; a projector writes into no stream."""
    model = initialise(
        build_model(replace(LLAVA, vision=replace(LLAVA.vision, hidden_size=96))), seed=0, std=1.0
    )
    deviations = {name: p.std().item() for name, p in model.named_parameters() if p.ndim == 2}
    tower = "encoders.images.tower.blocks.0."
    for name, num_sublayers in {
        "blocks.0.attention.mixer.out.weight": 4,
        "blocks.1.ffn.mixer.down.weight": 4,
        f"{tower}attention.mixer.out.weight": 6,
        f"{tower}ffn.mixer.down.weight": 6,
        "encoders.images.projector.down.weight": 1,
    }.items():
        assert deviations[name] * num_sublayers**0.5 == pytest.approx(1.0, abs=0.1), name


def test_without_an_image_it_is_its_decoder(model: Multimodal) -> None:
    decoder, tokens = build_model(TEXT), torch.randint(IMAGE, (2, 12))
    decoder.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("encoders.")})
    assert torch.equal(logits(model, tokens), logits(decoder, tokens))  # with gradients other kernels run


def test_an_image_changes_what_comes_after_it_and_nothing_before(model: Multimodal) -> None:
    tokens = prompt(3, 4)
    before, after = (logits(model, tokens, images=images(1)) for _ in range(2))
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.isclose(before[:, 3:], after[:, 3:]).all(-1).any()


def test_images_fill_their_places_in_the_order_of_the_prompts(model: Multimodal, assert_close: Check) -> None:
    """Two in the first row, one in the second; one row after the other gives the same."""
    pixels, first, second = images(3), prompt(2, 3, 1), prompt(1, 9)
    together = logits(model, torch.cat([first, second]), images=pixels)
    assert_close(together[:1], logits(model, first, images=pixels[:2]))
    assert_close(together[1:], logits(model, second, images=pixels[2:]))


def test_rows_of_several_lengths_equal_each_alone(model: Multimodal, assert_close: Check) -> None:
    pixels, rows = images(2), [prompt(2, 3), prompt(1, 8)]
    tokens, mask = torch.full((2, 13), IMAGE), torch.zeros(2, 13, dtype=torch.bool)
    tokens[0, 4:], mask[0, 4:] = rows[0], True  # the padding is as many placeholders as one pleases
    tokens[1], mask[1] = rows[1], True
    out = logits(model, tokens, images=pixels, mask=mask)
    assert_close(out[0, 4:], logits(model, rows[0], images=pixels[:1])[0])
    assert_close(out[1], logits(model, rows[1], images=pixels[1:])[0])
    assert not out[~mask].any()


@pytest.mark.parametrize("chunks", [[4, 7], [1] * 11, [3, 2, 6]], ids=str)
def test_a_prompt_in_chunks_equals_the_whole(
    model: Multimodal, chunks: list[int], assert_close: Check
) -> None:
    """An image may be cut anywhere: each chunk is given the features of its own placeholders."""
    tokens, pixels = prompt(3, 4), images(1)
    whole = model.splice(tokens, images=pixels)
    assert whole is not None
    caches, outs, done, num_spliced = model.new_caches(), [], 0, 0
    for chunk in tokens.split(chunks, dim=1):
        here = whole.is_placeholder[:, done : done + chunk.shape[1]]
        features = whole.features[num_spliced : num_spliced + int(here.sum())]
        context = Context.dense(chunk, specs=model.cache_specs(), caches=caches, num_cached=done)
        splice = replace(whole, is_placeholder=here, features=features)
        outs.append(logits(model, chunk, context=replace(context, splice=splice)))
        done, num_spliced = done + chunk.shape[1], num_spliced + len(features)
    assert_close(torch.cat(outs, dim=1), logits(model, tokens, images=pixels))


@pytest.mark.parametrize(("words", "number"), [((3, 4), 2), ((3, 4, 1), 1), ((5,), 1)])
def test_as_many_images_as_the_prompt_has_places_for(
    model: Multimodal, words: tuple[int, ...], number: int
) -> None:
    places = 4 * (len(words) - 1)
    message = (
        f"the prompt has {places} placeholders .id 60., but its images or sounds make {4 * number} features"
    )
    with pytest.raises(RequestError, match=message):
        model(prompt(*words), images=images(number))


def test_an_image_lies_within_a_row(model: Multimodal) -> None:
    """Of 3 and 5 places, 8 in all, one image would fill the first row and spill into the second."""
    tokens = torch.randint(IMAGE, (2, 9))
    tokens[0, 1:4] = tokens[1, 2:7] = IMAGE
    message = r"the 4 features of image or sound 0 find 3 placeholders \(id 60\) in row 0"
    with pytest.raises(RequestError, match=message):
        model(tokens, images=images(2))
    with pytest.raises(RequestError, match=message):
        model(tokens, images=images(2), mask=torch.ones_like(tokens, dtype=torch.bool))


def test_places_that_nothing_fills_are_refused(model: Multimodal) -> None:
    tokens = prompt(3, 4)
    with pytest.raises(RequestError, match=r"places for images \(id 60\), but none were given"):
        model(tokens)
    with pytest.raises(RequestError, match=r"places for images \(id 60\), but none were given"):
        model(tokens, mask=torch.ones_like(tokens, dtype=torch.bool))
    assert logits(model, tokens, mask=tokens != IMAGE).isfinite().all()  # they are padding


def test_a_medium_that_the_model_does_not_take_is_named(model: Multimodal) -> None:
    with pytest.raises(RequestError, match="takes no audio. It takes, beside tokens: images"):
        model(prompt(3, 4), audio=torch.zeros(1, 3, 4))


# --- checkpoints -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        {"vision_tower.": "vision_tower.vision_model."},
        {
            "vision_tower.": "model.vision_tower.vision_model.",
            "language_model.model.": "model.language_model.",
            "language_model.lm_head.": "lm_head.",
            "multi_modal_projector.": "model.multi_modal_projector.",
        },
        {"vision_tower.": "model.vision_tower.", "language_model.model.": "model.language_model."},
    ],
    ids=["as published in 2023", "as in the model's own code", "a mixture"],
)
def test_names_of_other_versions_load(model: Multimodal, names: dict[str, str], tmp_path: Path) -> None:
    save_model(model, tmp_path)
    tensors = {
        next((new + name.removeprefix(old) for old, new in names.items() if name.startswith(old)), name): t
        for name, t in load_file(tmp_path / "model.safetensors").items()
    }
    tensors["vision_tower.vision_model.embeddings.position_ids"] = torch.arange(5)[None]
    tensors["language_model.model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(3)
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, tmp_path / "model.safetensors")
    again = load_model(tmp_path).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())


SMALL_FILE = {
    "model_type": "llava",
    "image_token_index": 60,
    "text_config": {"model_type": "llama", "vocab_size": 61},
    "vision_config": {"model_type": "clip_vision_model", "hidden_size": 12, "num_attention_heads": 3},
}


def read(raw: dict[str, Any], directory: Path) -> Any:
    (directory / "config.json").write_text(json.dumps(raw), "utf-8")
    return load_config(directory)


@pytest.mark.parametrize(
    ("config", "num_parameters"),
    [
        (llava_1_5_7b(), 7_063_427_072),
        (clip_vit_l_14_336(), 303_507_456),
        (siglip_so400m_14_384(), 428_225_600),
    ],
    ids=["llava-1.5-7b", "clip-vit-l-14-336", "siglip-so400m-14-384"],
)
def test_presets_have_as_many_parameters_as_the_published_models(config: Any, num_parameters: int) -> None:
    with torch.device("meta"):
        assert count_parameters(build_model(config)) == num_parameters


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"projector_hidden_act": "relu"}, "projector_hidden_act='relu' is not supported"),
        ({"vision_feature_select_strategy": "cls"}, "vision_feature_select_strategy='cls' is not supported"),
        ({"vision_feature_layer": "last"}, "vision_feature_layer='last' is not a int"),
        ({"vision_feature_layer": [-2, "last"]}, "is not a list of layers"),
        ({"image_token_id": 7}, "image_token_id=7 is not supported here. Supported: 60"),
        ({"image_grid_pinpoints": [[336, 672]]}, "the key 'image_grid_pinpoints'"),
        ({"text_config": {"model_type": "llama", "hops": 3}}, "text_config: the key 'hops'"),
        ({"text_config": {"model_type": "vicuna"}}, "model_type='vicuna' is not a family"),
        ({"vision_config": {"hidden_act": "relu"}}, "vision_config: hidden_act='relu' is not supported"),
        ({"vision_config": {"model_type": "gpt2"}}, "GPT2Config is no configuration of a vision tower"),
    ],
    ids=str,
)
def test_what_we_do_not_compute_is_refused_by_name(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        read(SMALL_FILE | changes, tmp_path)


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="images has the id 61, outside of the decoder's vocabulary of 61"):
        build_model(replace(LLAVA, image_token=61))
    with pytest.raises(ConfigError, match="Multimodal is more than a decoder of text"):
        Multimodal(build_model(LLAVA), encoders={}, placeholders={})
    with pytest.raises(ConfigError, match="vision layer -5 of a tower of 3 blocks. Use -4 to 3"):
        build_model(replace(LLAVA, vision_layers=(-5,)))
    with pytest.raises(ConfigError, match="LLaVA's text_config takes a model of the kind Decoder"):
        build_model(replace(LLAVA, text=LLAVA.vision))
