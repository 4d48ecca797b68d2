"""Pillow and soundfile are loaded when an image or a sound is, and not before."""

import subprocess
import sys


def test_importing_media_loads_neither_library() -> None:
    code = "import sys, malmoi.media; print({'PIL', 'soundfile'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
