"""From what a user calls a model to a directory on this machine: a path, or the id of a model on a hub.

`huggingface_hub` does the fetching and keeps the cache, so its environment variables hold: `HF_ENDPOINT` for
another hub, `HF_TOKEN`, `HF_HOME`, `HF_HUB_OFFLINE`. Only what Malmoi reads is fetched: no code, no pickle, no adapter.
Read next: `files.py`, which opens the directory; `testing/hub.py`, a hub on this machine for tests.
"""

import os
import re
from pathlib import Path
from typing import cast

from malmoi.core.errors import CheckpointError, HubError

# By name, since other files hold the same weights once more, in another precision or for another program.
FETCHED = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
    "preprocessor_config.json",
    "processor_config.json",
    "modules.json",
    "sentence_bert_config.json",
    "*_Pooling/config.json",
)


def resolve(path_or_hub_id: str | Path, *, revision: str | None = None) -> Path:
    """Return the directory of a model: the local one of that name, else the hub's, fetched or from the cache.

        resolve("runs/my-model")              # a directory that exists always wins
        resolve("org/name")                   # else this is asked of the hub
        resolve("org/name", revision="v1.0")  # a branch, a tag or a commit there

    Raises:
        CheckpointError: the text is empty, or can only be a path and there is no directory there.
        HubError: no such model or revision, no permission, no connection, no space; with what to do about it.
    """
    if path_or_hub_id == "":
        raise CheckpointError("the model's name is empty. Give a directory, or a hub id such as org/name.")
    path = Path(path_or_hub_id).expanduser()
    if path.is_dir():
        if revision is not None:
            raise HubError(
                f"revision={revision!r} asks for a hub, but {path} is a directory here. Leave one out."
            )
        return path
    if path.exists():
        raise CheckpointError(f"{path} is a file. Give the directory that it is in, with config.json.")
    if isinstance(path_or_hub_id, Path) or not _may_be_hub_id(path_or_hub_id):
        raise CheckpointError(
            f"there is no directory {path} (seen from {Path.cwd()}). "
            "Give a directory with config.json and model.safetensors, or a hub id such as org/name."
        )
    return _fetch(path_or_hub_id, revision)


def _may_be_hub_id(text: str) -> bool:
    """Say whether `text` has the form `name` or `org/name` that the hub asks for."""
    is_shaped = (
        re.fullmatch(r"[A-Za-z0-9]([\w.-]*\w)?(/[A-Za-z0-9_]([\w.-]*\w)?)?", text, re.ASCII) is not None
    )
    return is_shaped and ".." not in text and "--" not in text and len(text) <= 96


def _fetch(hub_id: str, revision: str | None) -> Path:
    from huggingface_hub import constants, snapshot_download  # here because it takes a while to import
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    endpoint = os.environ.get("HF_ENDPOINT", constants.ENDPOINT)
    what = f"{hub_id} from {endpoint}"
    no_directory = f"there is no directory {hub_id} here (seen from {Path.cwd()})"
    # The errors of the HTTP library in use, and those of the disk.
    other_errors = cast(tuple[type[Exception], ...], HfHubHTTPError.__bases__)
    try:
        snapshot = snapshot_download(
            hub_id,
            revision=revision,
            allow_patterns=list(FETCHED),
            endpoint=endpoint,
        )
    except GatedRepoError as error:
        raise HubError(
            f"{what}: its authors give access on request only. Ask for it at {endpoint}/{hub_id}, "
            "then log in with `hf auth login` or set HF_TOKEN."
        ) from error
    except RepositoryNotFoundError as error:
        raise HubError(
            f"{no_directory}, and no public model of that name at {endpoint}. Check the spelling; "
            "for a private model log in with `hf auth login` or set HF_TOKEN."
        ) from error
    except RevisionNotFoundError as error:
        raise HubError(
            f"{what}: there is no revision {revision!r}. Give a branch, a tag or a commit of that model."
        ) from error
    except LocalEntryNotFoundError as error:
        reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"{endpoint} cannot be reached"
        raise HubError(
            f"{no_directory}, {reason}, and a model of that name is not, or not wholly, in the cache "
            f"{constants.HF_HUB_CACHE}. Connect and try again, or give the directory of a copy."
        ) from error
    except other_errors as error:
        reason = " ".join(str(error).split())
        raise HubError(
            f"{what}: {reason}. Check the connection and the space left in {constants.HF_HUB_CACHE}, "
            "then try again: the files fetched so far are kept."
        ) from error
    if not (Path(snapshot) / "config.json").exists():
        raise HubError(f"{what}: it has no config.json, so it is not a model that Malmoi can read.")
    return Path(snapshot)
