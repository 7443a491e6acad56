// A table of any length: a real <table> that holds only the rows in view, with sorting and filters in its header.
"use strict";
(function () {
  const { el } = PB;
  const ROW = 34;
  const SPARE = 12;
  const MOST_PRINTED = 2000;

  // options: columns {id: column of order.js with title, width, cell(row) -> text or node}, shown [id], count,
  // name (for screen readers), sort [id, descending] or null, filters {id: text}, search, opened(row),
  // changed({sort, filters}).
  class Grid {
    constructor(host, options) {
      Object.assign(this, options);
      this.host = host;
      this.filters = { ...options.filters };
      this.first = -1;
      this.build();
      this.update();
    }

    build() {
      this.colgroup = el("colgroup");
      this.head = el("thead");
      this.body = el("tbody");
      this.table = el("table", { class: "grid", "aria-label": this.name }, this.colgroup, this.head, this.body);
      this.box = el("div", { class: "grid-box", tabindex: "0", role: "region", "aria-label": `${this.name}, scrollable` },
        this.table);
      this.box.addEventListener("scroll", () => this.draw(), { passive: true });
      this.body.addEventListener("click", (event) => this.clicked(event));
      this.box.addEventListener("keydown", (event) => this.pressed(event));
      new ResizeObserver(() => this.draw(true)).observe(this.box);
      addEventListener("beforeprint", () => this.draw(true, MOST_PRINTED));
      addEventListener("afterprint", () => this.draw(true));
      this.host.replaceChildren(this.box);
      this.header();
    }

    // The header: a button that sorts and a field that filters, for each column.
    header() {
      const titles = el("tr"), fields = el("tr", { class: "filters" });
      this.colgroup.replaceChildren();
      this.shown.forEach((id, i) => {
        const column = this.columns[id];
        const width = el("col");
        width.style.width = `${column.width || 110}px`;
        this.colgroup.append(width);
        const number = column.type === "number" ? "number" : "";
        const sort = el("button", { type: "button", class: "sort", title: column.about || column.title,
          onclick: () => this.sortBy(id) }, el("span", { class: "clip" }, column.title));
        titles.append(el("th", { scope: "col", class: `${number} ${i ? "" : "frozen"}`.trim(), "data-id": id }, sort));
        const field = el("input", { type: "search", "aria-label": `Filter ${column.title}`, autocomplete: "off",
          spellcheck: "false", value: this.filters[id] || "", placeholder: number ? "≥ .8" : "contains",
          oninput: (event) => this.filterBy(id, event.target) });
        fields.append(el("td", { class: i ? null : "frozen" }, field));
      });
      this.table.style.width = `${this.shown.reduce((sum, id) => sum + (this.columns[id].width || 110), 0)}px`;
      this.head.replaceChildren(titles, fields);
      this.arrows();
    }

    arrows() {
      for (const cell of this.head.firstChild.children) {
        const own = this.sort && this.sort[0] === cell.dataset.id;
        cell.setAttribute("aria-sort", own ? (this.sort[1] ? "descending" : "ascending") : "none");
      }
    }

    show(ids) {
      this.shown = ids;
      this.header();
      this.draw(true);
    }

    // Ascending, descending, as in the data.
    sortBy(id) {
      const own = this.sort && this.sort[0] === id;
      this.sort = !own ? [id, this.columns[id].type === "number"] : this.sort[1] === (this.columns[id].type === "number")
        ? [id, !this.sort[1]] : null;
      this.arrows();
      this.update();
      this.changed(this);
    }

    filterBy(id, field) {
      this.filters[id] = field.value;
      const valid = !field.value || PB.order.validFilter(this.columns[id], field.value);
      if (valid) field.removeAttribute("aria-invalid");
      else field.setAttribute("aria-invalid", "true");
      field.title = valid ? "" : "A number (.8 or 80%), a comparison (>= .8) or a range (.5..0.9)";
      this.later();
    }

    searchFor(text) {
      this.search = text;
      this.later();
    }

    // While someone types, the table follows once per frame.
    later() {
      cancelAnimationFrame(this.waiting);
      this.waiting = requestAnimationFrame(() => {
        this.update();
        this.changed(this);
      });
    }

    update() {
      const started = performance.now();
      const active = Object.fromEntries(Object.entries(this.filters).filter(([id]) => this.columns[id]));
      const rows = PB.order.filtered(this.count, this.columns, active, this.search || "");
      this.order = this.sort && this.columns[this.sort[0]]
        ? PB.order.sorted(rows, this.columns[this.sort[0]], this.sort[1]) : rows;
      this.table.setAttribute("aria-rowcount", String(this.order.length + 2));
      this.box.scrollTop = 0;
      this.draw(true);
      this.took = performance.now() - started;
    }

    // Draws the rows in view; rows above and below are empty space of the same height.
    draw(anew = false, most = 0) {
      const height = this.box.clientHeight || 600;
      const total = this.order.length;
      const room = most || Math.ceil(height / ROW) + 2 * SPARE;
      let first = most ? 0 : Math.max(0, Math.floor(this.box.scrollTop / ROW) - SPARE);
      first -= first % 2; // stripes stay where they are
      if (!anew && first === this.first) return;
      this.first = first;
      this.top = Math.ceil(this.box.scrollTop / ROW);
      const last = Math.min(total, first + room);
      const rows = [];
      if (first) rows.push(this.space(first));
      for (let i = first; i < last; i += 1) rows.push(this.line(this.order[i], i));
      if (last < total) rows.push(this.space(total - last));
      if (!total) {
        rows.push(el("tr", null, el("td", { colspan: this.shown.length, class: "none" }, "No row passes the filters.")));
      }
      const focused = this.body.contains(document.activeElement) ? document.activeElement.closest("tr") : null;
      const place = focused ? focused.dataset.row : null;
      this.body.replaceChildren(...rows);
      if (place !== null) this.body.querySelector(`tr[data-row="${place}"] button`)?.focus({ preventScroll: true });
    }

    space(count) {
      const cell = el("td", { colspan: this.shown.length });
      cell.style.height = `${count * ROW}px`;
      return el("tr", { class: "space", "aria-hidden": "true" }, cell);
    }

    line(row, place) {
      const line = el("tr", { "aria-rowindex": place + 3, "data-row": row, class: place % 2 ? "odd" : null });
      this.shown.forEach((id, i) => {
        const column = this.columns[id];
        const text = column.text(row);
        const content = column.cell ? column.cell(row, text) : text;
        if (i) line.append(el("td", { class: column.type === "number" ? "number" : null, title: longer(text) }, content));
        else {
          line.append(el("th", { scope: "row", class: "frozen", title: longer(text) },
            el("button", { type: "button", class: "open", tabindex: place === this.top ? "0" : "-1" }, content)));
        }
      });
      return line;
    }

    clicked(event) {
      const line = event.target.closest("tr[data-row]");
      if (line && !getSelection().toString()) this.opened(Number(line.dataset.row), event.target.closest("td, th"));
    }

    // Arrow keys move between the rows once one of them has the focus.
    pressed(event) {
      const line = event.target.closest("tr[data-row]");
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!line || !step) return;
      event.preventDefault();
      const place = Number(line.getAttribute("aria-rowindex")) - 3 + step;
      if (place < 0 || place >= this.order.length) return;
      const top = place * ROW, height = this.box.clientHeight - this.head.offsetHeight;
      if (top < this.box.scrollTop) this.box.scrollTop = top;
      else if (top + ROW > this.box.scrollTop + height) this.box.scrollTop = top + ROW - height;
      this.draw(true);
      this.body.querySelector(`tr[data-row="${this.order[place]}"] button`)?.focus({ preventScroll: true });
    }
  }

  // A cell is one line; what may be cut is repeated as the title of the cell.
  const longer = (text) => (text && text.length > 12 ? text : null);

  PB.Grid = Grid;
})();
