"""A file of JSON read line by line and nothing done with it, as the baseline of `resume`.

python -m scripts.benchmarks.reading FILE
"""

from __future__ import annotations

import sys
from pathlib import Path

import orjson

if __name__ == "__main__":
    with Path(sys.argv[1]).open("rb") as lines:
        for line in lines:
            orjson.loads(line)
