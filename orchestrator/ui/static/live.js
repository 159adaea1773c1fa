// Keeps a page as the server would show it now: told by an event stream, it asks for the same page again and swaps the
// parts that differ. Without it, or where it fails, the page is still whole: a reload shows the same.
"use strict";
(() => {
  const main = document.querySelector("main[data-live]");
  if (!main) return;
  const light = document.getElementById("live");
  const parts = (page) => page.querySelectorAll("[data-part]");
  const served = new Map([...parts(document)].map((part) => [part.dataset.part, part.outerHTML]));
  let stream = null, asking = false, again = false, later = 0;

  // What a visitor has done to an element, by a name that the element of the next page has as well.
  const name = (e) => [e.tagName, e.id || e.parentElement?.id, e.name, e.type === "checkbox" || e.type === "radio" ||
    e.tagName === "BUTTON" ? e.value : "", e.getAttribute("href"), e.getAttribute("aria-label")].join("|");
  const twin = (root, e, called = name(e)) => [...root.querySelectorAll(e.tagName)].find((one) => name(one) === called);

  function keep(old, fresh) {
    for (const field of old.querySelectorAll("input,textarea,select")) {
      const same = twin(fresh, field);
      if (!same) continue;
      if (field.checked !== field.defaultChecked) same.checked = field.checked;
      if (field.type !== "checkbox" && field.type !== "radio" && field.value !== field.defaultValue) same.value = field.value;
    }
    for (const one of old.querySelectorAll("details")) {
      const same = twin(fresh, one);
      if (same) same.open = one.open;
    }
  }

  function swap(old, fresh) {
    const active = old.contains(document.activeElement) ? document.activeElement : null;
    const at = active && "selectionStart" in active && active.tagName === "TEXTAREA" ? [active.selectionStart, active.selectionEnd] : null;
    const scrolled = [old, ...old.querySelectorAll(".scroll")].map((e) => [e.scrollLeft, e.scrollTop]);
    keep(old, fresh);
    old.replaceWith(fresh);
    [fresh, ...fresh.querySelectorAll(".scroll")].forEach((e, i) => { if (scrolled[i]) [e.scrollLeft, e.scrollTop] = scrolled[i]; });
    if (!active) return;
    const same = active === old ? fresh : twin(fresh, active);
    (same || main).focus({ preventScroll: true });
    if (same && at) same.setSelectionRange(...at);
  }

  function show(page) {
    for (const part of parts(page)) {
      const called = part.dataset.part, html = part.outerHTML;
      const old = document.querySelector(`[data-part="${called}"]`);
      if (!old || served.get(called) === html) continue;
      served.set(called, html);
      if (called === "said") old.textContent = part.textContent; // a live region speaks when its text changes
      else swap(old, document.adoptNode(part));
    }
    document.title = page.title;
    ready();
  }

  async function ask() {
    if (asking) { again = true; return; }
    asking = true;
    do {
      again = false;
      try {
        const answer = await fetch(location.href, { headers: { "X-Live": "1", Accept: "text/html" }, cache: "no-store" });
        if (answer.ok && !answer.redirected) show(new DOMParser().parseFromString(await answer.text(), "text/html"));
      } catch { /* the next event asks again */ }
    } while (again);
    asking = false;
  }

  function say(text) {
    if (light) { light.hidden = false; light.textContent = text; }
  }

  function open() {
    clearTimeout(later);
    if (stream || document.hidden) return;
    stream = new EventSource(main.dataset.live);
    stream.onopen = () => { say("This page is live."); ask(); };
    stream.onmessage = ask;
    stream.onerror = () => {
      if (stream.readyState !== EventSource.CLOSED) return; // the browser connects again by itself
      close();
      say("This page is not live at the moment.");
      later = setTimeout(open, 30000);
    };
  }

  function close() {
    stream?.close();
    stream = null;
  }

  function ready() {
    for (const all of document.querySelectorAll("[data-all]")) {
      all.hidden = false;
      all.onchange = () => document.querySelectorAll(`input[name=id][form=${all.dataset.all}]`).forEach((one) => { one.checked = all.checked; });
    }
  }

  // Nobody looks: the stream, and the server's thread that it holds, are given back.
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => { if (event.persisted) open(); });
  ready();
  open();
})();
