// The page of the table: views, search, choice of columns, export, and the state in the address.
"use strict";
(function () {
  const { el, plural } = PB;
  const host = document.getElementById("table");
  const KEPT = ["board", "view", "sort", "cols", "q"];
  const MOST_LISTED = 200;
  const FORMULA = ["=", "+", "-", "@", "＝", "＋", "－", "＠"];

  const packed = (ids) => ids.map(encodeURIComponent).join(",");
  const unpacked = (text) => text.split(",").map((part) => {
    try {
      return decodeURIComponent(part);
    } catch (error) {
      return part;
    }
  });

  async function start() {
    for (const dialog of document.querySelectorAll("dialog")) dialog.close();
    const state = PB.readState();
    const { place, board } = await PB.openBoard(state, document.getElementById("boards"),
      (chosen) => { PB.writeState({ board: chosen }); restart(); });
    const viewName = state.view in PB.tableViews ? state.view : "rows";
    const view = PB.tableViews[viewName](board);
    const ids = Object.keys(view.columns);
    const named = state.cols ? unpacked(state.cols).filter((id) => ids.includes(id)) : [];
    const filters = Object.fromEntries(Object.entries(state).filter(([id]) => !KEPT.includes(id) && ids.includes(id)));
    // A filter is never hidden: its column is shown.
    const base = named.length ? named : view.shown;
    const asked = [...base, ...Object.keys(filters).filter((id) => filters[id] && !base.includes(id))];
    const [sortId, direction] = (state.sort || "").split(/:(?=asc$|desc$)/);
    const count = el("p", { class: "quiet", id: "count", role: "status" });

    function remember(grid) {
      const own = packed(grid.shown) === packed(view.shown) ? "" : packed(grid.shown);
      PB.writeState({ board: place || "", view: viewName === "rows" ? "" : viewName,
        sort: grid.sort ? `${grid.sort[0]}:${grid.sort[1] ? "desc" : "asc"}` : "", cols: own, q: grid.search, ...grid.filters });
      const what = viewName === "rows" ? ["model", "models"] : ["value", "values"];
      const all = grid.order.length === grid.count;
      count.textContent = all ? plural(grid.count, ...what)
        : `${grid.order.length.toLocaleString("en")} of ${plural(grid.count, ...what)}`;
    }

    const grid = new PB.Grid(document.getElementById("grid"), {
      name: viewName === "rows" ? "Pruned models and their metrics" : "All values",
      columns: view.columns, count: view.count, shown: asked, filters,
      sort: ids.includes(sortId) ? [sortId, direction === "desc"] : null, search: state.q || "",
      changed: remember,
      opened(line, cell) {
        const id = cell ? grid.shown[[...cell.parentElement.children].indexOf(cell)] : null;
        const value = view.valueOf(line, id);
        if (value >= 0) openDetail(board, place, value);
      },
    });

    const search = document.getElementById("search");
    search.value = state.q || "";
    search.oninput = () => grid.searchFor(search.value);
    for (const input of document.querySelectorAll("input[name='view']")) {
      input.checked = input.value === viewName;
      input.onchange = () => {
        PB.writeState({ board: place || "", view: input.value, q: grid.search, ...grid.filters });
        restart();
      };
    }
    document.getElementById("reset").onclick = () => {
      PB.writeState({ board: place || "", view: viewName === "rows" ? "" : viewName });
      restart();
    };
    document.getElementById("csv").onclick = () => exported(grid, board, view, "csv");
    document.getElementById("json").onclick = () => exported(grid, board, view, "json");
    chooser(grid, view, remember);
    document.getElementById("counts").replaceChildren(count);
    remember(grid);
    notes(board);
    PB.grid = grid;
    performance.mark("drawn");
  }

  // The facts behind a value, over the table.
  function openDetail(board, place, value) {
    const dialog = el("dialog", { "aria-label": "Facts behind the value" });
    const close = el("button", { type: "button", class: "quiet close", onclick: () => dialog.close() }, "Close");
    dialog.append(PB.detail(board, place, value), close);
    dialog.addEventListener("close", () => dialog.remove());
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    document.body.append(dialog);
    dialog.showModal();
  }

  // Which columns are shown: a list that can be searched, because a board may have thousands.
  function chooser(grid, view, remember) {
    const list = document.getElementById("choices"), find = document.getElementById("find");
    const ids = Object.keys(view.columns);
    const name = (id) => view.columns[id].about || view.columns[id].title;
    function choose(chosen) {
      const kept = chosen.length ? chosen : [ids[0]];
      for (const id of Object.keys(grid.filters)) if (!kept.includes(id)) delete grid.filters[id];
      grid.show(kept);
      grid.update();
      remember(grid);
    }
    function fill() {
      const wanted = find.value.trim().toLowerCase();
      const found = ids.filter((id) => `${view.columns[id].title} ${name(id)}`.toLowerCase().includes(wanted));
      const boxes = found.slice(0, MOST_LISTED).map((id) => el("label", { title: name(id) },
        el("input", { type: "checkbox", checked: grid.shown.includes(id), onchange: (event) => {
          const on = new Set(grid.shown);
          if (event.target.checked) on.add(id);
          else on.delete(id);
          choose(ids.filter((one) => on.has(one)));
          if (!on.size) event.target.checked = id === ids[0];
        } }), " ", el("span", null, view.columns[id].title)));
      const more = found.length - boxes.length;
      list.replaceChildren(...boxes, more > 0 ? el("p", { class: "quiet" }, `and ${plural(more, "more column")}: search for them`) : "");
    }
    find.value = "";
    find.oninput = fill;
    document.getElementById("all").onclick = () => { choose(ids.slice(0, MOST_LISTED)); fill(); };
    document.getElementById("usual").onclick = () => { choose(view.shown); fill(); };
    fill();
  }

  // Files hold the rows in view with full precision. No spreadsheet runs a text of theirs as a formula.
  function exported(grid, board, view, format) {
    const ids = grid.shown;
    const rows = Array.from(grid.order, (row) => ids.map((id) => {
      const column = view.columns[id];
      const value = column.type === "number" ? column.key(row) : column.text(row);
      return Number.isNaN(value) ? null : value;
    }));
    const heads = ids.map((id) => id.replace(/^m:/, ""));
    if (format === "json") {
      const lines = rows.map((row) => JSON.stringify(Object.fromEntries(row.map((value, i) => [heads[i], value]))));
      PB.download("pruningbench.json", "application/json", ["[\n", lines.join(",\n"), "\n]\n"]);
      return;
    }
    const lines = [heads, ...rows].map((row) => row.map(csvCell).join(","));
    PB.download("pruningbench.csv", "text/csv", [lines.join("\r\n"), "\r\n"]);
  }
  function csvCell(value) {
    if (value === null) return "";
    if (typeof value === "number") return String(value);
    const safe = FORMULA.includes(value.trimStart()[0]) || /^[\t\r\n]/.test(value) ? `'${value}` : value;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  }

  function notes(board) {
    document.getElementById("notes").replaceChildren(
      ...board.data.notes.map((note) => el("p", { class: "note" }, note)));
  }

  const restart = () => start().catch((error) => PB.failed(host, error));
  addEventListener("hashchange", restart);
  restart();
})();
