// What each part of the page shows of a snapshot. snapshot.py describes its fields.

const sum = (values) => values.reduce((a, b) => a + b, 0);
const last = (values) => values[values.length - 1];

function tiles(model) {
  const { traffic, band, audit, stages } = model;
  const ended = traffic.answered.slice(-3, -1), seconds = traffic.step * ended.length;
  $("t-rate").replaceChildren(rate(sum(ended) / seconds), element("small", {}, " /s"));
  put("t-rate-more", `${count(model.answered)} answered in total`);

  const answered = sum(traffic.answered), exited = sum(traffic.exited);
  put("t-exit", answered ? percent(exited / answered) : NOTHING);
  const alarm = last(model.alarms.filter((each) => each.in_force));
  put("t-exit-more", band ? `expected ${fixed(100 * band.lo, 1)}\u2013${percent(band.hi)}` : "no expected range", alarm ? "warn" : "");

  put("t-saved", percent(model.saved));
  put("t-saved-more", known(model.shadow?.saved) ? `in shadow mode; would be ${percent(model.shadow.saved)}` : model.saved === null ? (model.unit ? "nothing answered yet" : "unknown costs") : "compared with the base alone");

  const first = stages[0], base = last(stages);
  put("t-latency", duration(first.p50));
  put("t-latency-more", known(first.p99) ? `p99 ${duration(first.p99)}, base ${duration(base.p50)}`
    : known(base.p50) ? `no exits; base ${duration(base.p50)}` : "nothing answered yet");

  const judge = audit ?? model.shadow;
  if (judge?.n) $("t-bound").replaceChildren(fixed(100 * judge.drop_bound, 2), element("small", {}, " points"));
  else put("t-bound", judge ? NOTHING : "off");
  put("t-bound-more", judge ? `${percent(judge.confidence, 0)} confidence, ${count(judge.n)} ${audit ? "audits" : "in shadow"}` : "enable with --audit 1%");

  put("t-flight", count(model.in_flight));
  put("t-flight-more", `${count(model.refused)} refused, ${count(model.failed)} failed`);
}

function traffic(model) {
  const { traffic: ring, band } = model;
  const n = ring.answered.length - 1;  // the last place is not over yet
  const xs = Array.from({ length: n }, (_, i) => (i - n) * ring.step);
  const at = (i) => clock(ring.end - ring.step + xs[i]);
  const minutes = Math.round((n * ring.step) / 60);
  const xTicks = [[-60 * minutes, `${minutes} min ago`], [-30 * minutes, `${minutes / 2} min`], [0, "now"]];
  const x = [-60 * minutes, 0];
  const moved = Math.min(0, Math.round((model.point.since - ring.end) / ring.step + 1) * ring.step), rules = [moved];
  const part = (values) => values.slice(0, n).map((v) => v / ring.step);
  const exits = part(ring.exited), bad = part(ring.failed.map((v, i) => v + ring.refused[i]));
  const rest = part(ring.answered.map((v, i) => v - ring.exited[i] - ring.failed[i]));
  const total = exits.map((v, i) => v + rest[i] + bad[i]);
  const top = Math.max(1, ...total) * 1.08;
  const none = sum(total) === 0 ? "No requests in the last ten minutes" : "";
  chart($("rate"), {
    x, y: [0, top], xTicks, yText: (v) => `${Number(v.toPrecision(3)).toLocaleString("en-US")}/s`, empty: none, rules, drawn: [exits, rest, bad, moved],
    label: `Throughput of the last ${minutes} minutes: ${rate(last(total))} inputs per second now, peak ${rate(Math.max(...total))}.`,
    draw: (svg, X, Y) => bars(svg, xs, [["exits", exits], ["rest", rest], ["bad", bad]], X, Y, ring.step),
  });
  readable($("rate"), "rate-read", xs, (i) => (i === null ? `peak ${rate(Math.max(...total))}/s`
    : `${at(i)}  ${rate(exits[i])}/s exits, ${rate(rest[i])}/s escalated${bad[i] ? `, ${rate(bad[i])}/s failed` : ""}`));

  // Means over half a minute: a single step holds too few inputs.
  const wide = Math.max(1, Math.round(30 / ring.step));
  const ratios = xs.map((_, i) => {
    const from = Math.max(0, i - wide + 1), all = sum(ring.answered.slice(from, i + 1));
    return ring.answered[i] && all ? sum(ring.exited.slice(from, i + 1)) / all : null;
  });
  const seen = ratios.filter(known).concat(band ? [band.lo, band.hi] : []);
  const low = seen.length ? Math.max(0, Math.floor(20 * (Math.min(...seen) - 0.02)) / 20) : 0;
  const high = seen.length ? Math.min(1, Math.ceil(20 * (Math.max(...seen) + 0.02)) / 20) : 1;
  put("band-says", band ? `expected ${fixed(100 * band.lo, 1)}\u2013${percent(band.hi)} (n = ${count(band.n)})` : "no expected range");
  const mean = sum(ring.answered) ? sum(ring.exited) / sum(ring.answered) : null;
  chart($("exit"), {
    x, y: [low, high], xTicks, yText: (v) => `${Number((100 * v).toFixed(1))}%`, empty: none, rules, drawn: [ratios, band, moved],
    bands: band ? [{ low: band.lo, high: band.hi, middle: band.baseline, from: moved }] : [],
    label: `Exit ratio of the last ${minutes} minutes: ${percent(mean)}${band ? `, expected between ${percent(band.lo)} and ${percent(band.hi)}` : ""}.`,
    draw: (svg, X, Y) => line(svg, xs, ratios, X, Y, "line"),
  });
  readable($("exit"), "exit-read", xs, (i) => (i === null ? "30 s average" : `${at(i)}  ${percent(ratios[i])}`));
}

const cell = (what, content, name) => element("td", { "data-what": what, class: name ?? null }, content);

function stages(model) {
  const all = sum(model.stages.map((stage) => stage.answered));
  rows($("stages").tBodies[0], model.stages, (stage) => {
    const share = all ? stage.answered / all : null;
    const bar = element("i");
    bar.style.width = `${100 * (share ?? 0)}%`;
    return element("tr", {},
      element("th", { scope: "row", class: "whole" }, foreign(stage.name)),
      element("td", { "data-what": "answers" }, element("span", { class: "share", "aria-hidden": "true" }, bar), percent(share)),
      cell("p50", duration(stage.p50)), cell("p90", duration(stage.p90)), cell("p99", duration(stage.p99)),
      cell("waiting", count(stage.waiting)), cell("computing", count(stage.computing)),
      cell("oldest", stage.waiting ? duration(stage.oldest) : NOTHING));
  });
}

function audit(model, now) {
  const { audit: found, point } = model;
  const marks = found?.marks ?? [];
  const xs = marks.map(([n]) => n), seen = marks.map(([, d]) => d), bound = marks.map(([, , b]) => b);
  const until = Math.max(10, last(xs) ?? 10);
  const high = marks.length ? Math.min(1, Math.max(...seen, 2 * last(bound), 0.002) * 1.1) : 0.1;
  const inside = bound.map((b) => (b <= high ? b : null));  // it starts at 100 %
  put("bound-says", found ? `upper bound, ${percent(found.confidence, 0)} confidence, valid at all times` : "upper bound");
  chart($("audit"), {
    x: [0, until], y: [0, high], yText: (v) => `${Number((100 * v).toPrecision(3))}%`, drawn: marks,
    xTicks: ticks(0, until, 3).map((v, i) => [v, i ? count(v) : "0 audits"]),
    empty: !found ? "Auditing is off" : marks.length ? "" : "No audits yet",
    label: marks.length ? `After ${count(found.n)} audits ${percent(found.disagreement, 2)} of exits disagree with the base.` : "No audits yet.",
    draw: (svg, X, Y) => { line(svg, xs, inside, X, Y, "bound"); line(svg, xs, seen, X, Y, "line"); },
  });
  readable($("audit"), "audit-read", xs, (i) => (i === null ? (found?.n ? `${count(found.n)} audits` : "")
    : `${count(xs[i])} audits  ${percent(seen[i], 2)}, at most ${percent(bound[i], 2)}`));
  put("audit-note", found?.n ? `At most ${percent(found.bound, 2)} of exits differ from the base, so the drop over all answers is at most `
      + `${points(found.drop_bound)}, counted since point ${clean(point.id)} came into force ${age(now - point.since)} ago. ${sentences(found.notes)}`
    : found ? `${percent(found.share, 2)} of exits also go to the base; how often the two differ bounds the drop, without labels.`
      : "With --audit 1%, one exit in a hundred also goes to the base; how often the two differ bounds the drop, without labels.");
}

function drift(model) {
  const { drift: found } = model;
  const lately = found?.score?.histogram ?? [], usual = found?.score?.usual ?? [];
  const xs = Array.from({ length: 10 }, (_, i) => i / 10), of = (i) => `${10 * i} to ${10 * i + 10}%`;
  const top = Math.max(0.2, ...lately, ...usual) * 1.08;
  chart($("drift"), {
    x: [0, 1], y: [0, top], yText: (v) => `${Number((100 * v).toFixed(1))}%`, drawn: [lately, usual],
    xTicks: [[0, "lowest tenth"], [1, "highest"]],
    empty: !found ? "Drift detection is off" : !found.score ? "Scores are not monitored" : lately.length ? "" : "No inputs yet",
    label: lately.length ? `Recent scores of the first stage: ${xs.map((_, i) => percent(lately[i], 0)).join(", ")} in the usual tenths.` : "No scores yet.",
    draw: (svg, X, Y) => {
      if (lately.length) bars(svg, xs, [["exits", lately]], X, Y, 0.1);
      if (usual.length) line(svg, xs.flatMap((x) => [x, x + 0.1]), usual.flatMap((y) => [y, y]), X, Y, "bound");
    },
  });
  readable($("drift"), "drift-read", xs.map((x) => x + 0.05), (i) => (i === null ? (found ? `${count(found.n)} inputs since the watch began` : "")
    : `${of(i)}: ${percent(lately[i])} recently, ${percent(usual[i])} expected`));
  put("drift-note", !found ? "Off: the server was started with --drift-average-run 0." : found.alarm ? "An alarm was raised. Monitoring resumes once it is acknowledged below."
    : `The statistic is ${found.level < 0.001 ? "less than 0.001" : fixed(found.level, 3)}; the alarm is raised at 1.${known(found.score?.psi) ? ` PSI ${fixed(found.score.psi, 3)} (informative only).` : ""}`);
  put("promise-note", found ? sentences([found.promise, ...found.notes]) : "");
}

function reliability(model) {
  const bins = model.reliability ?? [], n = Math.max(1, bins.length), some = bins.some((bin) => bin.n);
  const xs = bins.map((_, i) => i), right = bins.map((bin) => bin.right ?? 0);
  const end = (v, open) => (v === null ? open : String(Number(v.toPrecision(3))));
  const ends = (bin) => `${end(bin.from, "below")} to ${end(bin.to, "above")}`;
  chart($("map"), {
    x: [0, n], y: [0, 1], yText: (v) => percent(v, 0), drawn: bins, empty: some ? "" : "No labels or audits yet",
    xTicks: bins.map((bin, i) => [i, bin.from]).filter(([i]) => i && i % 4 === 1).map(([i, from]) => [i, end(from)]),
    label: `How often answers of the first stage were right, by score: ${bins.filter((bin) => bin.n).map((bin) => `${ends(bin)}: ${percent(bin.right, 0)}`).join("; ") || "not known yet"}.`,
    draw: (svg, X, Y) => {
      if (some) bars(svg, xs, [["exits", right]], X, Y, 1);
      line(svg, xs.flatMap((x) => [x, x + 1]), bins.flatMap((bin) => [bin.floor, bin.floor]), X, Y, "bound");
    },
  });
  readable($("map"), "map-read", xs.map((x) => x + 0.5), (i) => (i === null ? "by score" : `${ends(bins[i])}: ${percent(bins[i].right)} of ${count(bins[i].n)}`));
}

function labels(model) {
  const { labels: found } = model, gap = found?.exits_against_base;
  const accuracy = (one) => `${percent(one.accuracy, 2)}, at least ${percent(one.bound, 2)}`;
  put("labels-read", found?.n ? `${count(found.n)} labels` : "");
  rows($("labels"), found?.n ? [
    ["accuracy of labelled answers", accuracy(found)],
    ...(found.by_traffic ? [["weighted by traffic", accuracy(found.by_traffic)]] : []),
    ...(gap?.n ? [["exits against the base", `drop ${points(gap.drop)}, at most ${points(gap.drop_bound)}`]] : []),
    ["unknown ids", count(found.unknown)],
  ] : [], pair);
  put("labels-note", !found ? "Labels are supported for classes only." : found.n ? sentences(found.notes)
    : "None yet. POST true labels by id to /v2/models/MODEL/labels as they become known.");
}

// A term and what it is.
function pair([what, text]) {
  const both = document.createDocumentFragment();
  both.append(element("dt", {}, what), element("dd", {}, text));
  return both;
}

function side(model) {
  const { governor, shadow } = model;
  const share = governor ? Math.max(0, Math.min(1, governor.tokens / governor.burst)) : 0;
  $("tokens").firstElementChild.style.width = `${100 * share}%`;
  $("tokens").setAttribute("aria-label", governor ? `${count(Math.floor(governor.tokens))} of ${count(governor.burst)} tokens left` : "The governor is off");
  put("governor-read", governor ? `${count(Math.floor(governor.tokens))} of ${count(governor.burst)} tokens` : "off");
  put("governor-note", governor ? `Refills at ${rate(governor.rate)} per second. ${count(governor.empty)} inputs would have escalated but found no token.`
    : "Escalations are not limited. --escalation-rate keeps a flood of hard inputs from slowing the base down for everyone.");
  const entries = shadow ? [
    ["inputs", count(shadow.n)], ["would have exited", percent(shadow.exit_ratio)],
    ["exits that differ", `${percent(shadow.disagreement, 2)}, at most ${percent(shadow.bound, 2)}`],
    ["drop", `at most ${points(shadow.drop_bound)}`],
    ["cost saved", shadow.saved_interval ? `${percent(shadow.saved)}, within ${shadow.saved_interval.map((each) => percent(each)).join(" to ")}` : NOTHING],
  ] : [];
  rows($("shadow"), entries, pair);
  put("shadow-note", shadow ? "The base answers every request; the cascade runs beside it for comparison." : "Off: the cascade answers.");
}

function alarms(model, access, now) {
  const found = model.alarms.toReversed(), open = found.filter((each) => each.in_force).length;
  put("alarm-pill", open ? `${open} alarm${open === 1 ? "" : "s"}` : "no alarms", open ? "bad" : "calm");
  put("alarms-read", found.length ? `${found.length} since the server started` : "");
  put("no-alarms", found.length ? "" : "None since the server started.");
  rows($("alarm-list"), found, (each) => element("li", { class: each.in_force ? null : "past" },
    element("p", {}, element("strong", {}, clean(each.title)), " ", element("time", {}, moment(each.at, now)), each.in_force ? "" : ` (over; raised at point ${clean(each.point)})`),
    element("p", {}, clean(each.says)),
    element("p", { class: "do" }, `${clean(each.advice)} More: `, element("code", {}, clean(each.page))),
    ...(each.in_force && access !== "open" ? [acknowledge()] : [])));
}

function flagged(model, access, now) {
  const found = (model.flagged ?? []).toReversed();
  put("flagged-read", found.length ? `the last ${found.length}` : "");
  put("no-flagged", access === "locked" ? "Ids and answers are shown only with a token: enter it under Operating point." : found.length ? "" : "None. Answers that were governed, failed or are unsure appear here.");
  rows($("flagged").tBodies[0], found, (each) => element("tr", {},
    cell("time", moment(each.at, now)),
    cell("id or request", foreign(each.id ?? each.request), "text"),
    cell("answer", foreign(each.error ?? each.name ?? NOTHING), "text whole"),
    cell("stage", known(each.stage) ? count(each.stage) : NOTHING),
    cell("confidence", known(each.confidence) ? fixed(each.confidence, 3) : NOTHING),
    element("td", { class: "text flags" }, ...(each.error === null ? each.flags : ["failed", ...each.flags]).map(
      (flag) => element("span", { class: flag === "failed" ? "flag bad" : "flag" }, clean(flag))))));
}
