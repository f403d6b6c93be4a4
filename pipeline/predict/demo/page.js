"use strict";

// Titles are untrusted text: they are only ever set as textContent.
const $ = (id) => document.getElementById(id);
const chosen = [];
let model;

function element(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

async function ask(path, body) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, options);
  const said = await answer.json();
  if (answer.ok) return said;
  const detail = Array.isArray(said.detail) ? said.detail.map((e) => `${e.loc.slice(1).join(".")}: ${e.msg}`).join("; ") : said.detail;
  throw new Error(detail);
}

function tell(text, bad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", bad);
}

function suggest(input, list, path, show) {
  let last = 0;
  input.addEventListener("input", async () => {
    const mine = ++last;
    const found = await ask(`${path}?q=${encodeURIComponent(input.value)}`).catch(() => []);
    if (mine === last) list.replaceChildren(...found.map(show));
  });
}

function option(value, label) {
  const made = element("option");
  made.value = value;
  if (label) made.label = label;
  return made;
}

async function recommend(question, whose) {
  const buttons = document.querySelectorAll("form button");
  buttons.forEach((button) => { button.disabled = true; });
  $("results").classList.add("stale");
  tell(`Ranking ${model.retrieve} ${model.many} with three models …`);
  const started = performance.now();
  try {
    const { arms } = await ask("recommend", question);
    draw(arms);
    tell(`For ${whose}, in ${((performance.now() - started) / 1000).toFixed(1)} s.`);
  } catch (error) {
    $("results").hidden = $("how").hidden = true;
    tell(error.message, true);
  } finally {
    $("results").classList.remove("stale");
    buttons.forEach((button) => { button.disabled = false; });
  }
}

function draw(arms) {
  const lists = Object.values(arms);
  const count = (id) => lists.filter((list) => list.some((row) => row.item_id === id)).length;
  const about = {
    collab: [model.collab, "Knows who liked what, and nothing else."],
    text_only: ["Text-only LLM", "The LLM tuned on titles alone; it knows nothing of other users' likes."],
    sella: ["SeLLa-Rec", "The same LLM, given the collaborative vectors as special tokens."],
  };
  $("results").replaceChildren(...Object.entries(arms).map(([arm, rows]) => {
    const section = element("section", "arm");
    section.dataset.arm = arm;
    const list = element("ol");
    list.append(...rows.map((row) => line(row, count(row.item_id))));
    section.append(element("h2", "", about[arm][0]), element("p", "", about[arm][1]), list);
    if (!rows.length) section.append(element("p", "note", "There is nothing left to recommend."));
    return section;
  }));
  $("results").hidden = $("how").hidden = false;
}

function line(row, lists) {
  const item = element("li");
  item.dataset.item = row.item_id;
  const title = element("span", "title", row.title);
  if (row.new) title.append(element("span", "tag", "no ratings yet"));
  if (lists === 1) title.append(element("span", "tag only", "only here"));
  const bar = element("span", "bar");
  const filled = element("i");
  filled.style.width = `${100 * row.score}%`;
  bar.append(filled);
  item.append(element("span", "rank", row.rank), title, element("span", "score", row.score.toFixed(2)), bar);
  item.addEventListener("mouseenter", () => mark(row.item_id, true));
  item.addEventListener("mouseleave", () => mark(row.item_id, false));
  return item;
}

function mark(id, on) {
  document.querySelectorAll("ol li").forEach((item) => item.classList.toggle("same", on && item.dataset.item === id));
}

function showChosen() {
  $("chosen").replaceChildren(...chosen.map((title, at) => {
    const chip = element("li", "", title);
    const remove = element("button", "", "×");
    remove.type = "button";
    remove.setAttribute("aria-label", `Remove ${title}`);
    remove.addEventListener("click", () => { chosen.splice(at, 1); showChosen(); $("title").focus(); });
    chip.append(remove);
    return chip;
  }));
}

function addTitle() {
  const title = $("title").value.trim();
  if (title && !chosen.includes(title)) chosen.push(title);
  $("title").value = "";
  showChosen();
}

async function showUser() {
  const id = $("user").value.trim();
  try {
    const { history } = await ask(`users/${encodeURIComponent(id)}`);
    $("likes").textContent = history.length ? `Last liked: ${history.join("; ")}` : "No likes yet.";
  } catch (error) {
    $("likes").textContent = "";
    tell(error.message, true);
    $("results").hidden = $("how").hidden = true;
    return;
  }
  await recommend({ user_id: id }, `user ${id}`);
}

$("by-user").addEventListener("submit", (event) => { event.preventDefault(); showUser(); });
$("by-titles").addEventListener("submit", (event) => {
  event.preventDefault();
  addTitle();
  if (chosen.length) recommend({ history: chosen }, "these likes");
  else tell("Type a title first.", true);
});
$("add").addEventListener("click", () => { addTitle(); $("title").focus(); });
suggest($("user"), $("users"), "users", (user) => option(user.user_id, `${user.user_id}, ${user.rated} ratings`));
suggest($("title"), $("titles"), "items", (title) => option(title));

(async () => {
  try {
    model = await ask("model");
  } catch (error) {
    tell(error.message, true);
    return;
  }
  const number = (n) => n.toLocaleString("en");
  $("model").textContent = `${model.name}: ${number(model.users)} users, ${number(model.items)} ${model.many}.`;
  $("title-label").textContent = `${model.many[0].toUpperCase()}${model.many.slice(1)} they liked`;
  $("how").textContent = `${model.collab} selects ${model.retrieve} ${model.many} that the user has not rated; all three models rank these. `
    + "The number is P(like). “No ratings yet”: the title had no ratings when the model was trained. Hover over a title to find it in the other lists.";
  $("user").value = model.first_user;
  await showUser();
})();
