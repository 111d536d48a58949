"""Golden files: what a page looks like, kept in `tests/render/golden/`.

To write them anew after a change that was meant, and read the difference before committing it:

    GOLDEN=write pytest tests/render
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).with_name("golden")


def assert_golden(name: str, text: str) -> None:
    """The text is what the golden file holds, byte for byte; with GOLDEN=write the file is written instead."""
    path = FOLDER / name
    if os.environ.get("GOLDEN") == "write":
        path.write_bytes(text.encode())
    assert text.encode().decode() == path.read_bytes().decode()
