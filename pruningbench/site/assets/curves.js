// The page of the curves: choices, the chart, its table, and what hovering and clicking show.
"use strict";
(function () {
  const { el, number, percent } = PB;
  const host = document.getElementById("charts");
  const MANY = 14;
  let board = null, place = 0, state = {}, pinned = -1, hovered = -1;
  let hidden = { pruner: new Set(), recipe: new Set() };

  const packed = (kind) => [...hidden[kind]].map((i) => encodeURIComponent(board.label(kind, i))).join(",");
  function unpacked(kind, text) {
    const labels = (text || "").split(",").filter(Boolean).map((part) => {
      try { return decodeURIComponent(part); } catch (error) { return part; }
    });
    return new Set(labels.map((label) => board.names[kind].label.indexOf(label)).filter((i) => i >= 0));
  }

  async function start() {
    state = PB.readState();
    ({ place, board } = await PB.openBoard(state, document.getElementById("boards"),
      (chosen) => { location.hash = PB.addressOf({ board: chosen }); }));
    if (!board.count) throw new Error("the runs hold no values");
    state.view = state.view === "scatter" ? "scatter" : "curves";
    state.model = known(board.names.model.label, state.model);
    state.metric = column(state.metric, 0);
    state.x = state.x === "sparsity" ? "sparsity" : column(state.x, 0);
    state.y = state.y === "sparsity" ? "sparsity" : column(state.y, Math.min(1, board.columnCount - 1));
    hidden = { pruner: unpacked("pruner", state.hide), recipe: unpacked("recipe", state.hiderecipe) };
    const value = Number(state.pin);
    pinned = state.pin && Number.isInteger(value) && value >= 0 && value < board.count ? value : -1;
    hovered = -1;
    controls();
    draw();
  }
  const known = (labels, wanted) => Math.max(0, labels.indexOf(wanted));
  function column(header, usual) {
    const found = board.columns.header.indexOf(header);
    return found >= 0 ? found : usual;
  }

  function select(id, label, options, chosen, change) {
    const box = document.getElementById(id);
    box.replaceChildren(el("label", { for: `${id}-choice` }, label), el("select", { id: `${id}-choice`,
      onchange: (event) => { change(event.target.value); draw(); } }, options));
    box.querySelector("select").value = String(chosen);
  }

  function metricOptions(extra) {
    const listed = board.columns.header.map((_, i) => {
      const arrow = { "1": " ↑", "-1": " ↓", "0": "" }[board.columns.direction[i]];
      return el("option", { value: i }, board.title(i) + arrow);
    });
    return extra ? [el("option", { value: "sparsity" }, "sparsity"), ...listed] : listed;
  }

  function controls() {
    for (const input of document.querySelectorAll("input[name='view']")) {
      input.checked = input.value === state.view;
      input.onchange = () => { state.view = input.value; pinned = -1; controls(); draw(); };
    }
    const models = board.names.model.short.map((short, i) => el("option", { value: i }, short));
    select("model", "Model", models, state.model, (value) => { state.model = Number(value); pinned = -1; });
    const axis = (value) => (value === "sparsity" ? value : Number(value));
    select("metric", "Metric", metricOptions(false), state.metric, (value) => { state.metric = Number(value); pinned = -1; });
    select("x", "Across", metricOptions(true), state.x, (value) => { state.x = axis(value); pinned = -1; });
    select("y", "Up", metricOptions(true), state.y, (value) => { state.y = axis(value); pinned = -1; });
    for (const id of ["metric", "x", "y"]) document.getElementById(id).hidden = (id === "metric") !== (state.view === "curves");
  }

  const rowsOfModel = () => Array.from({ length: board.rowCount }, (_, row) => row)
    .filter((row) => board.rows.model[row] === state.model);
  const visible = (row) => !hidden.recipe.has(board.rows.recipe[row])
    && (board.sparsity[row] === 0 || !hidden.pruner.has(board.rows.pruner[row]));

  function draw() {
    const rows = rowsOfModel();
    legend(rows);
    const width = Math.max(280, Math.min(host.clientWidth, 1100));
    const height = width < 520 ? 320 : 440;
    const made = state.view === "curves" ? curveChart(rows, width, height) : scatterChart(rows, width, height);
    made.chart.addEventListener("input", () => {
      const point = made.chart.value;
      hovered = point ? point.i : -1;
      hover();
    });
    made.chart.addEventListener("click", () => {
      if (hovered >= 0) pin(hovered);
    });
    made.chart.setAttribute("aria-hidden", "true"); // the figure has the label, and the table below the values
    const figure = document.getElementById("chart");
    figure.setAttribute("aria-label", `Chart: ${made.title}. The table below holds its values.`);
    figure.replaceChildren(made.chart);
    document.getElementById("alternative").replaceChildren(made.table);
    remember();
    hover();
    showPinned();
    performance.mark("drawn");
  }

  function curveChart(rows, width, height) {
    const column_ = state.metric, digits = board.digitsOf(column_);
    const measured = rows.filter((row) => board.at(row, column_) >= 0);
    const dense = measured.filter((row) => board.sparsity[row] === 0);
    const points = measured.filter(visible).filter((row) => board.sparsity[row] > 0).map((row) => pointOf(row, column_))
      .filter((point) => Number.isFinite(point.y)).sort((a, b) => a.x - b.x);
    const lines = dense.filter(visible).map((row) => ({ y: board.value[board.at(row, column_)], kind: "dense",
      recipe: board.rows.recipe[row], text: `dense · ${board.short("recipe", board.rows.recipe[row])}` }))
      .filter((line) => Number.isFinite(line.y));
    const ceiling = board.columns.ceiling[column_], chance = board.columns.chance[column_];
    if (ceiling !== null) lines.push({ y: ceiling, kind: "people", text: "people", recipe: 0 });
    if (chance !== null) lines.push({ y: chance, kind: "chance", text: "chance", recipe: 0 });
    const sparsities = [...new Set([0, ...points.map((point) => point.x)])].sort((a, b) => a - b);
    const title = `${board.title(column_)} of ${board.short("model", state.model)} against sparsity`;
    const unit = board.columns.unit[column_];
    const arrow = { "1": ", higher is better", "-1": ", lower is better", "0": "" }[board.columns.direction[column_]];
    const label = `${board.short("metric", board.columns.metric[column_])}${unit && unit !== "fraction" ? ` (${unit})` : ""}${arrow}`;
    const chart = PB.charts.curves({ points, lines, sparsities, width, height, digits, label });
    return { title, chart, table: curveTable(title, points, dense, column_) };
  }

  // Looks follow the place of a pruner on the board, so that they are the same for all models and metrics.
  function pointOf(row, column_) {
    const i = board.at(row, column_);
    return { i, x: board.sparsity[row], y: board.value[i], low: board.low[i], high: board.high[i],
      pruner: board.rows.pruner[row], recipe: board.rows.recipe[row],
      collapsed: board.collapsed(row) || board.atChance(i), tip: board.sentence(i) };
  }
  // The same values as a table, for those who do not see the chart; its buttons pin a value, as a click does.
  function curveTable(title, points, dense, column_) {
    const digits = board.digitsOf(column_);
    const sparsities = [...new Set(points.map((point) => point.x))];
    const series = new Map();
    for (const point of points) {
      const name = board.rowTitle(board.row[point.i]);
      if (!series.has(name)) series.set(name, new Map());
      series.get(name).set(point.x, point.i);
    }
    const cell = (i) => (i === undefined ? el("td", { class: "number" }, "–") : el("td", { class: "number" },
      el("button", { type: "button", class: "answer", onclick: () => pin(i), "aria-label": board.sentence(i).replaceAll("\n", "; ") },
        number(board.value[i], digits), board.sign(i) && ` ${board.sign(i)}`),
      " ", el("span", { class: "quiet" }, board.interval(board.low[i], board.high[i], digits))));
    const denseRows = dense.filter(visible).map((row) => el("tr", null, el("th", { scope: "row" }, board.rowTitle(row)),
      el("td", { colspan: Math.max(1, sparsities.length), }, number(board.value[board.at(row, column_)], digits))));
    return el("table", null, el("caption", null, title), el("thead", null, el("tr", null, el("th", { scope: "col" }, "pruner · recipe"),
      sparsities.map((sparsity) => el("th", { scope: "col", class: "number" }, percent(sparsity))))),
    el("tbody", null, denseRows, [...series].map(([name, values]) => el("tr", null, el("th", { scope: "row" }, name),
      sparsities.map((sparsity) => cell(values.get(sparsity)))))));
  }

  function axisOf(which) {
    if (which === "sparsity") return { value: (row) => board.sparsity[row], i: () => -1, digits: 2, direction: 1, label: "sparsity" };
    const arrow = { "1": " (higher is better)", "-1": " (lower is better)", "0": "" }[board.columns.direction[which]];
    return {
      value: (row) => (board.at(row, which) < 0 ? NaN : board.value[board.at(row, which)]),
      i: (row) => board.at(row, which),
      chance: (row) => board.at(row, which) >= 0 && board.atChance(board.at(row, which)),
      digits: board.digitsOf(which), direction: board.columns.direction[which] || 1, label: board.title(which) + arrow,
    };
  }

  function scatterChart(rows, width, height) {
    const x = axisOf(state.x), y = axisOf(state.y);
    const points = rows.filter(visible).map((row) => ({
      row, x: x.value(row), y: y.value(row), pruner: board.rows.pruner[row], sparsity: board.sparsity[row],
      i: y.i(row) >= 0 ? y.i(row) : x.i(row), collapsed: board.collapsed(row) || Boolean(x.chance?.(row) || y.chance?.(row)),
    })).filter((point) => Number.isFinite(point.x) && Number.isFinite(point.y));
    for (const point of points) {
      point.tip = `${board.rowTitle(point.row)} at ${percent(point.sparsity)}\n${x.label}: ${number(point.x, x.digits)}\n`
        + `${y.label}: ${number(point.y, y.digits)}`;
    }
    const pruned = points.filter((point) => point.sparsity > 0), dense = points.filter((point) => point.sparsity === 0);
    const front = PB.charts.paretoFront(pruned, x.direction, y.direction);
    const title = `${y.label} against ${x.label}, ${board.short("model", state.model)}`;
    const chart = PB.charts.scatter({ points: pruned, front, dense, width, height, xLabel: `${x.label} →`, yLabel: `↑ ${y.label}`,
      xDigits: x.digits, yDigits: y.digits });
    const on = new Set(front);
    const table = el("table", null, el("caption", null, `${title}; ★: on the Pareto front, no other pruned network is better in both`),
      el("thead", null, el("tr", null, ["pruner · recipe", "sparsity", x.label, y.label, "front"].map((text, n) =>
        el("th", { scope: "col", class: n && n < 4 ? "number" : null }, text)))),
      el("tbody", null, [...dense, ...front, ...pruned.filter((point) => !on.has(point))].map((point) => el("tr", null,
        el("th", { scope: "row" }, point.i < 0 ? board.rowTitle(point.row) : el("button", { type: "button", class: "answer",
          onclick: () => pin(point.i) }, board.rowTitle(point.row))),
        el("td", { class: "number" }, percent(point.sparsity)), el("td", { class: "number" }, number(point.x, x.digits)),
        el("td", { class: "number" }, number(point.y, y.digits)), el("td", null, on.has(point) ? "★" : "")))));
    return { title, chart, table };
  }

  // Which pruners and recipes are drawn.
  function legend(rows) {
    const of = (kind) => [...new Set(rows.filter((row) => kind === "recipe" || board.sparsity[row] > 0)
      .map((row) => board.rows[kind][row]))].sort((a, b) => a - b);
    const group = (kind, title) => {
      const places = of(kind);
      const boxes = places.map((i) => el("label", { title: board.label(kind, i) }, el("input", { type: "checkbox",
        checked: !hidden[kind].has(i), onchange: (event) => {
          if (event.target.checked) hidden[kind].delete(i);
          else hidden[kind].add(i);
          const id = event.target.id;
          draw();
          document.getElementById(id)?.focus();
        }, id: `${kind}-${i}` }), PB.charts.sample(kind, i), el("span", null, board.short(kind, i))));
      const all = places.length > MANY / 2 ? el("button", { type: "button", class: "quiet", onclick: () => {
        if (places.every((i) => !hidden[kind].has(i))) places.forEach((i) => hidden[kind].add(i));
        else hidden[kind].clear();
        draw();
      } }, "all or none") : null;
      return el("fieldset", { class: "legend" }, el("legend", null, title), boxes, all);
    };
    document.getElementById("legend").replaceChildren(group("pruner", "Pruners"), group("recipe", "Recipes"));
  }

  function hover() {
    const box = document.getElementById("hover");
    if (hovered < 0) {
      box.replaceChildren(el("span", { class: "quiet" }, "Point at a value for its command, click to pin it."));
      return;
    }
    box.replaceChildren(el("code", null, board.command(board.row[hovered])));
  }

  function pin(i) {
    pinned = i;
    remember();
    showPinned();
    const heading = document.querySelector("#pinned h3");
    if (heading) {
      heading.tabIndex = -1;
      heading.focus({ preventScroll: true });
      heading.scrollIntoView({ block: "nearest" });
    }
  }

  function showPinned() {
    const box = document.getElementById("pinned");
    if (pinned < 0) {
      box.replaceChildren();
      return;
    }
    const shown = PB.detail(board, place, pinned);
    shown.append(el("button", { type: "button", class: "quiet close", onclick: () => { pinned = -1; remember(); showPinned(); } }, "Unpin"));
    box.replaceChildren(shown);
  }

  function remember() {
    const header = (which) => (which === "sparsity" ? which : board.columns.header[which]);
    const own = state.view === "curves" ? { metric: header(state.metric) } : { view: "scatter", x: header(state.x), y: header(state.y) };
    PB.writeState({ board: place || "", model: board.label("model", state.model), ...own, hide: packed("pruner"),
      hiderecipe: packed("recipe"), pin: pinned < 0 ? "" : pinned });
  }

  let waiting = 0, before = 0;
  new ResizeObserver(() => {
    if (!board || host.clientWidth === before) return;
    before = host.clientWidth;
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(draw);
  }).observe(host);
  document.addEventListener("themechange", () => board && draw());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => board && draw());
  addEventListener("hashchange", () => start().catch((error) => PB.failed(host, error)));
  start().catch((error) => PB.failed(host, error));
})();
