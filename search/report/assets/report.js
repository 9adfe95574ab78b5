"use strict";
const figures = JSON.parse(document.getElementById("figures").textContent);
const dark = matchMedia("screen and (prefers-color-scheme: dark)");

// "@name" stands for the style sheet's --name, so that a figure follows the page from light to dark.
function coloured(value) {
  if (typeof value === "string" && /^@\w+$/.test(value)) {
    return getComputedStyle(document.documentElement).getPropertyValue("--" + value.slice(1)).trim();
  }
  if (Array.isArray(value)) return value.map(coloured);
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, coloured(inner)]));
  }
  return value;
}

const narrow = matchMedia("(max-width: 640px)");

function layoutOf(figure) {
  const own = figure.layout;
  // On a phone the names of rows stand above their rows, inside the plot.
  const inside = figure.rows && narrow.matches;
  const names = inside ? own.yaxis.tickvals.map((y, row) => ({
    x: 0, xref: "paper", xanchor: "left", xshift: 3, y, yanchor: "bottom", yshift: 4, showarrow: false,
    text: own.yaxis.ticktext[row], font: { size: 11.5 },
  })) : [];
  const axis = { gridcolor: "@grid", linecolor: "@axis", tickcolor: "@axis", zeroline: false, automargin: true };
  return coloured({
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: "@ink" },
    hovermode: "closest",
    hoverlabel: { bgcolor: "@card", bordercolor: "@axis", font: { color: "@ink" }, align: "left" },
    ...own,
    margin: { l: 56, r: 14, t: own.title || own.showlegend === false ? 40 : 16, b: 44, ...own.margin },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", ...own.legend },
    xaxis: { ...axis, ...own.xaxis },
    yaxis: { ...axis, ...own.yaxis, ...(inside && { showticklabels: false, ticks: "" }) },
    annotations: [...(own.annotations ?? []), ...names],
  });
}

const config = { responsive: true, displaylogo: false, displayModeBar: false };

async function draw() {
  const drawn = Object.entries(figures).map(([id, figure]) => {
    const place = document.getElementById(id);
    if (figure.minimum_width) place.style.minWidth = figure.minimum_width + "px";
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
  const key = (row) => {
    const cell = row.cells[column];
    return cell.classList.contains("absent") ? null : (cell.dataset.sort ?? cell.textContent);
  };
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
    head.classList.toggle("number", table.tBodies[0].querySelector(`td.number:nth-child(${column + 1})`) !== null);
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
