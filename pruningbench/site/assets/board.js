// A board: columns of numbers with the names that they refer to (pruningbench/site/boards.py describes the data).
"use strict";
(function () {
  const { el, link, number, percent, plural, digitsFor, commandOf, copyButton, addressOf } = PB;
  const BEST = 1, AT_CHANCE = 2, BETTER = 4, WORSE = 8;
  const COLLAPSED = 1, UNDECIDED = 2, MARKED = 4;
  const KINDS = ["model", "pruner", "recipe", "task", "metric"];

  const floats = (list) => Float64Array.from(list, (value) => (value === null ? NaN : value));

  class Board {
    constructor(data) {
      this.data = data;
      this.names = data.names;
      this.columns = data.columns;
      this.rows = data.rows;
      this.columnCount = data.columns.header.length;
      this.rowCount = data.rows.model.length;
      const values = data.values;
      this.count = values.row.length;
      this.row = Int32Array.from(values.row);
      this.column = Int32Array.from(values.column);
      for (const name of ["value", "low", "high", "change", "change_low", "change_high", "p", "n", "seeds"]) {
        this[name] = floats(values[name]);
      }
      this.flags = Uint8Array.from(values.flags);
      this.degenerate = Int32Array.from(values.degenerate);
      this.sparsity = floats(data.rows.sparsity);
      this.place = new Map();
      for (let i = 0; i < this.count; i += 1) this.place.set(this.row[i] * this.columnCount + this.column[i], i);
      this.digits = new Array(this.columnCount);
    }

    // The place of a value, or -1 if the row was not measured in the column.
    at(row, column) {
      const place = this.place.get(row * this.columnCount + column);
      return place === undefined ? -1 : place;
    }

    // Decimals that make a column readable.
    digitsOf(column) {
      if (this.digits[column] === undefined) {
        const own = [];
        for (let i = 0; i < this.count; i += 1) if (this.column[i] === column) own.push(this.value[i]);
        this.digits[column] = digitsFor(own);
      }
      return this.digits[column];
    }

    short(kind, place) { return this.names[kind].short[place]; }
    label(kind, place) { return this.names[kind].label[place]; }
    page(kind, place) { return this.names[kind].page[place]; }
    collapsed(row) { return (this.rows.flags[row] & COLLAPSED) !== 0; }
    undecided(row) { return (this.rows.flags[row] & UNDECIDED) !== 0; }
    marked(row) { return (this.rows.flags[row] & MARKED) !== 0; }
    best(i) { return (this.flags[i] & BEST) !== 0; }
    atChance(i) { return (this.flags[i] & AT_CHANCE) !== 0; }
    verdict(i) { return this.flags[i] & BETTER ? 1 : this.flags[i] & WORSE ? -1 : 0; }
    sign(i) { return ["▼", "", "▲"][this.verdict(i) + 1]; }

    // Task, variant and metric of a column, as one line.
    title(column) {
      const { task, variant, metric } = this.columns;
      return [this.short("task", task[column]), variant[column], this.short("metric", metric[column])]
        .filter(Boolean).join(" · ");
    }

    // Pruner and recipe of a row; a dense row has no pruner worth naming.
    rowTitle(row) {
      const recipe = this.short("recipe", this.rows.recipe[row]);
      return this.sparsity[row] === 0 ? `dense · ${recipe}` : `${this.short("pruner", this.rows.pruner[row])} · ${recipe}`;
    }

    interval(low, high, digits) {
      return Number.isNaN(low) ? "interval unknown" : `[${number(low, digits)}, ${number(high, digits)}]`;
    }

    command(row) {
      const choice = { model: this.label("model", this.rows.model[row]) };
      if (this.sparsity[row] > 0) choice.pruner = this.label("pruner", this.rows.pruner[row]);
      choice.recipe = this.label("recipe", this.rows.recipe[row]);
      choice.sparsity = String(this.sparsity[row]);
      return commandOf(this.data.suite[this.rows.suite[row]], choice);
    }

    // One sentence about a value for tips and labels.
    sentence(i) {
      const row = this.row[i], column = this.column[i], digits = this.digitsOf(column);
      const parts = [
        `${this.rowTitle(row)} at ${percent(this.sparsity[row])}`,
        `${this.title(column)} ${number(this.value[i], digits)} ${this.interval(this.low[i], this.high[i], digits)}`,
      ];
      if (!Number.isNaN(this.change[i])) {
        const sign = this.sign(i) && ` ${this.sign(i)}`;
        parts.push(`${signed(this.change[i], digits)} ${this.interval(this.change_low[i], this.change_high[i], digits)} `
          + `to dense${sign}`);
      }
      if (this.collapsed(row)) parts.push("† collapsed: the network is at chance");
      return parts.join("\n");
    }
  }

  function signed(value, digits) {
    const text = number(value, digits);
    return Number.isNaN(value) || text.startsWith("−") || value === 0 ? text : `+${text}`;
  }

  // What stands behind a value: numbers, marks, links, and the command that measures it again.
  function detail(board, boardPlace, i) {
    const row = board.row[i], column = board.column[i], digits = board.digitsOf(column);
    const facts = [];
    const fact = (term, ...content) => facts.push(el("dt", null, term), el("dd", null, ...content));
    const unit = board.columns.unit[column];
    fact("Value", `${number(board.value[i], digits)} ${board.interval(board.low[i], board.high[i], digits)}`,
      unit && unit !== "fraction" ? ` ${unit}` : "");
    if (!Number.isNaN(board.change[i])) {
      const reference = board.rows.reference[row];
      const dense = reference < 0 ? "the dense model" : `dense (${board.short("recipe", reference)})`;
      const verdict = { "1": "▲ significantly better", "-1": "▼ significantly worse", "0": "not significantly different" };
      const p = Number.isNaN(board.p[i]) ? "" : `, p = ${board.p[i] < 0.001 ? "< .001" : number(board.p[i], 3)}`;
      fact(`Difference to ${dense}`,
        `${signed(board.change[i], digits)} ${board.interval(board.change_low[i], board.change_high[i], digits)}: `,
        `${verdict[board.verdict(i)]}${p.replace("= <", "<")}`);
    }
    fact("Measured on", `${plural(board.n[i], "sample")}, ${plural(board.seeds[i], "seed")}`);
    const marks = [];
    if (board.collapsed(row)) marks.push("† collapsed: the network is not better than chance at its main task; not ranked");
    else if (board.atChance(i)) marks.push("† at chance");
    if (board.undecided(row)) marks.push("≈ the scores of the pruner left the decision to ties");
    if (board.marked(row)) marks.push("‡ a value of this row is stale, accepted or unchecked: see the notes");
    if (board.degenerate[i]) marks.push(`${plural(board.degenerate[i], "sample")} with an output that says nothing`);
    if (marks.length) fact("Marks", marks.map((mark) => el("div", null, mark)));
    const places = { model: board.rows.model[row], pruner: board.rows.pruner[row], recipe: board.rows.recipe[row],
      task: board.columns.task[column], metric: board.columns.metric[column] };
    const shown = KINDS.filter((kind) => kind !== "pruner" || board.sparsity[row] > 0);
    fact("About", shown.map((kind, n) => [n ? ", " : "", pageLink(board, kind, places[kind])]));
    const runs = board.rows.runs[row];
    if (runs.length) fact(runs.length > 1 ? "Runs" : "Run", runs.map((run, n) => [n ? ", " : "", pageLink(board, "run", run)]));
    if (board.rows.trust[row]) fact("Checked by others", board.rows.trust[row]);
    const command = el("code", null, board.command(row));
    fact("Measure it again", el("div", { class: "command" }, el("pre", { class: "wrap", tabindex: "0" }, command),
      copyButton(command)));
    const where = { board: boardPlace || "", model: `=${board.label("model", places.model)}` };
    return el("div", { class: "detail" },
      el("h3", null, `${board.rowTitle(row)} at ${percent(board.sparsity[row])}: ${board.title(column)}`),
      el("dl", { class: "facts" }, facts),
      el("p", null,
        link(`curves.html${addressOf({ board: boardPlace || "", model: board.label("model", places.model),
          metric: board.columns.header[column] })}`, "Curve"), " · ",
        link(`table.html${addressOf({ ...where, view: "values", task: `=${board.label("task", places.task)}`,
          variant: board.columns.variant[column] ? `=${board.columns.variant[column]}` : "",
          metric: `=${board.label("metric", places.metric)}` })}`, "All values of this metric")));
  }

  function pageLink(board, kind, place) {
    return link(board.page(kind, place), board.short(kind, place), { title: board.label(kind, place) });
  }

  // The board that the address names, and a choice between boards if there are several.
  async function openBoard(state, host, change) {
    const boards = await PB.load("boards");
    if (!boards.length) throw new Error("the runs hold no results");
    const place = Math.min(Math.max(Number.parseInt(state.board, 10) || 0, 0), boards.length - 1);
    if (boards.length > 1) {
      const choice = el("select", { id: "board", onchange: () => change(choice.value) },
        boards.map((board, i) => el("option", { value: i, selected: i === place }, board.title)));
      host.replaceChildren(el("div", { class: "field" },
        el("label", { for: "board" }, "Data"), choice));
    }
    return { place, board: new Board(await PB.load(boards[place].data)) };
  }

  // Writes what went wrong where the content would be.
  function failed(host, error) {
    host.replaceChildren(el("p", { role: "alert" }, `This page cannot be shown: ${error.message}.`));
  }

  Object.assign(PB, { Board, detail, openBoard, signed, failed, pageLink });
})();
