"use strict";
(() => {
  const designs = JSON.parse(document.getElementById("designs").textContent);
  const body = document.querySelector("#table tbody");
  const rows = new Map([...body.rows].map((row) => [Number(row.dataset.design), row]));

  // A design in all figures that show single ones; the last trace of each is for it.
  const choose = (design) => {
    body.querySelectorAll(".chosen").forEach((row) => row.classList.remove("chosen"));
    rows.get(design)?.classList.add("chosen");
    const draw = (id, data) => {
      const figure = document.getElementById(id);
      if (figure) Plotly.restyle(figure, data, [figure.data.length - 1]);
    };
    const i = design - 1;
    draw("figure-distances", { x: [[designs.distance[i]]], y: [[designs.mean[i]]] });
    if (designs.parallel[i]) draw("figure-parallel", { y: [designs.parallel[i]] });
  };

  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row) choose(Number(row.dataset.design));
  });
  document.getElementById("figure-distances").on("plotly_click", (event) => {
    const point = event.points.find((p) => p.curveNumber === 0);
    if (!point) return;
    choose(point.pointNumber + 1);
    rows.get(point.pointNumber + 1)?.scrollIntoView({ block: "nearest" });
  });

  const value = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  document.querySelectorAll("#table th").forEach((head, column, heads) => {
    head.querySelector("button").addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      const sign = up ? 1 : -1;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const sorted = [...body.rows].sort((a, b) => {
        const [x, y] = [value(a, column), value(b, column)];
        return sign * (head.classList.contains("text") ? x.localeCompare(y) : x - y);
      });
      body.append(...sorted);
    });
  });
})();
