"""Four float TIFFs of some kilobytes took gigabytes: each thread decoded one whole, and several times over in float64.

Taught: greys and alpha are converted in strips, and all threads share one budget of pixels.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.process import environment

SIDE = 2000
CODE = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
from pilotfish.data import images, open_image
from pilotfish.data.pixel_budget import PixelBudget
images.PIXELS = PixelBudget(int(sys.argv[1]))
open_image(sys.argv[2])  # the libraries' own memory
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with ThreadPoolExecutor(4) as pool:
    found = list(pool.map(lambda path: open_image(path).size, sys.argv[3:] * 4))
print(len(found), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes on Linux")
@pytest.mark.parametrize("kind", ["float", "RGBA"])
def test_memory_stays_within_the_budget(kind: str, tmp_path: Path) -> None:
    if kind == "float":
        image = Image.fromarray(np.zeros((SIDE, SIDE), np.float32))
    else:
        image = Image.new("RGBA", (SIDE, SIDE))
    bomb, small = tmp_path / "bomb.tif", tmp_path / "small.tif"
    image.save(bomb, compression="tiff_deflate")
    image.crop((0, 0, 9, 9)).save(small, compression="tiff_deflate")
    assert bomb.stat().st_size < 100_000
    arguments = [str(2 * SIDE**2), str(small), str(bomb)]
    ended = subprocess.run(
        [sys.executable, "-c", CODE, *arguments], env=environment(), capture_output=True, text=True, check=True
    )
    count, kilobytes = map(int, ended.stdout.split())
    assert count == 4
    assert kilobytes * 1024 < 2 * SIDE**2 * 14 + 2**27  # two at a time, and a strip for each
