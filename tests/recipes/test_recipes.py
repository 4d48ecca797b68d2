"""Laws of recipes/: a recipe is a complete run, and the one dial sizes it."""

import json
from pathlib import Path

import pytest

from malmoi.core.config import from_mapping, to_mapping
from malmoi.core.errors import ConfigError
from malmoi.data.sources import read_documents
from malmoi.models import build_model, count_parameters, llama
from malmoi.recipes import RECIPES, make_run, story
from malmoi.train.config import FromCheckpoint, FromScratch, RunConfig

SAMPLE = Path(__file__).parents[2] / "sample"


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_a_run_that_json_can_hold(name: str) -> None:
    run = make_run(name, "data")
    assert from_mapping(RunConfig, json.loads(json.dumps(to_mapping(run))), where=name) == run


@pytest.mark.parametrize("name", ["pretrain", "sft", "denoise"])
def test_the_story_finds_all_its_data_in_the_sample(name: str) -> None:
    run = make_run(name, str(SAMPLE))
    for source in run.sources:
        assert next(read_documents(source))
    for source in run.eval_sources:
        assert sum(1 for _ in read_documents(source, split="held-out")) >= 20
    assert {Path(source.path).stem for source in make_run("pretrain", str(SAMPLE)).sources} == {
        "prose",
        "pairs",
    }


def test_a_directory_without_translations_is_data_too(tmp_path: Path) -> None:
    assert [source.path for source in make_run("pretrain", str(tmp_path)).sources] == [f"{tmp_path}/prose.*"]


@pytest.mark.parametrize("depth", [2, 4, 8, 16])
def test_one_dial_sizes_the_model_and_twenty_tokens_for_each_of_its_layers_parameters(depth: int) -> None:
    run = make_run("pretrain", "data", depth=depth)
    assert isinstance(run.start, FromScratch)
    assert run.start.depth == depth
    model = build_model(llama.sized(depth, vocab_size=1024 * depth, max_positions=1024))
    in_layers = count_parameters(model.blocks)
    assert run.total_tokens == pytest.approx(story.TOKENS_PER_PARAMETER * in_layers, rel=0.1)


def test_the_tasks_of_an_encoder_start_from_the_one_that_filled_gaps() -> None:
    first = make_run("mlm", "data")
    for name in ("classify", "similarity"):
        start = make_run(name, "data").start
        assert isinstance(start, FromCheckpoint)
        assert start.path == f"{first.out}/model"


def test_a_task_is_scored_on_all_of_a_file_that_it_never_learns_from() -> None:
    for name in ("classify", "similarity"):
        run = make_run(name, "data")
        assert [source.holdout_permille for source in run.sources] == [0]
        assert [source.holdout_permille for source in run.eval_sources] == [1000]
        assert run.sources[0].path.replace("train", "dev") == run.eval_sources[0].path


def test_stages_of_the_story_meet() -> None:
    first, second = make_run("pretrain", "data"), make_run("sft", "data")
    assert second.start.path == f"{first.out}/model"


@pytest.mark.parametrize(
    ("name", "depth", "message"),
    [
        ("pretrian", None, "no recipe 'pretrian'. Did you mean 'pretrain'?"),
        ("zzz", None, "no recipe 'zzz'. Recipes: pretrain, sft,"),
        ("pretrain", 0, "depth=0 is not positive"),
        ("default-pretrain", 4, "one size and takes no depth=4"),
    ],
)
def test_a_recipe_that_there_is_not_is_refused(name: str, depth: int | None, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        make_run(name, "data", depth=depth)
    assert message in str(refused.value)
