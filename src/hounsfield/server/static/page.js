// What every page does: the theme, buttons that ask the server to do something, short messages.

const root = document.documentElement;

/** Say something for a few seconds. */
export function say(text, bad = false) {
  const toast = document.getElementById("toast");
  toast.textContent = text;
  toast.className = bad ? "shown bad" : "shown";
  clearTimeout(say.timer);
  say.timer = setTimeout(() => (toast.className = ""), bad ? 9000 : 4000);
}

/** An element with text or children; text is never markup. */
export function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.filter((one) => one != null && one !== false));
  return made;
}

/** Headers that show the server that a changing request comes from its page. */
export function proof() {
  return { "X-CSRF-Token": root.dataset.csrf ?? "" };
}

/** What the server says went wrong, in its own words. */
export async function complaint(answer) {
  try {
    const said = await answer.json();
    if (said.fact) return said.remedy ? `${said.fact}: ${said.remedy}` : said.fact;
    if (typeof said.detail === "string") return said.detail;
  } catch {
    // not JSON: the status has to do
  }
  return `The server answered ${answer.status}.`;
}

/** Ask the server to do something; whether it did. */
export async function post(path, body = undefined, method = "POST") {
  try {
    const headers = proof();
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
    if (answer.ok) return answer;
    say(await complaint(answer), true);
  } catch {
    say("The server does not answer.", true);
  }
  return null;
}

/** Ask the person; true when the answer is yes. */
export function ask(text) {
  const dialog = document.getElementById("confirm");
  document.getElementById("confirm-text").textContent = text;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }));
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-post]");
  if (!button) return;
  event.preventDefault();
  if (button.dataset.ask && !(await ask(button.dataset.ask))) return;
  button.disabled = true;
  const answer = await post(button.dataset.post, button.dataset.body ? JSON.parse(button.dataset.body) : undefined);
  button.disabled = false;
  if (!answer) return;
  if (button.dataset.say) say(button.dataset.say);
  if (button.dataset.then) location.assign(button.dataset.then);
  document.dispatchEvent(new CustomEvent("acted"));
});

document.addEventListener("submit", async (event) => {
  const form = event.target.closest("form[data-send]");
  if (!form) return;
  event.preventDefault();
  const answer = await post(form.dataset.send, Object.fromEntries(new FormData(form)));
  if (!answer) return;
  if (form.dataset.then) location.assign(form.dataset.then);
  else say(form.dataset.say ?? "Done");
  form.reset();
});

document.getElementById("theme").addEventListener("click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
});

document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});
