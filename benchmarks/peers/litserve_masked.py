"""LitServe with a masked batch: ``python litserve_masked.py STAGES.json PORT --workers 2 --threads 1 --batch 8``.

A batch goes through the first stage, and those that are not sure through the second; all are answered then. The body of
a request is a JPEG as it is.
"""

from __future__ import annotations

import argparse
from typing import Annotated, Any

import litserve as ls
from fastapi import Depends, Request
from stages_by_hand import StagesByHand, opened


async def raw(request: Request) -> bytes:
    return await request.body()


class Masked(ls.LitAPI):
    def __init__(self, stages: str, threads: int, **options: Any) -> None:
        super().__init__(**options)
        self.given = stages, threads

    def setup(self, device: str) -> None:
        self.stages = StagesByHand(*self.given)

    def decode_request(self, request):
        return opened(request)

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def predict(self, batch):
        return self.stages.masked(batch) if isinstance(batch, list) else self.stages.masked([batch])[0]

    def unbatch(self, output: list[Any]) -> list[Any]:
        return output

    def encode_response(self, output):
        return output


# not written as an annotation: those of a module may be text, and LitServe looks at what they are
Masked.decode_request.__annotations__["request"] = Annotated[bytes, Depends(raw)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("stages")
    parser.add_argument("port", type=int)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--wait-ms", type=float, default=0.0)
    given = parser.parse_args()
    api = Masked(given.stages, given.threads, max_batch_size=given.batch, batch_timeout=given.wait_ms / 1000)
    server = ls.LitServer(api, accelerator="cpu", devices=1, workers_per_device=given.workers, timeout=False)
    server.run(host="127.0.0.1", port=given.port, generate_client_file=False, log_level="warning", num_api_servers=1)
