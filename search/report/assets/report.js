"use strict";
const figures = JSON.parse(document.getElementById("figures").textContent);
const dark = matchMedia("screen and (prefers-color-scheme: dark)");

// Plotly reads no variables of a style sheet: their values are put in, so that a figure follows the page into the dark.
function coloured(value) {
  if (typeof value === "string" && value.startsWith("var(")) {
    return getComputedStyle(document.documentElement).getPropertyValue(value.slice(4, -1)).trim();
  }
  if (Array.isArray(value)) return value.map(coloured);
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, coloured(inner)]));
  }
  return value;
}

const narrow = matchMedia("(max-width: 640px)");

// On a phone the names of rows stand above their rows, inside the plot.
function layoutOf({ layout }) {
  if (!layout.meta?.rows || !narrow.matches) return coloured(layout);
  const names = layout.yaxis.tickvals.map((y, row) => ({
    x: 0, xref: "paper", xanchor: "left", xshift: 3, y, yanchor: "bottom", yshift: 4, showarrow: false,
    text: layout.yaxis.ticktext[row], font: { size: 11.5 },
  }));
  return coloured({ ...layout, yaxis: { ...layout.yaxis, showticklabels: false, ticks: "" }, annotations: names });
}

const config = { responsive: true, displaylogo: false, modeBarButtons: [["toImage"]] };

async function draw() {
  const drawn = Object.entries(figures).map(([id, figure]) => {
    const place = document.getElementById(id);
    if (figure.layout.meta?.minimum_width) place.style.minWidth = figure.layout.meta.minimum_width + "px";
    return Plotly.react(place, coloured(figure.data), layoutOf(figure), config);
  });
  await Promise.all(drawn);
  document.body.dataset.drawn = dark.matches ? "dark" : "light";
}

// One trial, pointed at anywhere, is drawn on top of every plot of lines. null: none.
let focused = null;
function focus(number) {
  if (number === focused) return;
  focused = number;
  for (const [id, figure] of Object.entries(figures)) {
    const top = figure.data.findIndex((trace) => trace.name === "focus");
    if (top < 0) continue;
    const path = { x: [], y: [] };
    for (const trace of figure.data) {
      (trace.customdata ?? []).forEach((trial, point) => {
        if (number === null || trial !== number) return;
        path.x.push(trace.x[point]);
        path.y.push(trace.y[point]);
      });
    }
    Plotly.restyle(id, { x: [path.x], y: [path.y] }, [top]);
  }
}

// A cell without data-sort has no value and stays last in both directions.
function sortBy(table, column, ascending) {
  const key = (row) => row.cells[column].dataset.sort ?? null;
  const compare = (one, other) => {
    const [a, b] = [key(one), key(other)];
    if (a === null || b === null) return (a === null) - (b === null);
    const numeric = !Number.isNaN(Number(a)) && !Number.isNaN(Number(b));
    return (numeric ? Number(a) - Number(b) : a.localeCompare(b)) * (ascending ? 1 : -1);
  };
  table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.firstElementChild.addEventListener("click", () => {
      const ascending = head.ariaSort !== "ascending";
      for (const other of heads) other.ariaSort = null;
      head.ariaSort = ascending ? "ascending" : "descending";
      sortBy(table, column, ascending);
    });
  });
  table.addEventListener("pointerover", (event) => {
    const row = event.target.closest("[data-trial]");
    focus(row ? Number(row.dataset.trial) : null);
  });
  table.addEventListener("pointerleave", () => focus(null));
}

draw().then(() => {
  for (const id of Object.keys(figures)) {
    const place = document.getElementById(id);
    place.on("plotly_hover", (event) => focus(event.points[0].customdata ?? null));
    place.addEventListener("pointerleave", () => focus(null));
  }
});
for (const query of [dark, narrow]) query.addEventListener("change", () => { focused = null; draw(); });

// What is folded away opens when it is asked for, is drawn to the width that it then has, and is printed.
for (const fold of document.querySelectorAll("details")) {
  fold.addEventListener("toggle", () => fold.querySelectorAll(".plot").forEach((plot) => Plotly.Plots.resize(plot)));
}
document.querySelector("nav").addEventListener("click", (event) => {
  const fold = document.querySelector(event.target.hash + " > details");
  if (fold) fold.open = true;
});
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((fold) => { fold.open = true; }));
