"""What an import may cost: `import malmoi` and `malmoi --help` stay free of everything heavy."""

import subprocess
import sys

import pytest

HEAVY = {
    "torch",
    "transformers",
    "tokenizers",
    "numpy",
    "rich",
    "prompt_toolkit",
    "jinja2",
    "huggingface_hub",
    "PIL",
    "soundfile",
}


def modules_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded once it has run `code`."""
    script = f"import sys\n{code}\nprint(*{{name.split('.')[0] for name in sys.modules}}, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "code",
    [
        "import malmoi; dir(malmoi); malmoi.MalmoiError",
        "import malmoi.cli.main",
        "from malmoi.cli.main import malmoi; malmoi.main(['--help'], standalone_mode=False)",
        "from malmoi.cli.main import malmoi; malmoi.main(['generate', '--help'], standalone_mode=False)",
        "from malmoi.cli.main import malmoi; malmoi.main(['chat', '--help'], standalone_mode=False)",
    ],
)
def test_nothing_heavy_is_loaded_by(code: str) -> None:
    assert modules_after(code) & HEAVY == set()


@pytest.mark.parametrize("package", ["malmoi.core.config", "malmoi.text.tokenizer", "malmoi.media"])
def test_no_torch_is_loaded_by(package: str) -> None:
    assert "torch" not in modules_after(f"import {package}")
