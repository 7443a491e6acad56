// The columns of the two views of a board: one line per value, or one line per pruned model.
"use strict";
(function () {
  const { el, number, percent, signed } = PB;
  const { textColumn, numberColumn } = PB.order;
  const widthOf = (labels, least = 90, most = 230) =>
    Math.round(Math.min(most, Math.max(least, 34 + 7.2 * labels.reduce((long, label) => Math.max(long, label.length), 0))));

  // A column of names: sorted and filtered by the whole label, shown short.
  function named(board, kind, codes, title) {
    const { label, short } = board.names[kind];
    const column = textColumn(codes, label);
    return { ...column, title, width: widthOf(short), cell: (row) => (codes[row] < 0 ? "" : short[codes[row]]) };
  }
  function plainText(texts, title, width) {
    const labels = [...new Set(texts)];
    const places = new Map(labels.map((label, i) => [label, i]));
    const codes = Int32Array.from(texts, (text) => places.get(text));
    return { ...textColumn(codes, labels), title, width: width || widthOf(labels) };
  }
  const numbers = (values, format, title, width, about) => ({ ...numberColumn(values, format), title, width, about });
  const pick = (list, places) => Array.from(places, (place) => list[place]);
  const floats = (list) => Float64Array.from(list, (value) => (value === null ? NaN : value));

  // Columns that both views have; `rowOf` gives the row of the board behind each line.
  function shared(board, rowOf) {
    const rows = board.rows;
    const codes = (list) => Int32Array.from(rowOf, (row) => list[row]);
    const state = (row) => (board.collapsed(row) ? "collapsed" : board.undecided(row) ? "undecided scores"
      : board.marked(row) ? "marked" : "");
    return {
      model: named(board, "model", codes(rows.model), "model"),
      recipe: named(board, "recipe", codes(rows.recipe), "recipe"),
      sparsity: numbers(floats(pick(rows.sparsity, rowOf)), percent, "sparsity", 104),
      achieved: numbers(floats(pick(rows.achieved, rowOf)), percent, "achieved", 96, "sparsity counted in the network"),
      rank: numbers(floats(pick(rows.rank, rowOf)), (value) => number(value, 2), "rank", 78,
        "mean place among the rows of the same model and sparsity, 1 is best"),
      state: plainText(Array.from(rowOf, state), "state", 120),
      trust: { ...plainText(pick(rows.trust, rowOf), "trust", 130), about: "what others have checked of a submission" },
      run: plainText(Array.from(rowOf, (row) => rows.runs[row].map((run) => board.label("run", run)).join(", ")), "run"),
    };
  }

  function valueCell(board, i, text) {
    const row = board.row[i];
    const chance = board.collapsed(row) || board.atChance(i);
    const shown = board.best(i) ? el("strong", null, text) : text;
    return [el("span", { class: chance ? "dim" : null }, shown, chance ? "†" : ""),
      el("span", { class: `sign ${board.verdict(i) > 0 ? "better" : "worse"}` }, board.sign(i))];
  }

  // One line per value.
  function valuesView(board) {
    const all = Int32Array.from({ length: board.count }, (_, i) => i);
    const columns = board.columns;
    const codes = (list) => Int32Array.from(board.column, (column) => list[column]);
    const format = (value, i) => number(value, board.digitsOf(board.column[i]));
    const change = (value, i) => signed(value, board.digitsOf(board.column[i]));
    const pruner = named(board, "pruner", Int32Array.from(board.row, (row) => board.rows.pruner[row]), "pruner");
    const variants = columns.variant, units = columns.unit, dimensions = columns.dimension;
    const made = {
      pruner,
      ...shared(board, board.row),
      dimension: plainText(pick(dimensions, board.column), "ability", 130),
      task: named(board, "task", codes(columns.task), "task"),
      variant: plainText(pick(variants, board.column), "variant"),
      metric: named(board, "metric", codes(columns.metric), "metric"),
      value: { ...numbers(board.value, format, "value", 110), cell: (i, text) => valueCell(board, i, text) },
      low: numbers(board.low, format, "low", 84, "lower limit of the 95 % interval"),
      high: numbers(board.high, format, "high", 84, "upper limit of the 95 % interval"),
      change: numbers(board.change, change, "to dense", 100, "paired difference to the dense reference"),
      change_low: numbers(board.change_low, change, "diff. low", 96, "lower limit of the interval of the difference"),
      change_high: numbers(board.change_high, change, "diff. high", 96, "upper limit of the interval of the difference"),
      p: numbers(board.p, (value) => (value < 0.001 ? "< .001" : number(value, 3)), "p (Holm)", 96,
        "p-value of the difference, corrected for all tests of the model's table"),
      verdict: plainText(Array.from(all, (i) => ["worse", "", "better"][board.verdict(i) + 1]), "verdict", 96),
      n: numbers(board.n, String, "samples", 96),
      seeds: numbers(board.seeds, String, "seeds", 78),
      unit: plainText(pick(units, board.column), "unit", 90),
    };
    return {
      columns: made,
      count: board.count,
      shown: ["pruner", "model", "recipe", "sparsity", "task", "variant", "metric", "value", "low", "high", "change", "p", "n"],
      valueOf: (line) => line,
    };
  }

  // One line per pruned (or dense) model, one column per metric.
  function rowsView(board) {
    const all = Int32Array.from({ length: board.rowCount }, (_, i) => i);
    const made = { pruner: named(board, "pruner", Int32Array.from(board.rows.pruner), "pruner"), ...shared(board, all) };
    const metrics = [];
    for (let column = 0; column < board.columnCount; column += 1) {
      const id = `m:${board.columns.header[column]}`;
      metrics.push(id);
      made[id] = metricColumn(board, column);
    }
    const first = ["pruner", "model", "recipe", "sparsity", "rank"];
    return {
      columns: made,
      count: board.rowCount,
      shown: [...first, ...metrics.slice(0, 24)],
      valueOf(line, id) {
        if (id && id.startsWith("m:")) return board.at(line, board.columns.header.indexOf(id.slice(2)));
        for (let column = 0; column < board.columnCount; column += 1) {
          if (board.at(line, column) >= 0) return board.at(line, column);
        }
        return -1;
      },
    };
  }

  // The values of a metric are looked up when the column is first shown, sorted or filtered.
  function metricColumn(board, column) {
    let values = null;
    const lazy = () => {
      if (!values) {
        values = new Float64Array(board.rowCount).fill(NaN);
        for (let i = 0; i < board.count; i += 1) if (board.column[i] === column) values[board.row[i]] = board.value[i];
      }
      return values;
    };
    const arrow = { "1": " ↑", "-1": " ↓", "0": "" }[board.columns.direction[column]];
    const title = board.columns.header[column] + arrow.replace(" ", "\u00a0");
    return {
      type: "number",
      title,
      about: board.title(column),
      width: Math.min(170, Math.max(92, 42 + 8 * Math.max(...title.split(/[ -]/).map((word) => word.length)))),
      key: (row) => lazy()[row],
      text: (row) => (Number.isNaN(lazy()[row]) ? "" : number(lazy()[row], board.digitsOf(column))),
      test: (filter) => numberColumn(lazy(), String).test(filter),
      cell: (row, text) => (board.at(row, column) < 0 ? "" : valueCell(board, board.at(row, column), text)),
    };
  }

  PB.tableViews = { values: valuesView, rows: rowsView };
})();
