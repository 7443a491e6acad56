// Pages of pictures: one slider moves all strips, and what is shown stands in the address.
"use strict";
(function () {
  const slider = document.getElementById("sparsity");
  if (!slider) return;
  const sparsities = JSON.parse(slider.dataset.values);
  const chosen = document.getElementById("chosen");
  const sections = [...document.querySelectorAll(".sample")];
  const page = document.querySelector(".pictures");
  const radios = (name) => [...document.querySelectorAll(`input[type=radio][name=${name}]`)];
  const boxes = [...document.querySelectorAll("input[type=checkbox][data-kind]")];
  const strips = [...document.querySelectorAll(".strip[data-frames]")].map((figure) => ({
    figure,
    frames: JSON.parse(figure.dataset.frames),
    frame: figure.querySelector(".frame"),
    layer: figure.querySelector(".layer"),
    state: figure.querySelector(".state"),
    said: figure.querySelector(".said"),
    drawn: [...figure.querySelectorAll(".frame-boxes")],
  }));

  function words(sparsity) {
    return sparsity === 0 ? "dense" : `${PB.percent(sparsity)} pruned`;
  }

  function showFrame(strip, place) {
    const frame = strip.frames[place];
    if (strip.layer) {
      const along = strip.frame.classList.contains("concepts") ? "Y" : "X";
      strip.layer.style.transform = `translate${along}(${(-100 * place) / strip.frames.length}%)`;
      strip.layer.hidden = frame.w !== "";
    }
    strip.drawn.forEach((group, i) => group.classList.toggle("off", i !== place));
    strip.state.hidden = frame.w === "";
    strip.state.textContent = frame.w;
    strip.said.textContent = frame.c;
    const label = [strip.figure.dataset.about, words(frame.s), frame.w || frame.c].filter((part) => part);
    strip.frame.setAttribute("aria-label", label.join(", "));
  }

  function selected(name) {
    const radio = radios(name).find((one) => one.checked);
    return radio ? radio.value : "";
  }

  function show() {
    const place = Number(slider.value);
    chosen.textContent = words(sparsities[place]);
    slider.setAttribute("aria-valuetext", words(sparsities[place]));
    page.dataset.view = selected("view") || "overlay";
    const sample = Number(selected("sample") || 0);
    sections.forEach((section, i) => { section.hidden = i !== sample; });
    const hidden = new Set(boxes.filter((box) => !box.checked).map((box) => `${box.dataset.kind}:${box.dataset.label}`));
    for (const block of document.querySelectorAll(".block")) {
      block.hidden = hidden.has(`variant:${block.dataset.variant}`) || hidden.has(`recipe:${block.dataset.recipe}`);
    }
    for (const strip of strips) {
      strip.figure.hidden = hidden.has(`pruner:${strip.figure.dataset.pruner}`);
      showFrame(strip, place);
    }
  }

  function write() {
    const off = boxes.filter((box) => !box.checked).map((box) => `${box.dataset.kind}:${box.dataset.label}`);
    PB.writeState({
      sparsity: slider.value === start ? "" : sparsities[Number(slider.value)],
      sample: selected("sample") === "0" ? "" : selected("sample"),
      view: selected("view") === "overlay" ? "" : selected("view"),
      without: off.join(","),
    });
  }

  const start = String(Math.floor(sparsities.length / 2));
  function read() {
    const state = PB.readState();
    const wanted = Number.parseFloat(state.sparsity);
    const distances = sparsities.map((sparsity) => Math.abs(sparsity - wanted));
    slider.value = Number.isNaN(wanted) ? start : String(distances.indexOf(Math.min(...distances)));
    for (const name of ["sample", "view"]) {
      const listed = radios(name);
      const radio = listed.find((one) => one.value === state[name]) || listed[0];
      if (radio) radio.checked = true;
    }
    const off = new Set((state.without || "").split(","));
    for (const box of boxes) box.checked = !off.has(`${box.dataset.kind}:${box.dataset.label}`);
    show();
  }

  for (const control of document.querySelectorAll(".controls input")) {
    control.addEventListener("input", () => { show(); write(); });
  }
  window.addEventListener("hashchange", read);
  read();
})();
