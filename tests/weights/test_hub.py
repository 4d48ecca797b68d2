"""Laws of hub.resolve, against a local stand-in of the hub: what is fetched, what wins, what is refused."""

import errno
import http.client
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import huggingface_hub
import pytest
from huggingface_hub import constants

from malmoi.core.errors import CheckpointError, HubError
from malmoi.testing.hub import local_hub
from malmoi.weights.hub import resolve

READ = {
    "config.json", "generation_config.json", "model.safetensors", "model.safetensors.index.json",
    "model-00001-of-00002.safetensors", "model-v2-00001-of-00002.safetensors", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja",
    "additional_chat_templates/tool_use.jinja", "preprocessor_config.json", "processor_config.json", "modules.json",
    "sentence_bert_config.json", "1_Pooling/config.json",
}  # fmt: skip
UNREAD = {
    "pytorch_model.bin", "code.py", "README.md", "consolidated.safetensors", "onnx/config.json",
    "model.fp32-00001-of-00002.safetensors", "model.safetensors.index.fp32.json", "adapter_config.json",
    "adapter_model.safetensors", "original/model.safetensors", "tokenizer.model", "vocab.txt",
}  # fmt: skip


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """The hub's directory: one model with files of every kind, and one that is gated."""
    for hub_id in ("org/name", "org/gated"):
        for name in READ | UNREAD:
            file = tmp_path / "hub" / hub_id / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(name.encode() * 1000)
    return tmp_path / "hub"


@pytest.fixture(autouse=True)
def endpoint(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with local_hub(models, gated=["org/gated"]) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        yield url


def refusal(
    path_or_hub_id: str | Path, error: type[Exception] = HubError, *, revision: str | None = None
) -> str:
    with pytest.raises(error) as caught:
        resolve(path_or_hub_id, revision=revision)
    return str(caught.value)


def test_what_malmoi_reads_is_fetched_whole_and_no_code_and_no_pickle(models: Path) -> None:
    directory = resolve("org/name")
    fetched = {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}
    assert fetched == READ
    for name in READ:
        assert (directory / name).read_bytes() == (models / "org/name" / name).read_bytes()


def test_a_commit_stays_what_it_was_when_the_branch_moves_on(models: Path) -> None:
    old = resolve("org/name")
    (models / "org/name/config.json").write_text("new")
    new = resolve("org/name", revision="main")
    assert (old / "config.json").read_bytes() == b"config.json" * 1000
    assert (new / "config.json").read_text() == "new"
    assert resolve("org/name", revision=old.name) == old


@pytest.mark.parametrize("text", ["org/name", "./org/name"])
def test_a_directory_that_exists_wins_over_the_hub(tmp_path: Path, text: str) -> None:
    (tmp_path / "org/name").mkdir(parents=True)
    assert resolve(text) == Path(text)
    assert resolve(Path(text)) == Path(text)
    assert "is a directory here" in refusal(text, revision="main")


def test_home_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("~/hub") == tmp_path / "hub"


@pytest.mark.parametrize(
    "path",
    ["/no/such", "./no", "../no", "~/no", "a/b/c", "org/name/", "모델/내것", "a b", "c:\\m", "a--b", "x..y"],
)
def test_what_can_only_be_a_path_and_is_not_there_is_refused_without_asking_the_hub(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", None)
    assert "there is no directory" in refusal(path, CheckpointError)
    assert "there is no directory" in refusal(Path(path), CheckpointError)


def test_a_path_object_is_never_a_hub_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", None)
    assert "there is no directory org/name" in refusal(Path("org/name"), CheckpointError)


def test_an_empty_name_is_refused() -> None:
    assert "the model's name is empty" in refusal("", CheckpointError)


def test_a_file_is_refused_with_where_to_point(models: Path) -> None:
    assert "is a file. Give the directory" in refusal(models / "org/name/config.json", CheckpointError)


@pytest.mark.parametrize("hub_id", ["org/nothing", "nothing"])
def test_a_model_that_is_nowhere_is_refused_with_where_was_looked(
    hub_id: str, tmp_path: Path, endpoint: str
) -> None:
    said = refusal(hub_id)
    assert said.startswith(f"there is no directory {hub_id} here (seen from {tmp_path}), and no public model")
    assert f"at {endpoint}" in said
    assert "HF_TOKEN" in said


def test_a_revision_that_is_not_there_is_named() -> None:
    assert "there is no revision 'v9'" in refusal("org/name", revision="v9")


def test_a_gated_model_is_refused_with_where_to_ask(endpoint: str) -> None:
    assert f"Ask for it at {endpoint}/org/gated" in refusal("org/gated")


def test_offline_a_model_in_the_cache_is_found_and_any_other_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = resolve("org/name")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert resolve("org/name") == fetched
    assert "HF_HUB_OFFLINE is set, and a model of that name is not, or not wholly, in the cache" in refusal(
        "org/gated"
    )


def test_without_a_connection_a_model_in_the_cache_is_found_and_any_other_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fetched = resolve("org/name")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert resolve("org/name") == fetched
    assert "http://127.0.0.1:9 cannot be reached" in refusal("org/gated")


def test_a_full_disk_is_told_with_where_the_space_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    assert "No space left on device. Check the connection and the space left in" in refusal("org/name")


def test_a_repository_that_is_no_model_is_refused(models: Path) -> None:
    (models / "org/data").mkdir()
    (models / "org/data/README.md").write_text("data")
    assert "it has no config.json" in refusal("org/data")


@pytest.mark.parametrize("name", ["../../../secret.json", "%2e%2e/x", "x/../../secret.json", "/etc/hosts"])
def test_the_stand_in_serves_nothing_outside_of_its_models(endpoint: str, tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.json").write_text("{}")
    connection = http.client.HTTPConnection(urlsplit(endpoint).netloc)
    for path in (f"/org/name/resolve/main/{name}", f"/api/models/../{name}", f"/../x/resolve/main/{name}"):
        connection.request("GET", path)
        response = connection.getresponse()
        assert response.status in (401, 404)
        assert response.read() == b""
    connection.close()


@pytest.mark.slow
def test_the_environment_alone_chooses_the_hub(endpoint: str, tmp_path: Path) -> None:
    program = "from malmoi.weights.hub import resolve; print(resolve('org/name'))"
    variables = {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-c", program]
    printed = subprocess.check_output(command, env=os.environ | variables, text=True)
    assert Path(printed.strip()).is_relative_to(tmp_path / "home")
