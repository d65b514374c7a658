// Formats numbers and texts for people, and fills elements with text only.

const $ = (id) => document.getElementById(id);
const MINUS = "\u2212", NOTHING = "\u2013";
const known = (x) => typeof x === "number" && Number.isFinite(x);

// Control characters and direction overrides, by which a name could pose as another.
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;
const clean = (text) => String(text ?? "").replace(UNSAFE, "\ufffd");

const fixed = (x, digits) => {
  const text = Math.abs(x).toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return (x < 0 && Number(text.replaceAll(",", "")) ? MINUS : "") + text;
};
const count = (n) => (known(n) ? fixed(n, 0) : NOTHING);
const percent = (share, digits = 1) => (known(share) ? `${fixed(100 * share, digits)}%` : NOTHING);
const points = (drop, digits = 2) => (known(drop) ? `${fixed(100 * drop, digits)} points` : NOTHING);
const rate = (x) => (known(x) ? fixed(x, x >= 100 ? 0 : x >= 10 ? 1 : 2) : NOTHING);

function duration(seconds) {
  if (!known(seconds)) return NOTHING;
  if (seconds < 0.9995) {
    const ms = 1000 * seconds;
    return `${fixed(ms, ms >= 99.95 ? 0 : ms >= 9.995 ? 1 : 2)}\u202fms`;
  }
  return seconds < 99.5 ? `${fixed(seconds, seconds < 9.95 ? 2 : 1)}\u202fs` : age(seconds);
}

function age(seconds) {
  const steps = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const [name, size] = steps.find(([, s]) => seconds >= s) ?? steps[3];
  const n = Math.max(0, Math.floor(seconds / size));
  return `${n} ${name}${n === 1 ? "" : "s"}`;
}

const clock = (at) => new Date(1000 * at).toLocaleTimeString("en-GB");
const day = (at) => new Date(1000 * at).toLocaleDateString("en-GB", { day: "numeric", month: "short" });
const moment = (at, now) => (now - at > 43200 ? `${day(at)} ${clock(at)}` : clock(at));

// A cost in the unit of the whole column.
function cost(value, unit) {
  if (!known(value) || !unit) return NOTHING;
  const scaled = value / unit.divisor;
  return `${Math.abs(scaled) < 0.1 && scaled ? Number(scaled.toPrecision(2)) : fixed(scaled, 2)}\u202f${clean(unit.name)}`;
}

// Text is inserted as text; nothing on this page is ever parsed as markup.
function put(where, text, kind) {
  const element = typeof where === "string" ? $(where) : where;
  const shown = text === "" && !element.matches(".note, #alarm-said") ? "\u00a0" : text;  // an empty line keeps its height
  if (element.textContent !== shown) element.textContent = shown;
  if (kind !== undefined) {
    const names = new Set(["good", "warn", "bad", "calm"]);
    for (const name of names) element.classList.toggle(name, name === kind);
  }
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// A name from outside: isolated in its direction, with its full length in the tooltip.
const foreign = (text) => element("bdi", { title: clean(text) }, clean(text));

// Notes of the server as sentences.
const sentences = (notes) => notes.map((note) => `${clean(note.charAt(0).toUpperCase())}${clean(note.slice(1))}.`).join(" ");

// The rows of a table or a list, rebuilt only when their content changes.
function rows(body, entries, make) {
  const said = JSON.stringify(entries);
  if (body.said === said) return;
  body.said = said;
  body.replaceChildren(...entries.map(make));
}
