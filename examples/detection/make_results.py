"""What a user has: COCO's instances and the results of two detectors, here of the networks of examples/scenes.

    python examples/detection/make_results.py OUT [N]

Writes OUT/images/, OUT/instances.json, OUT/small.json and OUT/big.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from pilotfish.data.scenes import CLASSES, SIDE, made

sys.path.insert(0, str(Path(__file__).parent.parent / "scenes"))
from scene_models import big_boxes, small_boxes


def main(out: Path, n: int = 1000) -> None:
    images, _, boxes, digits, owner = made("val", n)
    (out / "images").mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(out / "images" / f"{i:04d}.png")
    truth = {
        "images": [{"id": i, "file_name": f"{i:04d}.png", "width": SIDE, "height": SIDE} for i in range(n)],
        "categories": [{"id": k, "name": name} for k, name in enumerate(CLASSES)],
        "annotations": [
            {"id": k + 1, "image_id": i, "category_id": c, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for k, (i, c, box) in enumerate(zip(owner.tolist(), digits.tolist(), boxes.tolist(), strict=True))
        ],
    }
    (out / "instances.json").write_text(json.dumps(truth))
    batch = images.transpose(0, 3, 1, 2).astype(np.float32) / 255
    for name, detector in (("small", small_boxes), ("big", big_boxes)):
        found = [answer for rows in np.array_split(batch, max(1, n // 100)) for answer in detector(rows)]
        rows = [
            {"image_id": i, "category_id": c, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
            for i, answer in enumerate(found)
            for (x1, y1, x2, y2), score, c in zip(*(answer[key].tolist() for key in answer), strict=True)
        ]
        (out / f"{name}.json").write_text(json.dumps(rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
