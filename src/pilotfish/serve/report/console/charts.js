// Charts as SVG, drawn at their size on the page. Colours come from the style sheet, by class.

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = { left: 46, right: 10, top: 8, bottom: 22 };

function shape(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// Up to *most* round numbers from low to high.
function ticks(low, high, most = 4) {
  const raw = (high - low) / most || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 2.5, 5, 10].find((s) => s * power >= raw * 0.999);
  const first = Math.ceil(low / step - 1e-9), found = [];
  for (let i = first; i * step <= high + step * 1e-9; i++) found.push(i * step);
  return found;
}

// A chart's frame: axes, grid and scales. Draws again only what has changed, and when the page's width does.
//   x, y: [low, high]; xTicks: [[value, text]]; yText: value -> text; label: what it says, for who cannot see it
//   bands: [{ low, high, middle, from }]; rules: where something changed; drawn: all that draw() draws
function chart(host, spec) {
  host.spec = spec;
  const width = host.clientWidth, height = host.clientHeight;
  const said = JSON.stringify([width, height, spec.drawn ?? spec]);
  if (host.said === said || width < 100) return;
  host.said = said;
  const inner = { right: width - MARGIN.right, bottom: height - MARGIN.bottom };
  const X = (v) => MARGIN.left + ((v - spec.x[0]) / (spec.x[1] - spec.x[0] || 1)) * (inner.right - MARGIN.left);
  const Y = (v) => inner.bottom - ((v - spec.y[0]) / (spec.y[1] - spec.y[0] || 1)) * (inner.bottom - MARGIN.top);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": spec.label });
  for (const band of spec.bands ?? []) {
    const top = Y(Math.min(band.high, spec.y[1])), bottom = Y(Math.max(band.low, spec.y[0]));
    const from = X(Math.max(band.from, spec.x[0]));
    svg.append(shape("rect", { class: "band", x: from, width: Math.max(0, inner.right - from), y: top, height: Math.max(1, bottom - top) }));
    if (known(band.middle)) svg.append(shape("line", { class: "mid", x1: from, x2: inner.right, y1: Y(band.middle), y2: Y(band.middle) }));
  }
  for (const v of ticks(spec.y[0], spec.y[1], height < 180 ? 3 : 4)) {
    svg.append(shape("line", { class: "grid", x1: MARGIN.left, x2: inner.right, y1: Y(v), y2: Y(v) }));
    svg.append(shape("text", { x: MARGIN.left - 8, y: Y(v) + 4, "text-anchor": "end" }, spec.yText(v)));
  }
  svg.append(shape("line", { class: "axis", x1: MARGIN.left, x2: inner.right, y1: inner.bottom, y2: inner.bottom }));
  let end = -Infinity;  // of the label before, roughly; overlapping labels are left out
  spec.xTicks.forEach(([v, text], i) => {
    const anchor = i === spec.xTicks.length - 1 && X(v) > inner.right - 24 ? "end" : X(v) < MARGIN.left + 12 ? "start" : "middle";
    const wide = 7 * text.length, from = X(v) - { start: 0, middle: wide / 2, end: wide }[anchor];
    if (from < end) return;
    end = from + wide;
    svg.append(shape("text", { x: X(v), y: height - 5, "text-anchor": anchor }, text));
  });
  spec.draw(svg, X, Y, inner);
  for (const v of spec.rules ?? []) {
    if (v > spec.x[0]) svg.append(shape("line", { class: "rule", x1: X(v), x2: X(v), y1: MARGIN.top, y2: inner.bottom }));
  }
  if (spec.empty) svg.append(shape("text", { class: "none", x: (MARGIN.left + inner.right) / 2, y: height / 2 - 4 }, spec.empty));
  host.scaleX = X;
  host.replaceChildren(svg);
}

// A line with gaps at unknown values; a value between two gaps is a dot.
function line(svg, xs, ys, X, Y, name) {
  let path = "", open = false;
  ys.forEach((y, i) => {
    if (!known(y)) { open = false; return; }
    const alone = !open && !known(ys[i + 1]);
    if (alone) svg.append(shape("circle", { class: "lone", cx: X(xs[i]), cy: Y(y), r: 2.2 }));
    else path += `${open ? "L" : "M"}${X(xs[i]).toFixed(1)} ${Y(y).toFixed(1)}`;
    open = !alone;
  });
  if (path) svg.append(shape("path", { class: name, d: path }));
}

// Stacked bars: parts = [[class, values]], one value per x.
function bars(svg, xs, parts, X, Y, step) {
  const place = X(xs[0] + step) - X(xs[0]), wide = Math.max(1, place - (place < 4 ? 0 : 1));
  const from = xs.map(() => 0);
  for (const [name, values] of parts) {
    let path = "";
    values.forEach((v, i) => {
      if (!v) return;
      const top = Y(from[i] + v), bottom = Y(from[i]);
      path += `M${X(xs[i]).toFixed(1)} ${bottom.toFixed(1)}v${(top - bottom).toFixed(1)}h${wide.toFixed(1)}v${(bottom - top).toFixed(1)}z`;
      from[i] += v;
    });
    if (path) svg.append(shape("path", { class: name, d: path }));
  }
}

// Shows the value under the pointer in the chart's heading, so that nothing moves or is covered. tell: index or null -> text
function readable(host, read, xs, tell) {
  host.show = () => {
    let nearest = null;
    if (known(host.pointer) && host.scaleX) {
      const away = (i) => Math.abs(host.scaleX(xs[i]) - host.pointer);
      xs.forEach((_, i) => { if (nearest === null || away(i) < away(nearest)) nearest = i; });
    }
    put(read, tell(nearest));
  };
  host.show();
  if (host.heard) return;
  host.heard = true;
  const follow = (event) => {
    host.pointer = event.type === "pointerleave" ? null : event.clientX - host.getBoundingClientRect().left;
    host.show();
  };
  host.addEventListener("pointermove", follow);
  host.addEventListener("pointerleave", follow);
}

let resized = 0;
window.addEventListener("resize", () => {
  cancelAnimationFrame(resized);
  resized = requestAnimationFrame(() => {
    for (const host of document.querySelectorAll(".plot")) if (host.spec) chart(host, host.spec);
  });
});
