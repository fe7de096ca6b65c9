"use strict";

// Shortcuts, saving, and the live check of a new wording. Untrusted text is only ever inserted as text.

const page = document.getElementById("main");
const el = (id) => document.getElementById(id);
const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const opened = performance.now();

const memory = {
  get: (key) => { try { return localStorage.getItem(key); } catch { return null; } },
  set: (key, value) => { try { value ? localStorage.setItem(key, value) : localStorage.removeItem(key); } catch { /* private mode */ } },
};

async function post(path, body) {
  let answer;
  try {
    answer = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
  } catch {
    throw new Error("The server does not respond. Check that `counterfoil review` is still running.");
  }
  const data = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(`${sentence([data.error ?? `the server returned status ${answer.status}`, data.hint].filter(Boolean).join(": "))}.`);
  return data;
}

function typing(target) {
  return target.closest("textarea, select, [contenteditable], input:not([type=checkbox])") !== null;
}

function act(control) {
  if (control.tagName === "TEXTAREA") control.focus();
  else control.click();
}

function listenToKeys() {
  const byKey = new Map();
  for (const control of document.querySelectorAll("[data-key]")) {
    for (const key of control.dataset.key.split(" ")) byKey.set(key, control);
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.defaultPrevented) return;
    if (document.querySelector("dialog[open]")) return;
    if (event.key === "Escape" && typing(event.target)) return event.target.blur();
    if (typing(event.target) || memory.get("counterfoil keys") === "off") return;
    if (event.key === "Enter" && event.target !== document.body) return;
    const control = byKey.get(event.key.length === 1 ? event.key.toLowerCase() : event.key);
    if (!control || control.disabled || event.repeat) return;
    event.preventDefault();
    act(control);
  });
}

function groupPage() {
  const { reviewer, benchmark, subject, id, query } = page.dataset;
  const about = { reviewer, subject, subject_id: id, query_id: query };
  const draft = (field) => ["counterfoil", field, benchmark, reviewer, subject, id, query].join("\u0001");
  const note = el("note"), status = el("status"), problem = el("problem"), stay = el("stay");
  let busy = false;

  async function save(body, then) {
    if (busy) return;
    busy = true;
    problem.textContent = "";
    status.textContent = "Saving…";
    try {
      await post("act", body);
    } catch (error) {
      status.textContent = "";
      problem.textContent = `Not saved. ${error.message} Your input is kept in this browser. Please try again.`;
      busy = false;
      return;
    }
    status.textContent = "Saved";
    memory.set(draft("note"), "");
    memory.set(draft("wording"), "");
    sessionStorage.setItem("counterfoil saved", body.action);
    location.assign(then);
  }

  const seconds = () => Math.round((performance.now() - opened) / 100) / 10;
  const currentPage = () => location.pathname.split("/").pop() + location.search;
  const nextPage = () => (stay.checked ? currentPage() : page.dataset.next);

  // Scores of versions, by the index of the variant. A version without a score leaves the list too short.
  const scores = () => [...document.querySelectorAll("select[data-version]")]
    .sort((a, b) => a.dataset.version - b.dataset.version)
    .filter((field) => field.value !== "")
    .map((field) => Number(field.value));

  for (const button of document.querySelectorAll("[data-verdict]")) {
    button.addEventListener("click", () =>
      save({ ...about, action: "verdict", verdict: button.dataset.verdict, note: note.value, seconds: seconds(), scores: scores() }, nextPage()));
  }

  const kept = memory.get(draft("note"));
  if (kept !== null) note.value = kept;
  note.addEventListener("input", () => memory.set(draft("note"), note.value));

  el("undo").addEventListener("click", () => {
    const { undoes, undoSubject, undoId, undoQuery, undoUrl } = page.dataset;
    const target = { reviewer, subject: undoSubject, subject_id: undoId, query_id: undoQuery };
    save({ ...target, action: "undo", undoes }, undoUrl);
  });

  stay.checked = memory.get("counterfoil stay") === "on";
  stay.addEventListener("change", () => memory.set("counterfoil stay", stay.checked ? "on" : ""));

  const keys = el("keys"), shortcuts = el("shortcuts");
  el("help").addEventListener("click", () => keys.showModal());
  shortcuts.checked = memory.get("counterfoil keys") !== "off";
  shortcuts.addEventListener("change", () => memory.set("counterfoil keys", shortcuts.checked ? "" : "off"));

  if (el("edit")) rewordingPanel({ about, draft, save, seconds, nextPage, note });
  for (const button of document.querySelectorAll("[data-answer]")) showWholeOnClick(button, id);

  const saved = sessionStorage.getItem("counterfoil saved");
  if (saved) {
    sessionStorage.removeItem("counterfoil saved");
    status.textContent = (saved === "undo" ? "Undone." : "Saved.") + (status.textContent ? ` ${status.textContent}` : "");
    document.querySelector("h1").focus({ preventScroll: true });
  }
}

function rewordingPanel({ about, draft, save, seconds, nextPage, note }) {
  const edit = el("edit"), panel = el("rewording"), wording = el("wording");
  const fault = el("fault"), expanded = el("expanded"), reword = el("reword");
  const before = wording.value;
  let latest = 0, timer;

  function show(open) {
    panel.hidden = !open;
    edit.setAttribute("aria-expanded", String(open));
    if (open) { wording.focus(); check(); } else edit.focus();
  }

  async function check() {
    const request = ++latest;
    let result;
    try {
      result = await post("check", { id: about.subject_id, template: wording.value });
    } catch (error) {
      result = { fault: `Not checked. ${error.message}`, variants: [] };
    }
    if (request !== latest) return;
    const unchanged = wording.value === before;
    fault.textContent = unchanged ? "" : result.fault ? sentence([result.fault, result.hint].filter(Boolean).join(": ")) : "Valid. Every variant passes the quality rules.";
    fault.className = !unchanged && result.fault ? "bad" : "good";
    expanded.replaceChildren(...result.variants.map(({ value, text }) => {
      const item = document.createElement("li"), name = document.createElement("b"), body = document.createElement("bdi");
      name.textContent = value.replaceAll("_", " ");
      body.dir = "auto";
      body.textContent = text;
      item.append(name, " ", body);
      return item;
    }));
    reword.disabled = Boolean(result.fault);
  }

  const send = () =>
    save({ ...about, action: "edit", template: wording.value, note: note.value, seconds: seconds() }, nextPage());

  edit.addEventListener("click", () => show(panel.hidden));
  el("leave").addEventListener("click", () => show(false));
  reword.addEventListener("click", send);
  wording.addEventListener("input", () => {
    memory.set(draft("wording"), wording.value === before ? "" : wording.value);
    reword.disabled = true;
    clearTimeout(timer);
    timer = setTimeout(check, 200);
  });
  wording.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { event.preventDefault(); show(false); }
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !reword.disabled) { event.preventDefault(); send(); }
  });
  const kept = memory.get(draft("wording"));
  if (kept !== null) { wording.value = kept; show(true); }
}

function showWholeOnClick(button, question) {
  const CHUNK = 20000;
  button.addEventListener("click", async () => {
    button.disabled = true;
    const answer = button.previousElementSibling;
    try {
      const parameters = new URLSearchParams({ question, answer: button.dataset.answer });
      const response = await fetch(`text?${parameters}`);
      const { text } = await response.json();
      answer.replaceChildren();
      for (let at = 0; at < text.length; at += CHUNK) {
        const chunk = document.createElement("span");
        chunk.className = "chunk";
        chunk.textContent = text.slice(at, at + CHUNK);
        answer.append(chunk);
      }
      answer.classList.add("long");
      answer.tabIndex = 0;
      answer.setAttribute("role", "region");
      answer.setAttribute("aria-label", "Whole answer");
      answer.focus();
      button.remove();
    } catch {
      button.disabled = false;
      button.textContent = "The server does not respond. Try again";
    }
  });
}

listenToKeys();
if (page?.dataset.page === "group") groupPage();
