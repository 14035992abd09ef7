// Renews the content of a page as often as its viewer chose, by asking the server for the same page again.
// Nothing is renewed while that would disturb: a hidden tab, selected text, a form in use, an open dialog.

const TICK = 1000;
const LONGEST = 60_000; // between two attempts after failures
const WAITS = 20_000; // for an answer

const main = () => document.getElementById("main");
const byId = (id) => document.getElementById(id);
const every = Number(main().dataset.every) * 1000;
const chosen = byId("live")?.textContent;
const opened = new Set(document.querySelectorAll("details[open]"));

let due = Date.now() + every;
let renewedAt = new Date();
let etag = "";
let failures = 0;
let isBusy = false;
let isOver = false;

const clock = (at) => at.toISOString().slice(11, 19);
const isChanged = (field) =>
  field.matches("select")
    ? field.selectedIndex !== Math.max(0, [...field.options].findIndex((each) => each.defaultSelected))
    : field.value !== field.defaultValue || field.checked !== field.defaultChecked;

// Why nothing is renewed now; an empty text where nothing is in the way.
function obstacle() {
  if (document.hidden) return "the tab is hidden";
  if (document.querySelector("dialog[open]")) return "a dialog is open";
  if (getSelection().type === "Range") return "text is selected";
  if (document.activeElement?.closest("form") || document.querySelector("main form:hover")) return "a form is in use";
  const forms = [...document.querySelectorAll("details[open]")].filter((each) => !opened.has(each));
  if (forms.some((each) => each.querySelector("form, input, select, textarea"))) return "a form is open";
  const fields = document.querySelectorAll("main :is(input:not([type=hidden]), select, textarea)");
  return [...fields].some(isChanged) ? "a form was changed" : "";
}

// Rows are told apart by the page that they lead to, so that focus stays with its row while others come in above.
function nameRows(root) {
  const names = new Set();
  for (const row of root.querySelectorAll("tbody tr")) {
    const name = row.querySelector("a[href]")?.getAttribute("href");
    if (name && !names.has(name) && (!row.id || row.id === `row ${name}`)) row.id = `row ${name}`;
    names.add(name);
  }
  return names;
}

const heading = () => [...main().querySelectorAll("h1, h1 ~ p > .state")].map((each) => each.textContent).join(", ");

async function replace(text) {
  const rows = nameRows(main());
  const before = heading();
  await htmx.swap({ text, target: main(), sourceElement: main(), swap: "outerMorph" });
  const news = [...nameRows(main())].filter((name) => !rows.has(name)).length;
  const told = [before === heading() ? "" : heading(), news ? `${news} new` : ""].filter(Boolean).join(", ");
  if (told) byId("told").textContent = `${told} at ${clock(new Date())} UTC`;
}

function failed(why, link) {
  const stale = byId("stale");
  const text = `Not renewed since ${clock(renewedAt)} UTC: ${why}. `;
  failures += 1;
  if (stale.firstChild?.textContent === text) return;
  stale.replaceChildren(text, ...(link ? [link] : []));
  stale.hidden = false;
}

function signIn() {
  const link = document.createElement("a");
  link.href = `/console/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`;
  link.textContent = "Sign in";
  return link;
}

async function renew() {
  const headers = { "HX-Request": "true", "HX-Request-Type": "partial", "Waylink-Renewal": "true" };
  const url = location.pathname + location.search;
  let answer, text;
  try {
    const asked = { headers: { ...headers, "If-None-Match": etag }, redirect: "error", signal: AbortSignal.timeout(WAITS) };
    answer = await fetch(url, asked);
    text = await answer.text();
  } catch {
    return failed("the server does not answer");
  }
  if (answer.status === 401) {
    isOver = true;
    return failed("you are signed out", signIn());
  }
  if (answer.status !== 200 && answer.status !== 304) return failed(`the server answers ${answer.status}`);
  if (answer.status === 200) {
    if (obstacle()) return; // it came up meanwhile
    etag = answer.headers.get("etag") ?? "";
    await replace(text);
  }
  failures = 0;
  renewedAt = new Date();
  byId("stale").hidden = true;
}

async function tick() {
  if (isBusy || isOver) return;
  const why = obstacle();
  const state = why ? `${chosen}, paused: ${why}` : chosen;
  if (byId("live").textContent !== state) byId("live").textContent = state;
  if (why || Date.now() < due) return;
  isBusy = true;
  try {
    await renew();
  } finally {
    due = Date.now() + Math.min(every * 2 ** failures, Math.max(every, LONGEST));
    isBusy = false;
  }
}

// What a viewer opened stays open.
htmx.registerExtension("waylink", {
  htmx_before_morph_attr: (element, { attrName }) => attrName !== "open" || !element.matches("details, dialog"),
});
document.addEventListener("htmx:before:swap", ({ detail }) => {
  for (const { target, fragment } of detail.tasks) if (target === main()) nameRows(fragment);
});
if (every && byId("live")) {
  setInterval(tick, TICK);
  document.addEventListener("visibilitychange", tick);
}
