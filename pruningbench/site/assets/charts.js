// The two charts: a metric against sparsity, and one metric against another.
"use strict";
(function () {
  const { number, percent } = PB;
  const LIGHT = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#9A6B00", "#2B8CC4", "#4D4D4D"];
  const DARK = ["#56B4E9", "#E69F00", "#2FC79A", "#E39CC4", "#F0E442", "#F2834B", "#C2C2C2"];
  const SYMBOLS = ["circle", "square", "triangle", "diamond", "star", "cross", "wye", "plus", "times", "asterisk"];
  const DASHES = ["none", "6 3", "2 3", "9 3 2 3", "4 2 1 2"];

  const dark = () => {
    const theme = document.documentElement.dataset.theme;
    return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };
  const colour = (place) => (dark() ? DARK : LIGHT)[place % LIGHT.length];
  const symbol = (place) => SYMBOLS[place % SYMBOLS.length];
  const dash = (place) => DASHES[place % DASHES.length];
  const ink = () => getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
  const quiet = () => getComputedStyle(document.documentElement).getPropertyValue("--quiet").trim();
  const mark = () => getComputedStyle(document.documentElement).getPropertyValue("--mark").trim();

  // A small drawing for legends: the symbol of a pruner, or the dashes of a recipe.
  function sample(kind, place) {
    const svg = d3.create("svg").attr("width", 26).attr("height", 12).attr("viewBox", "-13 -6 26 12").attr("aria-hidden", "true");
    if (kind === "recipe") {
      svg.append("line").attr("x1", -12).attr("x2", 12).attr("stroke", "currentColor").attr("stroke-width", 1.6)
        .attr("stroke-dasharray", dash(place));
    } else {
      const shape = { circle: d3.symbolCircle, square: d3.symbolSquare2, triangle: d3.symbolTriangle2, diamond: d3.symbolDiamond2,
        star: d3.symbolStar, cross: d3.symbolCross, wye: d3.symbolWye, plus: d3.symbolPlus, times: d3.symbolTimes,
        asterisk: d3.symbolAsterisk }[symbol(place)];
      svg.append("path").attr("d", d3.symbol(shape, 55)()).attr("fill", ["plus", "times", "asterisk"].includes(symbol(place))
        ? "none" : colour(place)).attr("stroke", colour(place)).attr("stroke-width", 1.4);
    }
    return svg.node();
  }

  // points: {i, x, y, low, high, pruner, recipe, collapsed}; lines: {y, text, kind, recipe}.
  function curves({ points, lines, sparsities, width, height, digits, label }) {
    const narrow = width < 520;
    const series = (point) => `${point.pruner}|${point.recipe}`;
    const banded = points.filter((point) => Number.isFinite(point.low) && Number.isFinite(point.high));
    const remaining = (sparsity) => 1 - sparsity;
    const stroke = (point) => colour(point.pruner);
    const groups = d3.groups(points, series);
    const bands = d3.groups(banded, series);
    const styles = { dense: [ink(), 1.2], people: [mark(), 1.4], chance: [quiet(), 1] };
    return Plot.plot({
      className: "plot", width, height, marginLeft: 52, marginRight: narrow ? 16 : 120, marginBottom: 42, marginTop: 24,
      style: { fontSize: "12px" },
      x: { type: "log", reverse: true, ticks: sparsities.filter((sparsity) => sparsity > 0).map(remaining), label: "sparsity →", labelAnchor: "right",
        tickFormat: (value) => percent(Math.round((1 - value) * 1e6) / 1e6), grid: true },
      y: { label, grid: true, nice: true, tickFormat: (value) => number(value, digits) , zero: false },
      marks: [
        bands.map(([, own]) => Plot.areaY(own, { x: (p) => remaining(p.x), y1: "low", y2: "high", fill: stroke(own[0]),
          fillOpacity: 0.13})),
        lines.map((line) => Plot.ruleY([line.y], { stroke: styles[line.kind][0], strokeWidth: styles[line.kind][1],
          strokeDasharray: line.kind === "dense" ? dash(line.recipe) : line.kind === "people" ? "8 3" : "1 3" })),
        narrow ? [] : Plot.text(spread(lines), { y: "y", text: "text", frameAnchor: "right", textAnchor: "start", dx: 14,
          fill: quiet(), fontSize: 11, lineWidth: 9.5, textOverflow: "ellipsis-end" }),
        groups.map(([, own]) => Plot.line(own, { x: (p) => remaining(p.x), y: "y", stroke: stroke(own[0]), strokeWidth: 1.8,
          strokeDasharray: dash(own[0].recipe) })),
        groups.map(([, own]) => Plot.dot(own, { x: (p) => remaining(p.x), y: "y", symbol: symbol(own[0].pruner), r: 4,
          fill: (p) => (p.collapsed ? "var(--paper)" : stroke(p)), stroke: stroke(own[0]), strokeWidth: 1.5 })),
        Plot.dot(points, Plot.pointer({ x: (p) => remaining(p.x), y: "y", r: 8, stroke: ink(), strokeWidth: 1.5 })),
        Plot.tip(points, Plot.pointer({ x: (p) => remaining(p.x), y: "y", title: "tip", fontSize: 12, lineWidth: 30, lineHeight: 1.25 })),
      ].flat(),
    });
  }

  // Labels of horizontal lines, without those that would lie on another one.
  function spread(lines) {
    const kept = [];
    for (const line of [...lines].sort((a, b) => a.y - b.y)) {
      const near = kept.at(-1);
      const span = Math.max(...lines.map((one) => Math.abs(one.y)), 1e-12);
      if (near && Math.abs(line.y - near.y) < 0.04 * span) near.text = near.kind === line.kind && line.kind === "dense" ? "dense" : `${near.text}, ${line.text}`;
      else kept.push({ ...line });
    }
    return kept;
  }

  // points: {i, x, y, pruner, recipe, sparsity, collapsed, tip}; front: points in order.
  function scatter({ points, front, dense, width, height, xLabel, yLabel, xDigits, yDigits }) {
    return Plot.plot({
      className: "plot", width, height, marginLeft: 56, marginRight: 20, marginBottom: 42, marginTop: 24,
      style: { fontSize: "12px" },
      x: { label: xLabel, grid: true, nice: true, tickFormat: (value) => number(value, xDigits), labelAnchor: "right" },
      y: { label: yLabel, grid: true, nice: true, tickFormat: (value) => number(value, yDigits) },
      marks: [
        Plot.ruleX(dense, { x: "x", stroke: quiet(), strokeDasharray: "2 3" }),
        Plot.ruleY(dense, { y: "y", stroke: quiet(), strokeDasharray: "2 3" }),
        Plot.line(front, { x: "x", y: "y", stroke: ink(), strokeWidth: 1.2, curve: "linear", strokeOpacity: 0.6 }),
        d3.groups(points, (point) => point.pruner).map(([pruner, own]) => Plot.dot(own, { x: "x", y: "y", symbol: symbol(pruner),
          r: 4.5, fill: (p) => (p.collapsed ? "var(--paper)" : colour(pruner)), fillOpacity: 0.8, stroke: colour(pruner) })),
        Plot.dot(dense, { x: "x", y: "y", symbol: "circle", r: 5, fill: ink() }),
        Plot.text(front, { x: "x", y: "y", text: (p) => percent(p.sparsity), dy: -12, fill: quiet(), fontSize: 11 }),
        Plot.dot([...points, ...dense], Plot.pointer({ x: "x", y: "y", r: 9, stroke: ink(), strokeWidth: 1.5 })),
        Plot.tip([...points, ...dense], Plot.pointer({ x: "x", y: "y", title: "tip", fontSize: 12, lineWidth: 30, lineHeight: 1.25 })),
      ].flat(),
    });
  }

  // The points that no other point beats in both coordinates; `x` and `y` say whether larger is better (1 or -1).
  function paretoFront(points, x, y) {
    const able = points.filter((point) => !point.collapsed && Number.isFinite(point.x) && Number.isFinite(point.y));
    const ordered = [...able].sort((a, b) => x * (b.x - a.x) || y * (b.y - a.y));
    const front = [];
    let best = -Infinity, at = NaN;
    for (const point of ordered) {
      if (y * point.y > best) {
        front.push(point);
        best = y * point.y;
        at = point.x;
      } else if (y * point.y === best && point.x === at) front.push(point); // the same in both
    }
    return front;
  }

  PB.charts = { curves, scatter, paretoFront, sample, colour };
})();
