// Runs before the page is painted, so that a chosen theme never flashes.
"use strict";
(function () {
  let chosen = "auto";
  try {
    chosen = localStorage.getItem("pruningbench-theme") || "auto";
  } catch (error) {
    // storage is closed to this page: the theme of the system is used
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
