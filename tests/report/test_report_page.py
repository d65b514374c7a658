"""The page as a reader gets it."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from pilotfish.cascade import Artefact, load_artefact
from pilotfish.errors import PilotfishError, RecordsError, UsageError
from pilotfish.plan import rank_savers, tune
from pilotfish.records import Outputs, Records, RecordsMeta, Run
from pilotfish.records.records import string_ids
from pilotfish.report import write_report
from pilotfish.report.html import VOID
from pilotfish.report.policy import describe_guarantee

BENCH = {
    "machine": "one CPU, 8 threads",
    "exit_ratio": [0.61, 0.39],
    "model_only": {"stages_ms": [0.111, 1.5], "ideal_ms": 0.696, "realised_ms": 0.75, "efficiency": 0.928},
    "end_to_end": {"stages_ms": [0.2, 1.75], "ideal_ms": 0.88, "realised_ms": 0.9, "efficiency": 0.978},
    "speedup": 1.94,
    "single": {
        "n": 200,
        "saver": {"p50": 2.0, "p95": 3.0, "p99": 4.25},
        "base": {"p50": 20.0, "p95": 22.5, "p99": 31.0},
        "cascade": {"p50": 2.1, "p95": 23.0, "p99": 33.0},
    },
}


class Page(HTMLParser):
    """Checks that elements nest, and keeps text, attributes and table rows."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.pieces: list[str] = []
        self.rows: list[list[str]] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, key, value or "") for key, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("style", "script"):
            return
        self.pieces.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.pieces))

    def row(self, name: str) -> list[str]:
        return next(row for row in self.rows if row[0] == name)


def tiles(page: Page) -> str:
    found = re.search(r'<ul class="tiles">.*?</ul>', page.source, re.S)
    assert found
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", found.group()))


def pair_by_hand(run: Run, saver: str, base: str) -> tuple[float, float, float, float]:
    """r_match by trying every threshold; accuracies of saver, base and cascade."""
    s, b = run.read(saver), run.read(base)
    score, label = s.outputs.log_odds, s.label
    assert score is not None
    s_right, b_right = s.outputs.prediction == label, b.outputs.prediction == label
    best = 0.0
    right = b_right
    for t in np.unique(score):
        exits = score >= t
        if s_right[exits].sum() >= b_right[exits].sum() and exits.mean() > best:
            best, right = float(exits.mean()), np.where(exits, s_right, b_right)
    return best, float(s_right.mean()), float(b_right.mean()), float(right.mean())


@pytest.fixture
def artefact(pair_run: Run, tmp_path: Path) -> Artefact:
    tune(pair_run, ["small", "big"], max_drop=0.01).save(tmp_path / "cascade")
    return load_artefact(tmp_path / "cascade")


def test_best_saver_of_a_base(pool_run: Run, tmp_path: Path) -> None:
    out = write_report(tmp_path / "new" / "report.html", run=pool_run, base="big")
    assert out == tmp_path / "new" / "report.html"
    page = Page(out)
    r, small, big, cascade = pair_by_hand(pool_run, "small", "big")
    top = tiles(page)
    assert f"{100 * cascade:.2f}%" in top
    assert f"{100 * big:.2f}% by the base alone" in top
    assert f"{100 * r:.1f}%" in top
    cost = 0.3 + (1 - r) * 3.0
    assert f"{cost:.2f} GMACs" in top
    assert f"−{100 * (1 - cost / 3.0):.1f}% against 3.00 GMACs" in top
    assert page.row("small")[:4] == ["small", f"{100 * small:.2f}%", "0.30", "10.00%"]
    assert page.row("small")[4] == f"{100 * r:.2f}%"
    assert page.row("small")[6] == f"{100 * (0.1 - r):+.2f}%".replace("-", "−")
    ranking = rank_savers(pool_run, "big")
    assert ranking.best == "small"
    assert [row[0] for row in page.rows[1:]] == [*(s.saver for s in ranking.savers), "big (base)"]
    assert re.search(r'<tr class="best"><th scope="row">small</th>', page.source)
    assert re.search(r'<tr class="idle"><th scope="row">dull</th>', page.source)
    assert page.tags.count("figure") == 3
    assert "huge" in page.text  # models that cost more than the base are in the plot
    assert "on the same 1,500 samples it is judged on (holdout 0)" in page.text
    for known in (("ab12" * 16)[:12], ("ef56" * 16)[:12], "folder:photos", "bicubic", "0 samples could"):
        assert known in page.text


def test_mistakes_are_counted(pair_run: Run, tmp_path: Path) -> None:
    page = Page(write_report(tmp_path / "r.html", run=pair_run, stages=["small", "big"]))
    s, b = pair_run.read("small"), pair_run.read("big")
    s_right, b_right = s.outputs.prediction == s.label, b.outputs.prediction == b.label
    assert f"the base corrects: {(~s_right & b_right).sum()}" in page.text
    assert f"neither is right: {(~s_right & ~b_right).sum()}" in page.text
    assert f"the saver is right, the base wrong: {(s_right & ~b_right).sum()}" in page.text


def test_a_given_pair_need_not_be_the_best(pool_run: Run, tmp_path: Path) -> None:
    page = Page(write_report(tmp_path / "r.html", run=pool_run, stages=["dull", "big"]))
    assert "<h1>dull → big</h1>" in page.source
    assert "No saver." in page.text
    assert "small would save" in page.text
    assert page.row("small")[0] == "small"


def test_cascade_alone(artefact: Artefact, tmp_path: Path) -> None:
    page = Page(write_report(tmp_path / "r.html", artefact=artefact))
    judged = artefact.evaluation
    assert judged is not None
    low, high = (f"{100 * bound:.2f}".replace("-", "−") for bound in judged.drop_interval)
    assert f"{100 * judged.accuracy:.2f}%" in tiles(page)
    assert f"95% interval {low} to {high}" in tiles(page)
    assert f"{artefact.shown_thresholds[0]:.4f}" in tiles(page)
    assert "chosen on 750 samples and judged on 750 others" in page.text
    assert "drop at most 1%" in page.text
    assert page.tags.count("figure") == 1
    assert page.tags.count("table") == 0


def test_cascade_with_its_run_and_bench(artefact: Artefact, pair_run: Run, tmp_path: Path) -> None:
    page = Page(write_report(tmp_path / "r.html", run=pair_run, artefact=artefact, bench=BENCH, title="Our <pair>"))
    assert "<h1>Our &lt;pair&gt;</h1>" in page.source
    assert page.tags.count("figure") == 3
    assert page.row("model only") == ["model only", "0.11 ms", "1.50 ms", "0.70 ms", "0.75 ms", "0.928"]
    assert page.row("end to end")[-1] == "0.978"
    assert "1.94×" in tiles(page)
    assert page.row("cascade") == ["cascade", "2.10 ms", "23.00 ms", "33.00 ms"]
    assert page.row("small alone") == ["small alone", "2.00 ms", "3.00 ms", "4.25 ms"]
    assert "half of 200 requests" in page.text
    assert "one CPU, 8 threads" in page.text
    assert page.row("small")[0] == "small"
    judged = artefact.evaluation
    assert judged is not None
    assert f"{100 * judged.accuracy:.2f}%" in tiles(page)
    score = pair_run.read("small").outputs.log_odds
    assert score is not None
    exits = float((score >= artefact.operating_point.thresholds[0]).mean())
    assert f"operating point: {100 * exits:.2f}% exit" in page.text


def test_a_moved_operating_point_claims_no_interval(artefact: Artefact, tmp_path: Path) -> None:
    moved = artefact.at(max_drop=0.05)
    assert moved.operating_point.thresholds != artefact.operating_point.thresholds
    page = Page(write_report(tmp_path / "r.html", artefact=moved))
    row = int(np.flatnonzero(moved.frontier.thresholds[:, 0] == moved.operating_point.thresholds[0])[0])
    assert f"{100 * moved.frontier.value[row]:.2f}%" in tiles(page)
    assert "95% interval" not in tiles(page)
    assert "moved along the frontier" in page.text


def test_records_of_other_weights_are_noted(artefact: Artefact, pair_run: Run, tmp_path: Path) -> None:
    stages = (dataclasses.replace(artefact.stages[0], weights_hash="99" * 32), artefact.stages[1])
    other = dataclasses.replace(artefact, stages=stages)
    page = Page(write_report(tmp_path / "r.html", run=pair_run, artefact=other))
    assert "the records of small in the run have other weights than the cascade" in page.text


def test_cascade_of_three_stages(make_run, tmp_path: Path) -> None:
    run = make_run({"a": (1.5, {"macs": 1e8}), "b": (2.5, {"macs": 5e8}), "c": (3.5, {"macs": 5e9})})
    three = tune(run, ["a", "b", "c"], max_drop=0.01).artefact
    for arguments in ({}, {"run": run}):
        page = Page(write_report(tmp_path / "r.html", artefact=three, **arguments))
        assert "a → b → c" in page.text
        assert "Thresholds" in tiles(page)


@pytest.mark.parametrize("method", ["pcee-ws", "patience", "agreement", "average", "ensemble", "dyce"])
def test_cascades_of_every_rule_have_a_page(method: str, make_run, tmp_path: Path) -> None:
    run = make_run({"a": (1.5, {"macs": 1e8}), "b": (2.5, {"macs": 5e8}), "c": (3.5, {"macs": 5e9})})
    artefact = tune(run, ["a", "b", "c"], max_drop=0.3, method=method).artefact
    for arguments in ({}, {"run": run}):
        page = Page(write_report(tmp_path / "r.html", artefact=artefact, **arguments))
        assert "a → b → c" in page.text


def test_a_fitted_score_and_a_guarantee_have_a_page(make_run, tmp_path: Path) -> None:
    run = make_run({"a": (1.5, {"macs": 1e8}), "c": (3.5, {"macs": 5e9})})
    artefact = tune(run, ["a", "c"], max_drop=0.1, score="learned", guarantee=0.9).artefact
    for arguments in ({}, {"run": run}):
        page = Page(write_report(tmp_path / "r.html", artefact=artefact, **arguments))
        assert describe_guarantee(artefact.guarantee, artefact.cost_key) in page.text


def test_no_saver_saves(make_run, tmp_path: Path) -> None:
    run = make_run({"dull": (0.0, {"macs": 1e9}), "dim": (0.1, {"macs": 2e9}), "big": (4.0, {"macs": 3e9})})
    page = Page(write_report(tmp_path / "r.html", run=run, base="big"))
    assert "No saver. None of the 2 candidates saves anything" in page.text
    assert "<h1>big</h1>" in page.source
    assert 'class="best"' not in page.source


def test_no_candidate(make_run, tmp_path: Path) -> None:
    run = make_run({"big": (3.0, {"macs": 3e9}), "bigger": (3.5, {"macs": 9e9})})
    page = Page(write_report(tmp_path / "r.html", run=run, base="big"))
    assert "No saver. The records hold no other model that costs less than big" in page.text
    assert page.tags.count("figure") == 1  # the single models against cost
    alone = Page(write_report(tmp_path / "alone.html", run=make_run({"big": (3.0, {})}), base="big"))
    assert alone.tags.count("figure") == 0


def test_without_costs(make_run, tmp_path: Path) -> None:
    run = make_run({"small": (2.6, {}), "big": (3.2, {})})
    page = Page(write_report(tmp_path / "r.html", run=run, base="big"))
    assert "Costs are unknown" in page.text
    assert "share that reaches the base" in page.text
    assert "ΔC" not in page.text
    assert "GMACs" not in page.text


def test_without_labels(make_run, tmp_path: Path) -> None:
    run = make_run({"small": (2.6, {"macs": 1e8}), "big": (3.2, {"macs": 3e9})}, labelled=False)
    page = Page(write_report(tmp_path / "r.html", run=run, base="big"))
    same = float((run.read("small").outputs.prediction == run.read("big").outputs.prediction).mean())
    assert page.row("small")[1] == f"{100 * same:.2f}%"
    assert "accuracy means agreement with them" in page.text
    assert "Agreement" in tiles(page)
    assert "neither is right" not in page.text


def test_saver_better_than_the_base(make_run, tmp_path: Path) -> None:
    run = make_run({"small": (4.0, {"ms@cpu-b8": 2.0}), "big": (2.0, {"ms@cpu-b8": 20.0})})
    page = Page(write_report(tmp_path / "r.html", run=run, base="big", cost="ms@cpu-b8"))
    assert "small answers everything and can replace big" in page.text
    assert "−∞" in tiles(page)
    assert "everybody exits" in tiles(page)
    assert "2 ms" in tiles(page)


def test_confidences_with_ties(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    run, label = Run(tmp_path / "run"), rng.integers(0, 5, 800)
    for name, noise, price in (("cheap", 0.3, 0.02), ("dear", 0.1, 60.0)):
        said = np.where(rng.random(800) < noise, rng.integers(0, 5, 800), label)
        outputs = Outputs(said, confidence=np.where(said == label, 7.0, rng.integers(3, 8, 800)).astype(float))
        meta = RecordsMeta(name, "val", costs={"usd": price})
        run.write(Records(string_ids(np.arange(800)), label, outputs, meta))
    page = Page(write_report(tmp_path / "r.html", run=run, base="dear", cost="usd"))
    assert "60 usd" in page.text
    assert page.row("cheap")[2] == "0.02"


def test_models_outside_the_pool_do_not_spoil_the_page(pool_run: Run, tmp_path: Path) -> None:
    stranger = dataclasses.replace(pool_run.read("huge"), ids=string_ids([f"x{i}" for i in range(1500)]))
    pool_run.write(dataclasses.replace(stranger, meta=dataclasses.replace(stranger.meta, model="stranger")))
    page = Page(write_report(tmp_path / "r.html", run=pool_run, base="big"))
    assert "stranger is not in the plot" in page.text
    cheap = dataclasses.replace(stranger.meta, model="stranger", costs={"macs": 1e6})
    pool_run.write(dataclasses.replace(stranger, meta=cheap))
    with pytest.raises(PilotfishError, match="share no sample ids"):
        write_report(tmp_path / "r.html", run=pool_run, base="big")
    page = Page(write_report(tmp_path / "r.html", run=pool_run, stages=["small", "big"]))
    assert "no table of savers" in page.text


def test_sixty_models(make_run, tmp_path: Path) -> None:
    models = {f"model_{i:02d}.in1k": (0.4 + i * 0.06, {"macs": 1e8 * 1.1**i}) for i in range(60)}
    page = Page(write_report(tmp_path / "r.html", run=make_run(models, n=400), base="model_59.in1k"))
    assert len(page.source) < 600_000
    for i in range(59):
        assert page.row(f"model_{i:02d}.in1k")
        assert f"model_{i:02d}.in1k: " in page.text  # a hover text in the plot, named or not


def test_a_hundred_thousand_samples_stay_small(make_run, tmp_path: Path) -> None:
    run = make_run({"small": (2.6, {"macs": 3e8}), "big": (3.2, {"macs": 3e9})}, n=100_000)
    assert write_report(tmp_path / "r.html", run=run, base="big").stat().st_size < 900_000


NASTY = '<script>alert("x")</script> & $x^2$ \u202e漢字'


def test_names_are_text(make_run, tmp_path: Path) -> None:
    run = make_run({NASTY: (2.6, {"macs": 1e8}), "b'\"ase <img src=x>": (3.2, {"macs": 1e9})}, n=600)
    bench = {"machine": {"gpu": "<b>bold</b>"}, "speedup": float("nan"), "end_to_end": {"stages_ms": ["<i>"]}}
    bench["single"] = {"n": "<b>", "saver": {"p50": "<i>"}, "base": {}, "cascade": {"p99": float("inf")}}
    page = Page(write_report(tmp_path / "r.html", run=run, base="b'\"ase <img src=x>", bench=bench))
    assert not {"script", "img", "b", "i"} & set(page.tags)
    assert "\u202e" not in page.source
    assert '<script>alert("x")</script> & $x^2$' in page.text
    assert "<b>bold</b>" in page.text


def test_nothing_is_loaded_from_elsewhere(artefact: Artefact, pair_run: Run, tmp_path: Path) -> None:
    page = Page(write_report(tmp_path / "r.html", run=pair_run, artefact=artefact, bench=BENCH))
    assert not {"script", "link", "iframe", "object", "embed", "img", "image"} & set(page.tags)
    for tag, key, value in page.attributes:
        if key in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert value.startswith("#"), (tag, key, value)
        assert not key.startswith("on")
    assert "http:" not in page.source
    assert "https:" not in page.source
    assert "@import" not in page.source
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page.source))


def test_ids_are_unique_and_references_resolve(pair_run: Run, tmp_path: Path) -> None:
    page = Page(write_report(tmp_path / "r.html", run=pair_run, base="big"))
    ids = [value for _, key, value in page.attributes if key == "id"]
    assert len(ids) == len(set(ids))
    used = {value[1:] for _, key, value in page.attributes if key == "href"}
    used |= set(re.findall(r"url\(#([^)]*)\)", page.source))
    assert used
    assert used <= set(ids)


def test_every_plot_says_what_it_is(pair_run: Run, tmp_path: Path) -> None:
    page = Page(write_report(tmp_path / "r.html", run=pair_run, base="big"))
    plots = re.findall(
        r'<svg class="plot \w+" role="img" aria-label="([^"]+)"[^>]*><title>([^<]+)</title>', page.source
    )
    assert len(plots) == 6  # three, each for wide pages and for phones
    assert all(label == title for label, title in plots)
    assert page.tags.count("figcaption") == 3


def test_equal_input_gives_equal_bytes(artefact: Artefact, pair_run: Run, tmp_path: Path) -> None:
    one = write_report(tmp_path / "one.html", run=pair_run, artefact=artefact, bench=BENCH).read_bytes()
    assert one == write_report(tmp_path / "two.html", run=pair_run, artefact=artefact, bench=BENCH).read_bytes()


def test_the_users_plot_settings_do_not_matter(pair_run: Run, tmp_path: Path) -> None:
    import matplotlib

    plain = write_report(tmp_path / "one.html", run=pair_run, base="big").read_bytes()
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "svg.fonttype": "path"}):
        before = dict(matplotlib.rcParams)
        assert write_report(tmp_path / "two.html", run=pair_run, base="big").read_bytes() == plain
        assert dict(matplotlib.rcParams) == before


def test_a_failure_leaves_the_old_page(pair_run: Run, tmp_path: Path) -> None:
    out = write_report(tmp_path / "r.html", run=pair_run, base="big")
    old = out.read_bytes()
    with pytest.raises(RecordsError, match="no records of model 'absent'"):
        write_report(out, run=pair_run, base="absent")
    with pytest.raises(PilotfishError, match="cannot write"):
        write_report(out / "under a file.html", run=pair_run, base="big")
    assert out.read_bytes() == old
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ""] == ["r.html"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "a report needs a run with a base or stages, or a cascade"),
        ({"run": True}, "a report needs a run"),
        ({"base": "big"}, "a report needs a run"),
        ({"run": True, "stages": ["big"]}, "two different stages are needed"),
        ({"run": True, "stages": ["big", "big"]}, "two different stages are needed"),
        ({"run": True, "stages": ["small", "big"], "base": "small"}, "the last stage is big"),
        ({"artefact": True, "base": "small"}, "the cascade is small → big"),
        ({"artefact": True, "stages": ["big", "small"]}, "the cascade is small → big"),
        ({"artefact": True, "bench": [1]}, "bench is a JSON object"),
    ],
)
def test_arguments_that_do_not_fit(
    arguments: dict[str, object], message: str, artefact: Artefact, pair_run: Run, tmp_path: Path
) -> None:
    known = {"run": pair_run, "artefact": artefact}
    given = {key: known[key] if value is True else value for key, value in arguments.items()}
    with pytest.raises(UsageError, match=message):
        write_report(tmp_path / "r.html", **given)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="is a folder"):
        write_report(tmp_path, artefact=artefact)


def test_a_base_without_that_cost(pair_run: Run, tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match="no cost 'joules'"):
        write_report(tmp_path / "r.html", run=pair_run, base="big", cost="joules")


def test_importing_the_room_is_light() -> None:
    code = "import sys, pilotfish.report; print([m for m in ('matplotlib', 'torch', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    code = (
        "import sys\nfrom pilotfish.report.svg import plot\n"
        "plot(lambda figure, size: (figure.add_subplot().plot([1, 2]), {})[1], 'x', 'y')\n"
        "print([m for m in ('matplotlib.pyplot', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_cascade_whose_cost_the_run_lacks(make_run, tmp_path: Path) -> None:
    timed = make_run({"small": (2.6, {"ms": 1.0}), "big": (3.2, {"ms": 9.0})})
    artefact = tune(timed, ["small", "big"], max_drop=0.01, cost="ms").artefact
    untimed = make_run({"small": (2.6, {}), "big": (3.2, {})})
    page = Page(write_report(tmp_path / "r.html", run=untimed, artefact=artefact))
    assert "no table of savers: big has no cost 'ms'" in page.text
    assert "share that reaches the base" in page.text
    with pytest.raises(RecordsError, match="no cost 'ms'"):
        write_report(tmp_path / "r.html", run=untimed, stages=["small", "big"], cost="ms")
