"""Ray Serve, a deployment per stage: ``python ray_composed.py STAGES.json PORT``.

The first answers what it is sure of, and hands the picture to the second otherwise. Both share batches by
``serve.batch``. The body of a request is a JPEG as it is.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from ray import serve
from starlette.requests import Request

BATCH, WAIT = 8, 0.0


@serve.deployment(ray_actor_options={"num_cpus": 1}, max_ongoing_requests=256)
class Base:
    def __init__(self, stages: str, threads: int) -> None:
        from stages_by_hand import StagesByHand, opened

        self.stages, self.opened = StagesByHand(stages, threads, only=1), opened

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=WAIT)
    async def __call__(self, contents: list[bytes]) -> list[dict[str, Any]]:
        import numpy as np

        best, sure = self.stages.call(1, np.stack([self.stages.tensor(self.opened(one), 1) for one in contents]))
        return [{"prediction": int(b), "confidence": float(p), "stage": 1} for b, p in zip(best, sure, strict=True)]


@serve.deployment(ray_actor_options={"num_cpus": 1}, max_ongoing_requests=512)
class Saver:
    def __init__(self, stages: str, threads: int, base: Any) -> None:
        from stages_by_hand import StagesByHand, opened

        self.stages, self.opened, self.base = StagesByHand(stages, threads, only=0), opened, base

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=WAIT)
    async def first(self, contents: list[bytes]) -> list[tuple[int, float]]:
        import numpy as np

        best, sure = self.stages.call(0, np.stack([self.stages.tensor(self.opened(one), 0) for one in contents]))
        return list(zip(best.tolist(), sure.tolist(), strict=True))

    async def __call__(self, request: Request) -> dict[str, Any]:
        content = await request.body()
        best, sure = await self.first(content)
        if sure < self.stages.threshold:
            return await self.base.remote(content)
        return {"prediction": best, "confidence": sure, "stage": 0}


if __name__ == "__main__":
    import ray

    stages, port = sys.argv[1], int(sys.argv[2])
    ray.init(num_cpus=3, include_dashboard=False, logging_level="error", object_store_memory=200 << 20)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(Saver.bind(stages, 1, Base.bind(stages, 1)), name="cascade", route_prefix="/predict")
    print("ready", flush=True)
    while True:
        time.sleep(60)
