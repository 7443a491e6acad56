// The heat map: abilities x pruners at one sparsity, as a table of buttons that arrow keys walk through.
"use strict";
(function () {
  const { el } = PB;
  const COLLAPSED = 1, CHANCE = 2;
  const MOST_LINES = 120;
  const STEPS = [0.02, 0.08, 0.2, 0.5];

  // A change in percent, with its sign: +3 %, −12 %, 0 %.
  function change(value) {
    const hundredths = 100 * value;
    const shown = Math.abs(hundredths) >= 999.5 ? 999 : Math.abs(hundredths);
    const text = shown < 0.95 && shown >= 0.05 ? shown.toFixed(1).replace(/^0/, "") : String(Math.round(shown));
    const over = Math.abs(hundredths) >= 999.5 ? ">" : "";
    return `${Number(text) === 0 ? "" : value < 0 ? "−" : "+"}${over}${text}\u00a0%`;
  }

  // The class of a colour: b1 to b4 for better, o1 to o4 for worse, mid around zero.
  function shade(value) {
    const step = STEPS.filter((least) => Math.abs(value) >= least).length;
    return step ? `${value > 0 ? "b" : "o"}${step}` : "mid";
  }

  function signOf([, , , better, worse]) {
    return better && worse ? "▲▼" : better ? "▲" : worse ? "▼" : "";
  }

  // What a cell says to those who do not see it.
  function spoken(cell, line, option) {
    if (!cell) return `${line}, ${option}: no value`;
    const [value, low, high, better, worse, metrics, flags] = cell;
    const parts = [`${line}, ${option}: ${change(value)} to dense`];
    if (low !== null) parts.push(`interval ${change(low)} to ${change(high)}`);
    if (better) parts.push(`significantly better in ${better} of ${metrics}`);
    if (worse) parts.push(`significantly worse in ${worse} of ${metrics}`);
    if (flags & COLLAPSED) parts.push("collapsed");
    else if (flags & CHANCE) parts.push("at chance");
    return parts.join("; ");
  }

  const shortName = ({ model, names }, i) => names.pruner.short[model.options[i].pruner];
  const fullName = (view, i) => `${shortName(view, i)} · ${view.names.recipe.short[view.model.options[i].recipe]}`;
  const apart = ({ model, shown }, n) => n > 0 && model.options[shown[n]].recipe !== model.options[shown[n - 1]].recipe;

  // The pruners in view, below their recipes.
  function header(view, corner) {
    const { model, names, shown } = view;
    const recipes = [...new Set(shown.map((i) => model.options[i].recipe))];
    const rows = [];
    if (recipes.length > 1) {
      rows.push(el("tr", null, el("td", { class: "corner" }), recipes.map((recipe) => el("th", { scope: "colgroup", class: "recipe",
        colspan: shown.filter((i) => model.options[i].recipe === recipe).length }, names.recipe.short[recipe]))));
    }
    rows.push(el("tr", null, el("th", { scope: "col" }, corner), shown.map((i, n) => el("th", { scope: "col",
      class: apart(view, n) ? "apart" : null }, PB.link(names.pruner.page[model.options[i].pruner], PB.breakable(shortName(view, i)),
      { title: names.pruner.label[model.options[i].pruner] })))));
    return rows;
  }

  // options: model, names, sparsity (place), shown [places of options], best(line) -> {option, equal} or undefined,
  // unfolded (set of lines), opened(line, option), unfold(line).
  function heatMap(view) {
    const { model, names } = view;
    const head = header(view, "Ability");
    const body = [];
    model.lines.forEach((line, place) => {
      if (line.parent >= 0 && !view.unfolded.has(line.parent)) return;
      const parts = model.lines.filter((other) => other.parent === place).length;
      const title = parts ? el("button", { type: "button", class: "fold", "aria-expanded": String(view.unfolded.has(place)),
        onclick: () => view.unfold(place) }, line.name, el("span", { class: "quiet" }, ` ${parts} metrics`)) : line.name;
      const best = view.best(place);
      body.push(el("tr", { class: line.parent >= 0 ? "part" : null }, el("th", { scope: "row" }, title),
        view.shown.map((i, n) => cellOf(view, place, i, best, fullName(view, i), apart(view, n)))));
    });
    const cut = body.length - MOST_LINES;
    if (cut > 0) {
      body.splice(MOST_LINES, cut, el("tr", null, el("th", { scope: "row" }, `and ${PB.plural(cut, "more line")}`)));
    }
    const table = el("table", { class: "heat" }, el("caption", { class: "unseen" },
      `Change to the dense reference of ${names.model.short[model.model]} at ${PB.percent(model.sparsities[view.sparsity])} sparsity`),
      el("thead", null, head), el("tbody", null, body));
    table.addEventListener("keydown", walk);
    const first = table.querySelector("td button");
    if (first) first.tabIndex = 0;
    return table;
  }

  // Up to which sparsity each main metric is kept, with the limits of that statement.
  function keptTable(view) {
    const { model, names } = view;
    const percent = (value) => PB.percent(value).replace(" ", "\u00a0");
    const cell = (found) => {
      if (!found) return [el("span", { class: "quiet" }, "–")];
      const [kept, shown, lost, sweet] = found;
      const limits = `${shown ? `shown to ${percent(shown)}` : "not shown"}, ${lost === null ? "nowhere lost" : `lost at ${percent(lost)}`}`;
      const open = !shown && lost === null; // the samples show neither that it is kept nor that it is lost
      return [el("span", { title: limits }, open ? "undecided" : kept ? percent(kept) : "lost", sweet.length ? " ★" : ""), " ",
        el("small", { class: "quiet" }, `[${shown ? percent(shown) : "0\u00a0%"}, ${lost === null ? "–" : percent(lost)}]`),
        sweet.length ? el("small", { class: "better" }, ` ★ ${sweet.map(percent).join(", ")}`) : null];
    };
    const lines = model.lines.map((line, place) => [line, place])
      .filter(([line, place]) => line.columns.length === 1 && !model.lines.some((other) => other.parent === place))
      .slice(0, MOST_LINES);
    return el("table", { class: "heat reach" }, el("caption", { class: "unseen" },
      `Largest sparsity up to which each metric of ${names.model.short[model.model]} is kept`),
    el("thead", null, header(view, "Metric")), el("tbody", null, lines.map(([line, place]) => el("tr", null,
      el("th", { scope: "row" }, line.parent < 0 ? line.name : `${model.lines[line.parent].name} · ${line.name}`),
      view.shown.map((i, n) => el("td", { class: apart(view, n) ? "apart" : null }, cell(model.kept[place][i])))))));
  }

  function cellOf(view, place, i, best, option, spaced) {
    const cell = view.model.cells[view.sparsity][place][i];
    const classes = [];
    if (spaced) classes.push("apart");
    if (!cell) return el("td", { class: [...classes, "empty"].join(" ") }, el("span", { class: "quiet" }, "–"));
    const low = cell[6] & (COLLAPSED | CHANCE);
    classes.push(low ? "hatched" : shade(cell[0]));
    const isBest = best && best.option === i;
    if (isBest) classes.push("best");
    const sign = low ? "†" : signOf(cell);
    const label = spoken(cell, view.model.lines[place].name, option) + (isBest ? "; best" : "");
    return el("td", { class: classes.join(" ") }, el("button", { type: "button", tabindex: "-1", "aria-label": label,
      title: label, "data-cell": `${place}-${i}`, onclick: () => view.opened(place, i) },
      change(cell[0]), el("span", { class: "sign" }, sign)));
  }

  // Arrow keys, Home and End move the focus; one cell at a time takes part in the order of the Tab key.
  function walk(event) {
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Home: [0, -1e9], End: [0, 1e9] };
    const move = moves[event.key], cell = event.target.closest("td");
    if (!move || !cell) return;
    event.preventDefault();
    const rows = [...cell.closest("tbody").rows];
    const row = rows[Math.min(Math.max(rows.indexOf(cell.parentElement) + move[0], 0), rows.length - 1)];
    const buttons = [...row.querySelectorAll("td button")];
    const wanted = cell.cellIndex + move[1];
    const next = move[0] ? buttons.find((button) => button.closest("td").cellIndex >= wanted) || buttons.at(-1)
      : move[1] < 0 ? buttons.filter((button) => button.closest("td").cellIndex <= Math.max(wanted, 0)).at(-1) || buttons[0]
        : buttons.find((button) => button.closest("td").cellIndex >= wanted) || buttons.at(-1);
    if (!next) return;
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }

  function scale() {
    const steps = [...STEPS].reverse().map((step, n) => [`o${4 - n}`, `−${100 * step} %`])
      .concat([["mid", "±2 %"]], STEPS.map((step, n) => [`b${n + 1}`, `+${100 * step} %`]));
    return [el("span", null, "worse than dense "), steps.map(([name, text]) => el("span", { class: `swatch ${name}` }, text)),
      el("span", null, " better"), el("span", { class: "swatch hatched" }, "†"), el("span", null, " at chance"),
      el("span", { class: "swatch best" }, "best"), el("span", null, " of the line")];
  }

  PB.heat = { heatMap, keptTable, scale, change, MOST_LINES };
})();
