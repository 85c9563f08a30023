(() => {
  "use strict";
  const root = document.documentElement;
  root.classList.add("js");
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];

  // Colours: the system's, until the button is used.
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const label = () => { button.textContent = isDark() ? "Light colours" : "Dark colours"; };
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    label();
  });
  system.addEventListener("change", label);
  label();

  // Sorting: a first click puts the largest number or the first word on top. Missing values stay last.
  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.sort ?? cell.textContent.trim();
  };
  const compare = (a, b) => {
    const x = Number(a);
    const y = Number(b);
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, undefined, { numeric: true }) : x - y;
  };
  const sort = (heading) => {
    const body = heading.closest("table").tBodies[0];
    const first = heading.classList.contains("num") ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = heading.getAttribute("aria-sort") === first ? other : first;
    const sign = order === "ascending" ? 1 : -1;
    const rows = [...body.rows].map((row) => [key(row, heading.cellIndex), row]);
    rows.sort(([a], [b]) => (a === "") - (b === "") || (a === "" ? 0 : sign * compare(a, b)));
    all("[aria-sort]", heading.parentElement).forEach((th) => th.setAttribute("aria-sort", "none"));
    heading.setAttribute("aria-sort", order);
    body.append(...rows.map(([, row]) => row));
  };
  all(".sortable .sort").forEach((b) => b.addEventListener("click", () => sort(b.closest("th"))));

  // Filters: a row stays when every choice fits and the text is somewhere in it.
  all(".filters").forEach((bar) => {
    const rows = [...document.getElementById(bar.dataset.for).tBodies[0].rows];
    const inputs = all("[data-filter]", bar);
    const fits = (row, input) => {
      if (input.dataset.filter !== "text") return !input.value || row.dataset[input.dataset.filter] === input.value;
      return row.textContent.toLowerCase().includes(input.value.trim().toLowerCase());
    };
    const apply = () => {
      rows.forEach((row) => { row.hidden = !inputs.every((input) => fits(row, input)); });
      const left = rows.filter((row) => !row.hidden).length;
      bar.querySelector(".count").textContent = `${left} of ${rows.length} shown`;
    };
    inputs.forEach((input) => input.addEventListener("input", apply));
    apply();
  });

  // One panel of several.
  all("[data-switch]").forEach((group) => {
    const panels = all(`[data-panel="${group.dataset.switch}"]`);
    const show = () => {
      const chosen = group.querySelector(":checked").value;
      panels.forEach((panel) => { panel.hidden = panel.id !== chosen; });
    };
    group.addEventListener("change", show);
    show();
  });

  // One point of a search at a time.
  all("[data-steps]").forEach((box) => {
    const slider = box.querySelector("input");
    const frames = all("[data-frame]", box);
    const show = () => {
      frames.forEach((frame, i) => { frame.hidden = i !== Number(slider.value); });
      const words = frames[Number(slider.value)].dataset.frame;
      box.querySelector("output").textContent = words;
      slider.setAttribute("aria-valuetext", words);
    };
    slider.addEventListener("input", show);
    show();
  });

  const crisp = document.getElementById("crisp");
  if (crisp) crisp.addEventListener("change", () => root.classList.toggle("crisp", crisp.checked));

  // A link to something folded away unfolds it; so does printing, for the time of printing.
  const unfold = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target instanceof HTMLDetailsElement) target.open = true;
  };
  addEventListener("hashchange", unfold);
  unfold();
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = all("details:not([open]):not(.long)");
    opened.forEach((details) => { details.open = true; });
  });
  addEventListener("afterprint", () => {
    opened.forEach((details) => { details.open = false; });
    opened = [];
  });
})();
