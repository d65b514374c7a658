// Fetches a snapshot every second while the page is visible, and shows it.

const STATES = { ready: "good", draining: "warn", warming: "warn", loading: "warn" };
const live = { timer: 0, wanted: new URLSearchParams(location.search).get("model"), asked: 0, failed: 0, last: null };

async function refresh() {
  clearTimeout(live.timer);
  if (document.hidden) return;
  const asked = ++live.asked;
  try {
    const token = remembered();
    const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
    const ask = (query) => fetch(`console.json${query}`, { headers, cache: "no-store", signal: AbortSignal.timeout(8000) });
    let answer = await ask(live.wanted === null ? "" : `?model=${encodeURIComponent(live.wanted)}`);
    if (answer.status === 404 && live.wanted !== null) {  // the model is gone: show the first one instead
      live.wanted = null;
      answer = await ask("");
    }
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    const snapshot = await answer.json();
    if (asked !== live.asked) return;
    live.failed = 0;
    live.last = snapshot.now;
    if (token !== null && token === mover.token && snapshot.access !== "token") {
      remember(null);
      put("said", "The server does not know this token.", "bad");
    }
    show(snapshot);
    reached(true);
  } catch (error) {
    if (asked !== live.asked) return;
    live.failed += 1;
    reached(false, error);
  }
  live.timer = setTimeout(refresh, Math.min(1000 * 2 ** Math.max(0, live.failed - 1), 10000));
}

function reached(yes, error) {
  $("live").className = `live ${yes ? "on" : "off"}`;
  put("live-text", yes ? clock(live.last) : "no answer");
  $("live").title = yes ? "refreshed every second" : clean(error?.message);
  $("main").classList.toggle("stale", !yes && live.failed > 1);
  if (!yes && live.failed > 1) put("state", live.last === null ? "unreachable" : `unreachable since ${clock(live.last)}`, "bad");
}

function show(snapshot) {
  const { model, now } = snapshot;
  models(snapshot.models, model.name);
  put("state", clean(model.state), STATES[model.state] ?? "");
  document.title = `${clean(model.name)} · Pilotfish`;
  $("fault").hidden = !snapshot.unwritten;
  tiles(model);
  traffic(model);
  stages(model);
  operatingPoint(model, snapshot.access, now);
  audit(model, now);
  drift(model);
  reliability(model);
  labels(model);
  side(model);
  alarms(model, snapshot.access, now);
  flagged(model, snapshot.access, now);
  put("footer", `Pilotfish ${clean(snapshot.version)}, started ${age(now - snapshot.started)} ago. Charts cover the last ten minutes and restart with the server.`);
}

function models(names, shown) {
  const select = $("models");
  rows(select, names, (name) => {
    const option = element("option", {}, clean(name));
    option.value = name;
    return option;
  });
  select.disabled = names.length < 2;
  if (document.activeElement !== select) select.value = shown;
}

$("models").addEventListener("change", () => {
  live.wanted = $("models").value;
  history.replaceState(null, "", `?model=${encodeURIComponent(live.wanted)}`);
  put("said", "", "");
  refresh();
});
document.addEventListener("visibilitychange", refresh);
refresh();
