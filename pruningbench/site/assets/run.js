// The page of a run: the command that repeats the chosen cell.
"use strict";
(function () {
  const AXES = ["model", "pruner", "recipe", "sparsity", "seed"];
  const data = Object.values(window.PB_DATA).find((value) => value && value.cells && value.labels);
  const command = document.getElementById("command");
  if (!data || !command) return;
  const selects = AXES.map((axis) => document.getElementById(`only-${axis}`));
  const task = document.getElementById("only-task");
  const message = document.getElementById("nocell");
  const known = new Set(data.cells.map((cell) => cell.join(" ")));

  function show() {
    const places = selects.map((select) => Number(select.value));
    const choice = {};
    AXES.forEach((axis, i) => { choice[axis] = data.labels[axis][places[i]]; });
    const wanted = Number(task.value);
    if (wanted >= 0) choice.task = data.tasks[wanted];
    command.textContent = `${PB.commandOf(data.suite, choice)} --out again`;
    message.textContent = known.has(places.join(" ")) ? "" : "This run has no such cell.";
  }

  for (const select of [...selects, task]) select.addEventListener("input", show);
  data.cells[0].forEach((place, i) => { selects[i].value = String(place); });
  show();
})();
