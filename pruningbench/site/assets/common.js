// What all pages share: elements made of text, state in the address, data, numbers, theme, copying.
"use strict";
window.PB = (function () {
  const up = document.documentElement.dataset.up || "./";

  // An element. Strings become text, so no name can become markup; nothing here parses HTML.
  function el(tag, attributes, ...content) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (name === "href") made.setAttribute("href", safeAddress(value));
      else made.setAttribute(name, value === true ? "" : String(value));
    }
    made.append(...content.flat(Infinity).filter((part) => part !== null && part !== undefined && part !== false));
    return made;
  }

  // Only addresses inside the site: names never become addresses, but a slip would end here.
  function safeAddress(address) {
    return /^(?:[a-z0-9./-]+)?(?:#.*)?$/i.test(address) && !address.startsWith("//") ? address : "#";
  }

  function link(address, text, attributes) {
    return el("a", { href: up + address, ...attributes }, text);
  }

  // Data: `data/NAME.js` puts its value into window.PB_DATA; it is loaded once, when first needed.
  const loading = new Map();
  function load(name) {
    const there = window.PB_DATA && Object.hasOwn(window.PB_DATA, name);
    if (there) return Promise.resolve(window.PB_DATA[name]);
    if (!loading.has(name)) {
      loading.set(name, new Promise((resolve, reject) => {
        const script = el("script", { src: `${up}data/${name}.js` });
        script.onload = () => resolve(window.PB_DATA[name]);
        script.onerror = () => reject(new Error(`the file data/${name}.js is missing`));
        document.head.append(script);
      }));
    }
    return loading.get(name);
  }

  // State: what a page shows stands behind the # of its address, so that a view is a link.
  function readState() {
    const state = {};
    for (const [key, value] of new URLSearchParams(location.hash.slice(1))) state[key] = value;
    return state;
  }
  function addressOf(state) {
    const pairs = Object.entries(state).filter(([, value]) => value !== "" && value !== null && value !== undefined);
    const text = new URLSearchParams(pairs).toString();
    return text ? `#${text}` : "";
  }
  function writeState(state) {
    const address = addressOf(state);
    if (address !== location.hash) history.replaceState(null, "", address || location.pathname + location.search);
  }

  // Numbers as in the tables of the command line: no zero before the point, a true minus.
  function digitsFor(values) {
    let largest = 0;
    for (const value of values) if (Number.isFinite(value)) largest = Math.max(largest, Math.abs(value));
    if (!largest) return 3;
    if (largest >= 1e6 || largest < 5e-3) return null;
    return largest < 10 ? 3 : largest < 100 ? 2 : largest < 1000 ? 1 : 0;
  }
  function number(value, digits = 3) {
    if (value === null || value === undefined || Number.isNaN(value)) return "–";
    const text = digits === null ? value.toExponential(2) : value.toFixed(digits);
    const bare = text.replace(/^(-?)0\./, "$1.");
    return /^-[.0]*$/.test(bare) ? bare.slice(1) : bare.replace("-", "−");
  }
  // One decimal is enough to tell sparsities apart, but not near 100 %, nor where one is almost nothing.
  function percent(share) {
    const whole = 100 * share;
    return `${Number(share > 0.99 || share < 0.001 ? whole.toPrecision(6) : Math.floor(1000 * share + 0.5) / 10)} %`;
  }
  // Text that may break after a joint of a name, not inside its words.
  function breakable(text) {
    return text.split(/(?<=[-_,(/ =])/).flatMap((part, i) => (i ? [document.createElement("wbr"), part] : [part]));
  }
  function plural(count, one, many) {
    return `${count.toLocaleString("en")} ${count === 1 ? one : many || `${one}s`}`;
  }

  // Commands: labels are quoted for a POSIX shell.
  function quoted(text) {
    return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`;
  }
  function commandOf(suite, choice) {
    const filters = Object.entries(choice).map(([kind, label]) => `--only ${quoted(`${kind}=${label}`)}`);
    return `pruningbench run ${quoted(suite || "suite.yaml")} ${filters.join(" ")}`;
  }

  // Copying works without permissions: the text is selected, so that Ctrl-C copies it where the button cannot.
  function copyButton(target, label = "Copy") {
    const button = el("button", { type: "button", class: "quiet copy" }, label);
    button.addEventListener("click", async () => {
      const range = document.createRange();
      range.selectNodeContents(target);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      let done = false;
      try {
        await navigator.clipboard.writeText(target.textContent);
        done = true;
      } catch (error) {
        done = document.execCommand("copy");
      }
      button.textContent = done ? "Copied" : "Selected: press Ctrl-C";
      announce(button.textContent);
      setTimeout(() => { button.textContent = label; }, 1500);
    });
    return button;
  }

  // One polite live region for all messages to screen readers.
  let region = null;
  function announce(text) {
    if (!region) {
      region = el("div", { role: "status", "aria-live": "polite", class: "unseen" });
      document.body.append(region);
    }
    region.textContent = text;
  }

  function download(name, type, parts) {
    const address = URL.createObjectURL(new Blob(parts, { type }));
    const anchor = document.createElement("a");
    anchor.href = address;
    anchor.download = name;
    anchor.click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }

  // Theme: of the system, light or dark; kept if the browser keeps anything for this folder.
  const THEMES = ["auto", "light", "dark"];
  function themeSwitch() {
    const button = document.getElementById("theme");
    if (!button) return;
    const show = () => { button.textContent = `Theme: ${document.documentElement.dataset.theme || "auto"}`; };
    button.addEventListener("click", () => {
      const now = document.documentElement.dataset.theme || "auto";
      const next = THEMES[(THEMES.indexOf(now) + 1) % THEMES.length];
      if (next === "auto") delete document.documentElement.dataset.theme;
      else document.documentElement.dataset.theme = next;
      try {
        localStorage.setItem("pruningbench-theme", next);
      } catch (error) {
        // the choice then lasts as long as the page
      }
      show();
      document.dispatchEvent(new Event("themechange"));
    });
    show();
  }
  themeSwitch();
  for (const button of document.querySelectorAll("button[data-copy]")) {
    const target = document.getElementById(button.dataset.copy);
    if (target) button.replaceWith(copyButton(target, button.textContent));
  }

  return { up, el, link, load, readState, writeState, addressOf, digitsFor, number, percent, breakable, plural, quoted, commandOf,
    copyButton, announce, download };
})();
