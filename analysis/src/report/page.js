"use strict";
(() => {
  const articles = [...document.querySelectorAll("#articles > article")];
  if (!articles.length) return;
  const byId = (id) => document.getElementById(id);
  const entries = [...document.querySelectorAll("#list > li")];
  const filters = ["arm", "seed", "stage", "outcome", "tool", "kind", "end"]
    .map((key) => [key, byId("by-" + key)])
    .filter(([, select]) => select);
  const tokens = byId("show-tokens");
  let shown = [];
  let current = -1;

  const show = (i, focus) => {
    current = i;
    articles.forEach((article, k) => { article.hidden = k !== i; });
    entries.forEach((entry, k) => {
      const link = entry.firstElementChild;
      if (k === i) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
    });
    const place = shown.indexOf(i);
    byId("position").textContent = shown.length ? (place + 1) + " of " + shown.length : "none";
    byId("previous").disabled = place <= 0;
    byId("next").disabled = place < 0 || place + 1 >= shown.length;
    if (i < 0) return;
    const list = byId("list").parentElement;
    const entry = entries[i];
    if (entry.offsetTop < list.scrollTop) list.scrollTop = entry.offsetTop;
    const below = entry.offsetTop + entry.offsetHeight - list.clientHeight;
    if (below > list.scrollTop) list.scrollTop = below;
    if (focus) {
      history.replaceState(null, "", "#" + articles[i].id);
      articles[i].focus({ preventScroll: true });
      const top = byId("controls").getBoundingClientRect().bottom;
      if (articles[i].getBoundingClientRect().top < 0) {
        window.scrollBy(0, articles[i].getBoundingClientRect().top - top - 12);
      }
    }
  };

  const step = (by) => {
    const place = shown.indexOf(current) + by;
    if (place >= 0 && place < shown.length) show(shown[place], true);
  };

  const filter = () => {
    const fits = (article) => filters.every(([key, select]) => select.value === "*" || article.dataset[key] === select.value);
    shown = articles.map((article, i) => i).filter((i) => fits(articles[i]));
    entries.forEach((entry, i) => { entry.hidden = !shown.includes(i); });
    show(shown.includes(current) ? current : shown.length ? shown[0] : -1, false);
  };

  const fromHash = () => articles.findIndex((article) => "#" + article.id === location.hash);

  const showTokens = () => document.body.classList.toggle("text-view", !tokens.checked);

  document.body.classList.add("scripted");
  if (tokens) tokens.addEventListener("change", showTokens);
  byId("controls").hidden = false;
  filters.forEach(([, select]) => select.addEventListener("change", filter));
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  entries.forEach((entry, i) => entry.firstElementChild.addEventListener("click", (event) => {
    event.preventDefault();
    show(i, true);
  }));
  window.addEventListener("hashchange", () => { if (fromHash() >= 0) show(fromHash(), true); });
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("select, textarea")) return;
    if (event.key === "t" && tokens) { tokens.checked = !tokens.checked; showTokens(); return; }
    const by = { j: 1, ArrowRight: 1, k: -1, ArrowLeft: -1 }[event.key];
    if (by) { event.preventDefault(); step(by); }
  });
  current = fromHash();
  filter();
})();
