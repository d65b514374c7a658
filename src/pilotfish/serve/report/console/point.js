// The operating point: where it lies on the frontier, what another one would do, and how to move it.

const TOKEN = "pilotfish-token";  // kept for this tab only
const mover = { chosen: null, model: null, token: null };  // chosen: an index of the frontier; null follows the point in force

const effort = (model, i) => (model.frontier.cost ? model.frontier.cost[i] : 1 - model.frontier.exit_ratio[i]);
const place = (model) => mover.chosen ?? model.frontier.at;

function operatingPoint(model, access, now) {
  if (mover.model?.name !== model.name || mover.model.frontier.drop.length !== model.frontier.drop.length) mover.chosen = null;
  mover.model = model;
  const { point, frontier } = model;
  put("point-read", `point ${clean(point.id)} in force for ${age(now - point.since)}`);
  put("p-metric", clean(frontier.metric));
  put("p-drop", points(point.drop));
  put("p-cost", costs(model, point.cost));
  put("p-exit", percent(point.exit_ratio));
  put("p-value", percent(point.value, 2));
  const slider = $("slider");
  slider.max = frontier.drop.length - 1;
  slider.disabled = frontier.drop.length < 2;
  if (mover.chosen === null && frontier.at !== null) slider.value = frontier.at;
  put("point-note", `${point.guarantee ? clean(point.guarantee) : "This point has no certificate."} `
    + `The frontier was measured on ${count(frontier.n)} samples. Moving restarts the drift alarm and the audit.`
    + (access !== "open" ? "" : " It cannot be moved: the server was started without --token-file."));
  mover.tokens = access !== "open";
  $("token-row").hidden = !mover.tokens || remembered() !== null;
  $("forget").hidden = remembered() === null;
  choice();
}

function costs(model, value) {
  if (!known(value)) return NOTHING;
  return known(model.base_cost) ? `${cost(value, model.unit)} (${percent(value / model.base_cost, 0)})` : cost(value, model.unit);
}

// Shows the chosen point beside the one in force.
function choice() {
  const { model } = mover, { frontier, point } = model, i = place(model);
  const moved = mover.chosen !== null && mover.chosen !== frontier.at;
  const or = (text) => (moved ? text : NOTHING);
  put("c-drop", or(points(frontier.drop[i])));
  put("c-cost", or(costs(model, frontier.cost?.[i])));
  put("c-exit", or(percent(frontier.exit_ratio[i])));
  put("c-value", or(percent(frontier.value[i], 2)));
  $("apply").disabled = !moved || !mover.tokens || mover.busy;
  $("back").disabled = !moved;
  const drop = i === null ? point.drop : frontier.drop[i], paid = i === null ? point.cost : frontier.cost?.[i];
  $("slider").setAttribute("aria-valuetext", `drop ${points(drop)}, cost ${costs(model, paid)}${moved ? "" : ", in force"}`);
  draw(model, moved ? i : null);
}

function draw(model, chosen) {
  const { frontier, point, unit } = model;
  const xs = frontier.drop.map((_, i) => effort(model, i)), ys = frontier.drop;
  const here = frontier.at === null ? [point.cost ?? 1 - point.exit_ratio, point.drop] : [xs[frontier.at], ys[frontier.at]];
  const lowX = Math.min(...xs, here[0]), highX = Math.max(...xs, here[0]), margin = (highX - lowX) * 0.03 || 0.01;
  const lowY = Math.min(0, ...ys, here[1]), highY = Math.max(0.001, ...ys, here[1]);
  const xText = (v) => (frontier.cost ? (known(model.base_cost) ? percent(v / model.base_cost, 0) : cost(v, unit)) : percent(v, 0));
  const x = [lowX - margin, highX + margin];
  const scale = frontier.cost && known(model.base_cost) ? model.base_cost : 1;
  const marks = ticks(x[0] / scale, x[1] / scale, 4).map((v) => v * scale);
  put("frontier-says", `drop in points against ${!frontier.cost ? "the share that reaches the base" : known(model.base_cost) ? "cost relative to the base" : "cost"}`);
  chart($("frontier"), {
    x, y: [lowY - (highY - lowY) * 0.05, highY * 1.05], yText: (v) => `${Number((100 * v).toPrecision(3))}`.replace("-", MINUS),
    xTicks: marks.map((v) => [v, xText(v)]),
    drawn: [xs, ys, here, chosen],
    label: `Frontier of ${xs.length} points, drop in points against cost. In force: drop ${points(here[1])}, cost ${xText(here[0])} of the base.`,
    draw: (svg, X, Y) => {
      line(svg, xs, ys, X, Y, "line");
      xs.forEach((v, i) => svg.append(shape("circle", { class: "step", cx: X(v), cy: Y(ys[i]), r: 2.4 })));
      svg.append(shape("circle", { class: "at", cx: X(here[0]), cy: Y(here[1]), r: 7 }));
      if (chosen !== null) svg.append(shape("circle", { class: "chosen", cx: X(xs[chosen]), cy: Y(ys[chosen]), r: 8 }));
    },
  });
}

function remembered() {
  try { mover.token ??= sessionStorage.getItem(TOKEN); } catch { /* no storage: keep it in memory */ }
  return mover.token;
}

function remember(token) {
  mover.token = token;
  try {
    if (token === null) sessionStorage.removeItem(TOKEN);
    else sessionStorage.setItem(TOKEN, token);
  } catch { /* as above */ }
  $("token").value = "";
  $("token-row").hidden = !mover.tokens || token !== null;
  $("forget").hidden = token === null;
}

// A drop as the server takes it: bare numbers of 0.1 or more are refused, as the percent sign may be missing.
const asked = (drop) => (Math.abs(drop) < 0.1 ? drop : `${100 * drop}%`);

// The token that was typed, if it is valid.
function typed() {
  const token = $("token").value.trim();
  if (/^[\x21-\x7e]+$/.test(token)) return token;
  put("said", token ? "A token has letters, digits and signs, and no spaces." : "This needs a token from the server's token file.", "bad");
  $("token").focus();
  return null;
}

// Asks the server to change something; returns whether it did. The outcome is shown at *where*, as told(response).
async function change(where, method, path, body, told) {
  const token = remembered() ?? typed();
  if (token === null) return false;
  put(where, "One moment …", "");
  try {
    const answer = await fetch(`v2/models/${encodeURIComponent(mover.model.name)}/${path}`, {
      method, body: body && JSON.stringify(body), signal: AbortSignal.timeout(15000),
      headers: { ...(body && { "Content-Type": "application/json" }), Authorization: `Bearer ${token}` },
    });
    const found = await answer.json().catch(() => ({}));
    if (answer.ok) remember(token);
    else if (answer.status === 401) remember(null);
    put(where, answer.ok ? told(found) : `Nothing was changed: ${clean(found.error ?? `the server answered ${answer.status}`)}`, answer.ok ? "good" : "bad");
    return answer.ok;
  } catch {
    put(where, "The server did not answer. The page will show whether the change was made once it does.", "bad");
    return false;
  } finally {
    refresh();
  }
}

async function move() {
  mover.busy = true;
  choice();
  const asking = { max_drop: asked(mover.model.frontier.drop[mover.chosen]) };
  const moved = await change("said", "PUT", "operating_point", asking, (found) =>
    [found.moved ? `Moved: point ${clean(found.id)} is in force, with a drop of ${points(found.drop)}. The drift alarm and the audit restart.`
      : `Point ${clean(found.id)} was already in force; nothing changed.`, ...found.notes.map(clean)].join(" "));
  if (moved) mover.chosen = null;
  mover.busy = false;
  choice();
}

// A button that acknowledges the alarm in force.
function acknowledge() {
  const button = element("button", { type: "button" }, "Acknowledge");
  button.addEventListener("click", () => change("alarm-said", "DELETE", "drift", null, () => "The alarm is acknowledged; monitoring restarts."));
  return button;
}

function keep() {
  const token = typed();
  if (token === null) return;
  put("said", "", "");
  remember(token);
  refresh();
}

$("slider").addEventListener("input", () => {
  mover.chosen = Number($("slider").value);
  put("said", "", "");
  choice();
});
$("move").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!$("apply").disabled) move();
});
$("back").addEventListener("click", () => {
  mover.chosen = null;
  if (mover.model.frontier.at !== null) $("slider").value = mover.model.frontier.at;
  put("said", "", "");
  choice();
  $("slider").focus();
});
$("token").addEventListener("keydown", (event) => {  // with nothing chosen, the form is not submitted
  if (event.key === "Enter" && $("apply").disabled) keep();
});
$("keep").addEventListener("click", keep);
$("forget").addEventListener("click", () => {
  remember(null);
  put("said", "The token was forgotten.", "");
});
