// The front page: choices of model, recipe and sparsity, the heat map, and the answers as sentences.
"use strict";
(function () {
  const { el } = PB;
  const USUAL = 0.8;
  const MANY = 14;
  const host = document.getElementById("answers");
  let place = 0, data = null, model = null, recipe = "all", sparsity = 0, pinned = null;
  const unfolded = new Set();

  async function start() {
    const state = PB.readState();
    const boards = await PB.load("boards");
    if (!boards.length) throw new Error("the runs hold no results");
    place = Math.min(Math.max(Number.parseInt(state.board, 10) || 0, 0), boards.length - 1);
    boardChoice(boards);
    data = await PB.load(`answers-${place}`);
    if (!data.models.length) throw new Error("no network was pruned");
    model = data.models.find((one) => data.names.model.label[one.model] === state.model) || data.models[0];
    const wanted = data.names.recipe.label.indexOf(state.recipe);
    const recipes = new Set(model.options.map((option) => option.recipe));
    recipe = wanted >= 0 && recipes.has(wanted) ? wanted : "all";
    sparsity = nearest(state.sparsity === undefined ? USUAL : Number(state.sparsity));
    if (recipe === "all" && !state.recipe && model.options.length > MANY) recipe = fullest();
    if (state.sparsity === undefined) toMeasured();
    pinned = /^\d+-\d+$/.test(state.cell || "") ? state.cell.split("-").map(Number) : null;
    controls();
    draw();
  }

  function nearest(wanted) {
    const target = Number.isFinite(wanted) ? wanted : USUAL;
    let best = 0;
    model.sparsities.forEach((value, i) => {
      if (Math.abs(value - target) < Math.abs(model.sparsities[best] - target)) best = i;
    });
    return best;
  }

  // Whether anything was measured of an option at a sparsity.
  const measured = (option, at) => model.cells[at].some((line) => line[option]);
  const inView = (i) => recipe === "all" || model.options[i].recipe === recipe;

  // The recipe with the most pruners at this sparsity; the first of those with as many.
  function fullest() {
    const count = new Map();
    model.options.forEach((option, i) => count.set(option.recipe, (count.get(option.recipe) || 0) + measured(i, sparsity)));
    return [...count].reduce((best, one) => (one[1] > best[1] ? one : best))[0];
  }

  // Where nothing in view was measured at this sparsity, move to the nearest one at which something was.
  function toMeasured() {
    const filled = model.sparsities.map((_, at) => at).filter((at) => model.options.some((_, i) => inView(i) && measured(i, at)));
    const distance = (at) => Math.abs(model.sparsities[at] - model.sparsities[sparsity]);
    if (filled.length) sparsity = filled.reduce((best, at) => (distance(at) < distance(best) ? at : best));
  }

  // What stands below the map about options that were not measured at this sparsity.
  function absence(absent, none) {
    if (!absent.length) return null;
    if (none) {
      const at = model.sparsities.filter((_, other) => absent.some((i) => measured(i, other))).map(PB.percent).join(", ");
      return el("p", { class: "quiet" }, `Nothing was measured at this sparsity; move the slider to ${at}.`);
    }
    const listed = absent.map((i) => (recipe === "all" ? optionName(i) : data.names.pruner.short[model.options[i].pruner]));
    return el("p", { class: "quiet" }, "Not measured at this sparsity: ",
      absent.length > 6 ? el("span", { title: listed.join(", ") }, `${absent.length} of ${model.options.filter((_, i) => inView(i)).length}`) : listed.join(", "), ".");
  }

  function boardChoice(boards) {
    if (boards.length < 2) return;
    document.getElementById("boards").replaceChildren(el("div", { class: "field" },
      el("label", { for: "board" }, "Data"),
      el("select", { id: "board", onchange: (event) => { location.hash = PB.addressOf({ board: event.target.value }); } },
        boards.map((board, i) => el("option", { value: i, selected: i === place }, board.title)))));
  }

  // Radio buttons for a few choices, a list for many.
  function choice(name, choices, chosen, change) {
    const box = document.getElementById(`${name}-group`);
    const segments = box.querySelector(".segments");
    box.hidden = choices.length < 2;
    if (choices.length > 6) {
      segments.replaceChildren(el("select", { "aria-label": name, onchange: (event) => change(event.target.value) },
        choices.map(([value, text]) => el("option", { value, selected: value === chosen }, text))));
      return;
    }
    segments.replaceChildren(...choices.map(([value, text, title]) => el("label", { title },
      el("input", { type: "radio", name, value, checked: value === chosen, onchange: () => change(value) }),
      el("span", null, text))));
  }

  function controls() {
    const { names } = data;
    choice("model", data.models.map((one, i) => [String(i), names.model.short[one.model], names.model.label[one.model]]),
      String(data.models.indexOf(model)), (value) => {
        const before = model.sparsities[sparsity];
        model = data.models[Number(value)];
        if (recipe !== "all" && !model.options.some((option) => option.recipe === recipe)) recipe = "all";
        sparsity = nearest(before);
        toMeasured();
        pinned = null;
        controls();
        draw();
      });
    const slider = document.getElementById("sparsity");
    const recipes = [...new Set(model.options.map((option) => option.recipe))];
    choice("recipe", recipes.length < 2 ? [] : [["all", "all"], ...recipes.map((one) => [String(one),
      names.recipe.short[one], names.recipe.label[one]])], String(recipe), (value) => {
      recipe = value === "all" ? "all" : Number(value);
      toMeasured();
      slider.value = String(sparsity);
      pinned = null;
      draw();
    });
    slider.max = String(model.sparsities.length - 1);
    slider.value = String(sparsity);
    const ticks = model.sparsities.length > 10 ? [model.sparsities[0], model.sparsities.at(-1)] : model.sparsities;
    document.getElementById("ticks").replaceChildren(...ticks.map((value) => el("span", null, PB.percent(value))));
    slider.oninput = () => {
      sparsity = Number(slider.value);
      draw();
    };
    document.getElementById("controls").onsubmit = (event) => event.preventDefault();
  }

  const optionName = (i) => `${data.names.pruner.short[model.options[i].pruner]} · `
    + `${data.names.recipe.short[model.options[i].recipe]}`;
  const bestOf = (line) => model.best[sparsity][line][String(recipe)];

  function draw() {
    const { names } = data;
    const shown = model.options.map((_, i) => i).filter(inView);
    const present = shown.filter((i) => measured(i, sparsity));
    const percent = PB.percent(model.sparsities[sparsity]);
    document.getElementById("shown").textContent = percent;
    document.getElementById("sparsity").setAttribute("aria-valuetext", percent);
    const focused = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.cell : null;
    const map = document.getElementById("map");
    map.replaceChildren(...[present.length && el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Heat map" },
      PB.heat.heatMap({ model, names, sparsity, shown: present, unfolded, best: bestOf,
        opened: (line, option) => { pinned = [line, option]; draw(); },
        unfold(line) {
          if (!unfolded.delete(line)) unfolded.add(line);
          draw();
          map.querySelectorAll(".fold").forEach((button) => {
            if (button.firstChild.textContent === model.lines[line].name) button.focus();
          });
        } })), absence(shown.filter((i) => !measured(i, sparsity)), !present.length)].filter(Boolean));
    if (focused) map.querySelector(`[data-cell="${focused}"]`)?.focus();
    document.getElementById("scale").replaceChildren(...PB.heat.scale().flat());
    document.getElementById("kept-title").textContent = `Kept up to which sparsity by ${names.model.short[model.model]}`;
    document.getElementById("kept").replaceChildren(el("div", { class: "scroll", tabindex: "0", role: "region",
      "aria-label": "Kept up to" }, PB.heat.keptTable({ model, names, shown })));
    document.getElementById("best-title").textContent = `Best for ${names.model.short[model.model]} at ${percent}`;
    document.getElementById("best").replaceChildren(...model.lines.map((line, i) => (line.parent < 0 ? sentence(line, i) : null))
      .filter(Boolean).slice(0, PB.heat.MOST_LINES));
    PB.writeState({ board: place || "", model: names.model.label[model.model],
      recipe: recipe === "all" ? (model.options.length > MANY ? "all" : "") : names.recipe.label[recipe],
      sparsity: model.sparsities[sparsity], cell: pinned ? pinned.join("-") : "" });
    performance.mark("drawn");
    open();
  }

  // The answer in words: who is best, by how much, and how sure that is.
  function sentence(line, place_) {
    const best = bestOf(place_);
    const name = el("strong", null, line.name);
    if (!best) return el("li", null, name, " was measured completely for no pruner at this sparsity, or neither a pruner nor the dense model is above chance.");
    const cell = model.cells[sparsity][place_][best.option];
    const change = PB.heat.change;
    const interval = cell[1] === null ? "interval unknown" : `95 % interval ${change(cell[1])} to ${change(cell[2])}`;
    const others = best.equal.map(optionName);
    const sure = !best.of ? "the only one above chance" : !others.length
      ? `significantly ahead of all ${best.of} others`.replace("all 1 others", "the other one")
      : others.length === best.of ? "not significantly ahead of any other"
        : `not significantly ahead of ${others.length > 3 ? `${others.length} of ${best.of} others` : others.join(", ")}`;
    return el("li", null, name, ": ", el("button", { type: "button", class: "answer",
      onclick: () => { pinned = [place_, best.option]; draw(); document.getElementById("opened").scrollIntoView({ block: "nearest" }); } },
      optionName(best.option)), `, ${change(cell[0])} against dense (${interval}); ${sure}.`);
  }

  // The facts behind the chosen cell: each metric of its line.
  async function open() {
    const opened = document.getElementById("opened");
    const cell = pinned && model.cells[sparsity]?.[pinned[0]]?.[pinned[1]];
    if (!cell) {
      opened.replaceChildren();
      return;
    }
    const asked = pinned;
    const boards = await PB.load("boards");
    const board = new PB.Board(await PB.load(boards[place].data));
    if (pinned !== asked) return;
    const details = model.lines[asked[0]].columns.map((column) => board.at(cell[7], column)).filter((i) => i >= 0)
      .map((i) => PB.detail(board, place, i));
    const close = el("button", { type: "button", class: "quiet", onclick: () => { pinned = null; draw(); } }, "Close");
    opened.replaceChildren(el("h2", null, `${model.lines[asked[0]].name}: ${optionName(asked[1])}`), ...details, close);
  }

  addEventListener("hashchange", () => start().catch((error) => PB.failed(host, error)));
  start().catch((error) => PB.failed(host, error));
})();
