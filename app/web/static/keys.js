// Commands and keys. What a dialog shows are pages of the server, which can be opened as pages, too.

const isMac = /Mac|iPhone|iPad/.test(navigator.platform);
const isOn = document.body.dataset.keys === "on";
const G_WAITS = 1500; // ms for the letter after a g
const dialog = document.getElementById("dialog");
const body = document.getElementById("dialog-body");
let leading = -G_WAITS;

// Show a page of the server in the dialog; where that cannot be, go to it.
async function open(path) {
  try {
    const asked = { headers: { "HX-Request": "true", "HX-Request-Type": "partial" }, redirect: "error" };
    const answer = await fetch(path, asked);
    if (!answer.ok) throw new Error(answer.status);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    body.replaceChildren(...page.getElementById("main").childNodes);
  } catch {
    location.href = path;
    return;
  }
  body.querySelector("h1").id = "dialog-title";
  if (body.querySelector(".commands")) fillCommands();
  if (!dialog.open) dialog.showModal();
  (body.querySelector("input[type=search]") ?? dialog).focus();
}

// Put what can be done on the present page before the pages, and narrow all by what is typed.
function fillCommands() {
  const list = body.querySelector(".commands");
  const field = body.querySelector("input");
  const acts = [...document.querySelectorAll("#main .buttons :is(a, button)")].filter((each) => each.checkVisibility());
  list.prepend(...acts.map((act) => entry(act)));
  const narrow = () => {
    const wanted = field.value.trim();
    const isId = [...list.children].some(({ dataset: { prefix } }) => prefix && wanted.startsWith(prefix));
    for (const each of list.children) {
      const { prefix, path } = each.dataset;
      each.hidden = path
        ? !wanted.startsWith(prefix) || (!prefix && (!wanted || isId))
        : !each.textContent.toLowerCase().includes(wanted.toLowerCase());
      if (path && !each.hidden) each.firstElementChild.href = path + encodeURIComponent(wanted);
    }
    const count = shown().length;
    body.querySelector("#commands-found").textContent = `${count} command${count === 1 ? "" : "s"}`;
  };
  field.addEventListener("input", narrow);
  field.form.addEventListener("submit", (event) => {
    event.preventDefault();
    shown()[0]?.click();
  });
  list.addEventListener("keydown", move);
  field.addEventListener("keydown", move);
  narrow();
}

const shown = () => [...body.querySelectorAll(".commands > li:not([hidden]) > :is(a, button)")];

// An act of the page below, which does what its own button or link does.
function entry(act) {
  const item = document.createElement("li");
  const copy = document.createElement(act.matches("a") ? "a" : "button");
  copy.textContent = act.textContent;
  if (act.matches("a")) copy.href = act.getAttribute("href");
  else
    copy.addEventListener("click", () => {
      dialog.close();
      act.click();
    });
  item.append(copy);
  return item;
}

function move(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const all = [body.querySelector("input"), ...shown()];
  all[(all.indexOf(document.activeElement) + step + all.length) % all.length].focus();
}

function search() {
  const field = document.querySelector("#main :is(input[type=search], .filters input)");
  if (!field) return;
  field.closest("details")?.setAttribute("open", "");
  field.focus();
}

function press(event) {
  if (event.isComposing || event.repeat) return;
  const isCommand = isMac ? event.metaKey && !event.ctrlKey : event.ctrlKey && !event.metaKey;
  if (isCommand && !event.altKey && !event.shiftKey && event.key.toLowerCase() === "k") {
    event.preventDefault();
    open("/console/commands");
    return;
  }
  const isTyping = event.target.closest("input, select, textarea, [contenteditable]");
  if (isTyping || dialog.open || event.ctrlKey || event.metaKey || event.altKey) return;
  const page = document.querySelector(`.pages a[data-key="${CSS.escape(event.key)}"]`);
  const isLed = event.timeStamp - leading < G_WAITS;
  leading = event.key === "g" && !isLed ? event.timeStamp : -G_WAITS;
  if (isLed && page) page.click();
  else if (event.key === "/") search();
  else if (event.key === "?") open("/console/keys");
  else return;
  event.preventDefault();
}

document.addEventListener("click", (event) => {
  const opener = event.target.closest("a[data-dialog]");
  if (!opener || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  open(opener.getAttribute("href"));
});
if (isOn) document.addEventListener("keydown", press);

// The box in the head of a table ticks all that are in it.
document.addEventListener("change", ({ target }) => {
  if (!target.matches("[data-picks]")) return;
  for (const each of target.closest("table").querySelectorAll("[name=id]")) each.checked = target.checked;
});
