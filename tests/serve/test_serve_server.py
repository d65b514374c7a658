"""The server: answers are those of the cascade, health, the operating point, and the end."""

from __future__ import annotations

import asyncio
import importlib
import io
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.routing import Route

from pilotfish.errors import ModelError, QueueFull
from pilotfish.runtime import Cascade
from pilotfish.serve import ServeOptions, Server
from pilotfish.serve.refusal import Refusal
from pilotfish.serve.served import Caller, Entry
from support.process import command
from support.requests import b64
from support.server import ALLOWED, LONG, NAME, TOKENS, Serving, pictures, serve_process, serving
from support.web import called, ended

PNG = {"Content-Type": "image/png"}


def png(image: np.ndarray) -> bytes:
    held = io.BytesIO()
    Image.fromarray(image).save(held, "PNG")
    return held.getvalue()


def test_answers_are_those_of_the_cascade(server: Serving, cascade_folder: Path) -> None:
    cascade = Cascade.load(cascade_folder, allow_python=ALLOWED)
    images = [png(image) for image in pictures(20, seed=5)]
    expected = cascade.predict(list(images))
    assert {a.stage for a in expected} == {0, 1}
    for image, answer in zip(images, expected, strict=True):
        found = server.ask("POST", "/predict", image, PNG)
        assert found.status == 200
        [said] = found.json["answers"]
        assert (said["prediction"], said["stage"], said["error"]) == (answer.prediction, answer.stage, None)
        assert said["confidence"] == pytest.approx(answer.confidence, abs=1e-5)
        assert (found.json["model"], found.json["operating_point"], said["flags"]) == ("pair", "1", [])


def test_it_is_live_and_ready(server: Serving) -> None:
    assert server.get("/v2/health/live").json == {"live": True}
    assert server.get("/v2/health/ready").json == {"ready": True}


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nowhere", 404), ("GET", "/predict", 405), ("POST", "/predict", 415)]
)
def test_errors_are_json(server: Serving, method: str, path: str, status: int) -> None:
    found = server.ask(method, path, b"x" if method == "POST" else None)
    assert found.status == status
    assert list(found.json) == ["error"]


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/predict", "POST"),
        ("/v1/models/pair:predict", "POST"),
        ("/v2/models/pair/operating_point", "GET, HEAD, PUT"),
        ("/v2/models/pair/versions/1/drift", "DELETE, GET, HEAD"),
        ("/v2/trace/setting", "GET, HEAD, POST"),
        ("/", "GET, HEAD"),
    ],
)
def test_a_method_that_a_path_does_not_take_is_405_with_those_that_it_takes(
    server: Serving, path: str, methods: str
) -> None:
    for method in ("HEAD", "GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        if method not in methods.split(", "):
            found = server.ask(method, path)
            assert (found.status, found.headers["allow"]) == (405, methods)
            assert method == "HEAD" or found.json["error"].endswith(f"takes {methods}")


def test_405_lists_the_methods_with_earlier_versions_of_starlette(
    server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They do not put the route into the scope."""
    handle = Route.handle

    async def before(self: Route, scope: dict[str, Any], *rest: Any) -> None:
        scope.pop("route", None)
        await handle(self, scope, *rest)

    monkeypatch.setattr(Route, "handle", before)
    for path, methods in (("/v1/models/pair:predict", "POST"), ("/v2/models/pair/audit", "GET, HEAD")):
        found = server.ask("DELETE", path)
        assert (found.status, found.headers["allow"]) == (405, methods)


def test_a_limit_that_is_a_long_text_is_not_repeated(cascade_folder: Path) -> None:
    with serving({"pair": cascade_folder}, tokens=TOKENS) as running:
        found = running.as_operator.ask("PUT", "/v2/models/pair/operating_point", {"max_drop": "9" * 100_000})
    assert found.status == 400
    assert len(found.json["error"]) < 200


def test_the_operating_point_moves(cascade_folder: Path) -> None:
    with serving({"pair": cascade_folder}, tokens=TOKENS) as at:
        running = at.as_operator
        path = "/v2/models/pair/operating_point"
        first = running.get(path).json
        moved = running.ask("PUT", path, {"max_drop": "50%"})
        assert moved.status == 200
        assert (first["id"], moved.json["id"]) == ("1", "2")
        assert moved.json["exit_ratio"][0] > first["exit_ratio"][0]
        assert {**running.get(path).json, "moved": True, "notes": []} == moved.json
        assert running.ask("PUT", path, {"max_drop": 0.5, "max_cost": 1}).status == 400
        share = running.ask("PUT", path, {"max_cost": 0.5})
        assert share.status == 400
        assert 'write "50%" for that share of the base\'s cost' in share.json["error"]


def test_a_move_to_the_point_in_force_changes_nothing(cascade_folder: Path) -> None:
    """Audits have cost something, and a repeated request does not throw them away. After a reload as well."""
    with serving({"pair": cascade_folder}, tokens=TOKENS, audit=1.0, reload=False) as at:
        running, hosted, path = at.as_operator, at.server.hosted(), "/v2/models/pair/operating_point"
        for number in ("2", "4"):
            moved = running.ask("PUT", path, {"max_drop": "50%"}).json
            assert (moved["id"], moved["moved"]) == (number, True)
            for image in pictures(12, seed=4):
                running.ask("POST", "/predict", png(image), PNG)
            point, moves, drift = hosted.point, hosted.meter.moves, hosted.point.drift.n
            assert point.audit.n > 0
            for limit in ({"max_drop": "50%"}, {"max_drop": "51%"}, {"max_cost": moved["cost"]}):
                again = running.ask("PUT", path, limit)
                assert again.status == 200
                assert again.json == {**moved, "moved": False}
            assert hosted.point is point
            assert (hosted.meter.moves, hosted.point.drift.n) == (moves, drift)
            assert hosted.cascade.artefact is point.artefact
            hosted.reload()


def test_the_stated_line_and_the_end(cascade_folder: Path) -> None:
    """A process that is told to end under load loses nothing that it accepted."""
    arguments = (f"pair={cascade_folder}", "--drain-delay", "0.3")
    with serve_process(*arguments, module_folder=cascade_folder.parent) as (process, running):
        image = png(pictures(1)[0])
        assert running.ask("POST", "/predict", image, PNG).status == 200
        head = (
            f"POST /predict HTTP/1.1\r\nhost: here\r\ncontent-type: image/png\r\ncontent-length: {len(image)}\r\n\r\n"
        )
        callers = called(running.port, head.encode() + image, 16, 100)
        process.send_signal(signal.SIGTERM)
        answered, lost = ended(callers)
        assert answered >= 100
        assert lost == 0
        assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing-here"], "nothing-here"),
        (["CASCADE", "--audit", "200%"], "--audit must be a share"),
        (["CASCADE", "--queue", "0"], "error: --queue must be a number"),
        (["CASCADE", "--escalation-burst", "3"], "error: --escalation-burst needs --escalation-rate,"),
        (["CASCADE", "--when-empty", "reject"], "error: --when-empty needs --escalation-rate,"),
        (["CASCADE", "--max-wait-ms", "2000", "--timeout", "1"], "error: --max-wait-ms must be less than --timeout"),
        (["a=CASCADE", "a=CASCADE"], "two cascades"),
        (["stats=CASCADE"], "found 'stats'"),
        (["a/b=CASCADE"], "found 'a/b'"),
        (["CASCADE", "--host", "a" * 300], "cannot listen on"),
        (["CASCADE", "--host", "a..b"], "cannot listen on"),
        (["CASCADE", "--host", "192.0.2.1"], "cannot listen on"),
    ],
)
def test_what_cannot_be_served_is_said_before_anything_listens(
    cascade_folder: Path, arguments: list[str], words: str
) -> None:
    given = [part.replace("CASCADE", str(cascade_folder)) for part in arguments]
    allowed = [part for name in ALLOWED for part in ("--allow-python", name)]
    found = command(cascade_folder.parent, "serve", *given, *allowed, "--port", "0")
    assert found.returncode in (1, 2)
    assert words in found.stderr
    assert found.stdout == ""


@pytest.mark.parametrize(
    "arguments", ["serve C --host 192.0.2.1", "predict C data.npz", "tune-runtime C --data D", "record --run new"]
)
@pytest.mark.parametrize("device", ["banana", "cuda:", "cuda:one", "cpu,cuda"])
def test_a_device_that_is_none_is_refused(cascade_folder: Path, arguments: str, device: str) -> None:
    """By callables too, which are run wherever they run."""
    data = f"arrays:{cascade_folder.parent / 'data.npz'}"
    given = [part.replace("C", str(cascade_folder)) if part == "C" else part for part in arguments.split()]
    given = [data if part == "D" else part for part in given]
    if given[0] == "record":
        given += ["--data", data, "--model", f"python:{ALLOWED[0]}"]
    else:
        given += [part for name in ALLOWED for part in ("--allow-python", name)]
    found = command(cascade_folder.parent, *given, "--device", device)
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr.startswith(f"pilotfish: error: there is no device {device!r}; expected cpu or cuda")
    assert found.stderr.count("\n") == 1


@pytest.mark.parametrize("when", ["fail", "flag"])
def test_a_base_that_fails_costs_escalations_alone(cascade_folder: Path, when: str) -> None:
    images = [png(image) for image in pictures(12, seed=5)]
    expected = Cascade.load(cascade_folder, allow_python=ALLOWED).predict(list(images))
    with serving({"pair": cascade_folder}, when_base_fails=when) as running:
        hosted = running.server.hosted()
        stages = hosted.engine.stages
        stages[1] = replace(stages[1], backend=Broken(), alone=None)
        for image, answer in zip(images, expected, strict=True):
            [said] = running.ask("POST", "/predict", image, PNG).json["answers"]
            if answer.stage == 0:
                assert (said["prediction"], said["stage"]) == (answer.prediction, 0)
            elif when == "flag":
                assert (said["stage"], said["flags"], said["error"]) == (0, ["base_failed"], None)
            else:
                assert said["prediction"] is None
                assert "broken" in said["error"]
        assert running.get("/v2/health/ready").status == 200


class Broken:
    name = "broken"

    def step(self, inputs: np.ndarray | None, carry: object = None) -> tuple[np.ndarray, None]:
        raise ModelError("the base is broken")


@pytest.mark.parametrize("path", ["/predict", "/v2/models/pair/infer", "/v1/models/pair:predict"])
def test_a_first_stage_that_fails_is_not_the_fault_of_its_inputs(cascade_folder: Path, path: str) -> None:
    images = [png(image) for image in pictures(4, seed=5)]
    with serving({"pair": cascade_folder}) as running:
        hosted = running.server.hosted()
        stages = hosted.engine.stages
        stages[0] = replace(stages[0], backend=Broken(), alone=None)
        found = [asked(running, path, image) for image in [*images, b"no image"]]
        counted = {cause: n for cause, n in hosted.meter.causes.errors.items() if n}
    assert [one.status for one in found] == [500] * len(images) + [400]
    assert ["broken" in one.json["error"] for one in found] == [True] * len(images) + [False]
    assert counted == {"model": len(images), "bad_input": 1}


def asked(running: Serving, path: str, image: bytes) -> Any:
    """One image, by the protocol of *path*."""
    if path.endswith("infer"):
        return running.ask("POST", path, image, {"Inference-Header-Content-Length": "0"})
    return running.ask("POST", path, {"instances": [{"b64": b64(image)}]})


def test_an_engine_that_has_ended_is_replaced(cascade_folder: Path) -> None:
    image = png(pictures(1)[0])
    with serving({"pair": cascade_folder}) as running:
        first = running.ask("POST", "/predict", image, PNG).json
        running.server.hosted().engine.close(drain=False)
        assert running.ask("POST", "/predict", image, PNG).json == first


@pytest.mark.parametrize("enters", [True, False])
def test_it_can_be_mounted_in_another_application(cascade_folder: Path, enters: bool) -> None:
    from starlette.applications import Starlette
    from starlette.routing import Mount
    from starlette.testclient import TestClient

    from pilotfish.serve import ServeOptions, Server

    server = Server({"pair": cascade_folder}, ServeOptions(allow_python=ALLOWED))
    outer = Starlette(routes=[Mount("/cascade", app=server.app)], lifespan=server.lifespan if enters else None)
    with TestClient(outer) as client:
        end = time.monotonic() + LONG
        while client.get("/cascade/v2/health/ready").status_code != 200:  # all that a balancer sends until it is ready
            assert time.monotonic() < end
            time.sleep(0.01)
        found = client.post("/cascade/predict", content=png(pictures(1)[0]), headers=PNG)
        assert found.json()["model"] == "pair"


def test_an_event_loop_that_ends_while_it_warms_up_leaves_that_to_the_next(cascade_folder: Path) -> None:
    """As a client for tests has one for each request."""
    from pilotfish.serve import ServeOptions, Server

    server = Server({"pair": cascade_folder}, ServeOptions(allow_python=ALLOWED))

    async def asked(until_ready: bool) -> None:
        server.wake()
        while until_ready and not server.ready:
            await asyncio.sleep(0.01)

    asyncio.run(asked(False))
    asyncio.run(asyncio.wait_for(asked(True), LONG))
    asyncio.run(server.end())


def test_in_an_event_loop_that_runs_it_is_awaited_and_once(cascade_folder: Path) -> None:
    from pilotfish.errors import UsageError
    from pilotfish.serve import ServeOptions, Server

    server = Server({"pair": cascade_folder}, ServeOptions(allow_python=ALLOWED, port=0))

    async def notebook() -> None:
        with pytest.raises(UsageError, match=r"await server\.serve"):
            server.run()
        await server.serve(server.stop)
        with pytest.raises(UsageError, match="make a new one"):
            await server.serve()

    asyncio.run(notebook())
    with pytest.raises(UsageError, match="make a new one"):
        server.run()


@pytest.mark.parametrize("stage", ["saver", "base"])
def test_a_stage_that_cannot_be_run_ends_the_server_with_its_error(
    cascade_folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], stage: str
) -> None:
    module = importlib.import_module(NAME)

    def broken(batch: np.ndarray) -> np.ndarray:
        raise RuntimeError("no kernel for this device")

    vars(broken).update(vars(getattr(module, stage)))
    monkeypatch.setattr(module, stage, broken)
    server = Server({"pair": cascade_folder}, ServeOptions(port=0, allow_python=ALLOWED))
    with pytest.raises(ModelError, match="no kernel for this device"):
        asyncio.run(asyncio.wait_for(server.serve(), LONG))
    assert "pair cannot be served" in capfd.readouterr().err
    assert not server.ready


def test_an_input_of_infer_that_fails_is_counted_once(cascade_folder: Path) -> None:
    images = [png(image) for image in pictures(12, seed=5)]
    with serving({"pair": cascade_folder}) as running:
        hosted = running.server.hosted()
        stages = hosted.engine.stages
        stages[1] = replace(stages[1], backend=Broken(), alone=None)
        path, raw = "/v2/models/pair/infer", {"Inference-Header-Content-Length": "0"}
        statuses = [running.ask("POST", path, image, raw).status for image in [*images, b"no image"]]
        counted = {cause: n for cause, n in hosted.meter.causes.errors.items() if n}
    assert set(statuses[:-1]) == {200, 500}
    assert statuses[-1] == 400
    assert counted == {"model": statuses.count(500), "bad_input": 1}


class NotFinite:
    name = "not finite"

    def step(self, inputs: np.ndarray, carry: object = None) -> tuple[np.ndarray, None]:
        return np.full((len(inputs), 5), np.nan, np.float32), None


@pytest.mark.parametrize("first", [0, 1], ids=["every stage", "the base"])
def test_outputs_that_are_not_finite_are_the_fault_of_the_model(
    cascade_folder: Path, capfd: pytest.CaptureFixture[str], first: int
) -> None:
    images = [png(image) for image in pictures(12, seed=5)]
    with serving({"pair": cascade_folder}) as running:
        hosted = running.server.hosted()
        stages = hosted.engine.stages
        for k in range(first, 2):
            stages[k] = replace(stages[k], backend=NotFinite(), alone=None)
        found = [running.ask("POST", "/predict", image, PNG) for image in images]
        together = running.ask("POST", "/predict", {"instances": [{"b64": b64(image)} for image in images]})
        counted = {cause: n for cause, n in hosted.meter.causes.errors.items() if n}
    failed = [one for one in found if one.status != 200]
    assert len(failed) == len(images) if first == 0 else 0 < len(failed) < len(images)
    assert {(one.status, "are not finite" in one.json["error"]) for one in failed} == {(500, True)}
    assert together.status == (500 if first == 0 else 200)
    assert counted == {"model": 2 * len(failed)}
    assert "are not finite" in capfd.readouterr().err


def test_a_cascade_is_not_ready_while_the_server_drains(cascade_folder: Path) -> None:
    with serving({"pair": cascade_folder}) as running:
        paths = ("/v2/models/pair/ready", "/v2/models/pair/versions/1/ready", "/v1/models/pair")
        assert [running.get(path).status for path in paths] == [200] * 3
        running.server.draining = True  # it answers for --drain-delay seconds more
        assert [running.get(path).status for path in paths] == [503] * 3
        assert running.get(paths[0]).json == {"name": "pair", "ready": False}
        assert running.ask("POST", "/predict", png(pictures(1)[0]), PNG).status == 200


@pytest.mark.parametrize("end", ["operating_point", "audit", "drift"])
def test_a_version_may_follow_the_name_in_the_routes_of_operators(server: Serving, end: str) -> None:
    assert (
        server.get(f"/v2/models/pair/versions/1/{end}").json.keys() == server.get(f"/v2/models/pair/{end}").json.keys()
    )
    assert server.get(f"/v2/models/pair/versions/2/{end}").status == 404


def test_a_server_that_is_told_to_end_while_it_warms_up_is_never_said_to_be_ready(
    cascade_folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    server = Server({"pair": cascade_folder}, ServeOptions(port=0, allow_python=ALLOWED))
    said: list[str] = []

    async def main() -> None:
        loop, hosted = asyncio.get_running_loop(), server.models["pair"]
        warm_up = hosted.warm_up

        def told_to_end() -> None:
            asyncio.run_coroutine_threadsafe(asyncio.to_thread(server.stop), loop).result(LONG)
            warm_up()

        monkeypatch.setattr(hosted, "warm_up", told_to_end)
        await server.serve(lambda: said.append("ready"))

    asyncio.run(asyncio.wait_for(main(), LONG))
    assert said == []
    assert "ready http" not in capfd.readouterr().err


@pytest.mark.parametrize("why", ["from one client", "its queue is full", "draining"])
def test_what_is_refused_is_shown_whatever_the_reason(
    cascade_folder: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    def full(*_: object) -> None:
        raise QueueFull("as many as there may be")

    hosted = Server({"pair": cascade_folder}, ServeOptions(allow_python=ALLOWED, queue=8)).models["pair"]
    hosted.warm_up()
    if why == "draining":
        hosted.drain()
    elif why == "from one client":
        hosted.fair.enter("a", 7)
    else:
        monkeypatch.setattr(hosted.engine, "submit", full)
    entries = [Entry(png(image)) for image in pictures(5)]
    with pytest.raises(Refusal, match=why):
        asyncio.run(hosted.answer(entries, Caller("a", "1")))
    assert sum(hosted.history.traffic()["refused"]) == 5
    hosted.engine.close()


def test_what_is_odd_is_said_also_where_it_is_found_after_the_start(
    cascade_folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pilotfish.serve.hosted.warm_up", lambda *_: ["base was not run before the first request"])
    with serving({"pair": cascade_folder}, reload=False) as running:
        assert capfd.readouterr().err.count("pair: base was not run") == 1
        monkeypatch.setattr("pilotfish.serve.watch.drift.Drift.notes", ["its band is wide"])
        running.server.hosted().reload()
        said = capfd.readouterr().err
        assert said.count("pair: base was not run") == said.count("pair: drift: its band is wide") == 1
        assert [note for note in running.server.notes if "was not run" in note] != []


@pytest.mark.parametrize("path", ["/console.json", "/v2/models/pair/audit", "/v2/models/pair/ready"])
def test_any_request_begins_a_server_whose_lifespan_nobody_enters(cascade_folder: Path, path: str) -> None:
    server = Server({"pair": cascade_folder}, ServeOptions(allow_python=ALLOWED, reload=False))
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"model=pair", "headers": []}
    statuses: list[int] = []

    async def main() -> None:
        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            statuses.append(message.get("status"))

        await server.app(scope, receive, send)
        await server.begin()
        await server.end()

    asyncio.run(main())
    assert statuses[0] in (200, 503)
    assert server.models["pair"].state == "DRAINING"
