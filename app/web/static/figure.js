// Drag over a chart to look at that part of its time. Each part is a link, too, for those who do not drag.

const FEW = 8; // pixels: less is a click

document.addEventListener("pointerdown", (event) => {
  const chart = event.target.closest("[data-since] .chart");
  if (!chart || event.button !== 0) return;
  const { left, width } = chart.getBoundingClientRect();
  const share = (x) => Math.min(1, Math.max(0, (x - left) / width));
  const band = document.createElementNS(chart.namespaceURI, "rect");
  band.setAttribute("class", "band");
  band.setAttribute("height", 200);
  const ends = (x) => [share(event.clientX), share(x)].sort((one, other) => one - other);
  const isDrag = (x) => Math.abs(x - event.clientX) >= FEW;
  const over = new AbortController();
  const { signal } = over;
  document.addEventListener("pointermove", ({ clientX }) => {
    const [from, to] = ends(clientX);
    band.setAttribute("x", from * 1000);
    band.setAttribute("width", (to - from) * 1000);
    if (isDrag(clientX)) chart.append(band);
  }, { signal });
  document.addEventListener("pointerup", ({ clientX }) => {
    over.abort();
    band.remove();
    if (!isDrag(clientX)) return;
    document.addEventListener("click", (click) => click.preventDefault(), { capture: true, once: true });
    const { since, until } = chart.closest("[data-since]").dataset;
    const [begin, end] = [since, until].map(Date.parse);
    const [from, to] = ends(clientX).map((place) => new Date(begin + place * (end - begin)).toISOString());
    const url = new URL(location.href);
    url.searchParams.set("since", from);
    url.searchParams.set("until", to);
    location.assign(url);
  }, { signal });
  document.addEventListener("pointercancel", () => {
    over.abort();
    band.remove();
  }, { signal });
});
// A link that is dragged would be carried elsewhere.
document.addEventListener("dragstart", (event) => {
  if (event.target.closest("[data-since] .chart")) event.preventDefault();
});
