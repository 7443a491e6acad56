// The index of pages: typing hides what does not match.
"use strict";
(function () {
  const field = document.getElementById("find");
  const matches = document.getElementById("matches");
  const items = [...document.querySelectorAll(".cards li")].map((item) => ({ item, text: item.textContent.toLowerCase() }));
  function show() {
    const words = field.value.toLowerCase().split(/\s+/).filter((word) => word);
    let count = 0;
    for (const { item, text } of items) {
      item.hidden = !words.every((word) => text.includes(word));
      count += !item.hidden;
    }
    for (const section of document.querySelectorAll("main section")) {
      section.hidden = section.querySelector("li:not([hidden])") === null;
    }
    matches.textContent = words.length ? PB.plural(count, "page") : "";
  }
  field.addEventListener("input", show);
  show();
})();
