// Sorts and filters columns of numbers or of names: indexes only, so that 100,000 rows take milliseconds.
"use strict";
(function () {
  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

  // A column of texts: one number per row, which is the place of its text in `labels`; -1 is an empty cell.
  function textColumn(codes, labels) {
    const order = labels.map((_, i) => i).sort((a, b) => collator.compare(labels[a], labels[b]) || a - b);
    const keys = new Float64Array(labels.length);
    order.forEach((place, rank) => { keys[place] = rank; });
    const lower = labels.map((label) => label.toLowerCase());
    return {
      type: "text",
      key: (row) => (codes[row] < 0 ? NaN : keys[codes[row]]),
      text: (row) => (codes[row] < 0 ? "" : labels[codes[row]]),
      test(filter) {
        const wanted = textFilter(filter);
        const passes = Uint8Array.from(lower, (label, i) => (wanted(label, labels[i]) ? 1 : 0));
        const empty = wanted("", "");
        return (row) => (codes[row] < 0 ? empty : passes[codes[row]] === 1);
      },
    };
  }

  // A column of numbers; NaN is an empty cell.
  function numberColumn(values, format) {
    return {
      type: "number",
      key: (row) => values[row],
      text: (row) => (Number.isNaN(values[row]) ? "" : format(values[row], row)),
      test(filter) {
        const wanted = numberFilter(filter);
        return (row) => wanted(values[row]);
      },
    };
  }

  // `part` of the text in any case; `=whole text` exactly; `!part` without it.
  function textFilter(filter) {
    if (filter.startsWith("=")) {
      const whole = filter.slice(1);
      return (_, label) => label === whole;
    }
    if (filter.startsWith("!")) {
      const part = filter.slice(1).trim().toLowerCase();
      return (lower) => !part || !lower.includes(part);
    }
    const part = filter.trim().toLowerCase();
    return (lower) => lower.includes(part);
  }

  // `.8`, `=.8`, `!=.8`, `>.8`, `>=.8`, `<.8`, `<=.8`, `.5...9`, and `80%`; null if the filter is none of these.
  function parseNumber(text) {
    const matched = /^\s*([+\-−]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*(%?)\s*$/i.exec(text);
    return matched ? Number(matched[1].replace("−", "-")) / (matched[2] ? 100 : 1) : NaN;
  }
  function numberFilter(filter) {
    const range = filter.split("..").length === 2 ? filter.split("..") : filter.split(" to ");
    if (range.length === 2) {
      const [low, high] = range.map(parseNumber);
      return Number.isNaN(low) || Number.isNaN(high) ? null : (value) => value >= low && value <= high;
    }
    const matched = /^\s*(<=|>=|!=|≤|≥|=|<|>)?(.*)$/s.exec(filter);
    const wanted = parseNumber(matched[2]);
    if (Number.isNaN(wanted)) return null;
    const near = (value) => Math.abs(value - wanted) <= 1e-9 * Math.max(1, Math.abs(wanted));
    switch (matched[1]) {
      case "<": return (value) => value < wanted && !near(value);
      case ">": return (value) => value > wanted && !near(value);
      case "<=": case "≤": return (value) => value < wanted || near(value);
      case ">=": case "≥": return (value) => value > wanted || near(value);
      case "!=": return (value) => !Number.isNaN(value) && !near(value);
      default: return near;
    }
  }
  const validFilter = (column, filter) => column.type === "text" || numberFilter(filter) !== null;

  // Rows that pass all filters and hold the searched text in any column of texts.
  function filtered(count, columns, filters, search) {
    const tests = Object.entries(filters)
      .filter(([id, filter]) => filter && columns[id] && validFilter(columns[id], filter))
      .map(([id, filter]) => columns[id].test(filter));
    const words = search.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const texts = Object.values(columns).filter((column) => column.type === "text");
    for (const word of words) {
      const any = texts.map((column) => column.test(word.startsWith("=") || word.startsWith("!") ? ` ${word}` : word));
      tests.push((row) => any.some((test) => test(row)));
    }
    const kept = new Uint32Array(count);
    let size = 0;
    for (let row = 0; row < count; row += 1) {
      let passes = true;
      for (let i = 0; i < tests.length && passes; i += 1) passes = tests[i](row);
      if (passes) kept[size++] = row;
    }
    return kept.slice(0, size);
  }

  // Sorts rows in place by one column, equal ones as they were; empty cells are last in both directions.
  function sorted(rows, column, descending) {
    const all = new Float64Array(rows.length);
    for (let i = 0; i < rows.length; i += 1) all[i] = column.key(rows[i]);
    const places = Uint32Array.from(rows, (_, i) => i);
    const direction = descending ? -1 : 1;
    places.sort((a, b) => {
      const x = all[a], y = all[b];
      if (x < y) return -direction;
      if (x > y) return direction;
      if (x === y) return a - b;
      return (Number.isNaN(x) ? 1 : 0) - (Number.isNaN(y) ? 1 : 0) || a - b;
    });
    return Uint32Array.from(places, (place) => rows[place]);
  }

  PB.order = { textColumn, numberColumn, filtered, sorted, validFilter };
})();
