// The system's page: verify the audit trail, and look again now and then.
import { post } from "./page.js";

const button = document.getElementById("verify");
const verdict = document.getElementById("verdict");
button?.addEventListener("click", async () => {
  button.disabled = true;
  verdict.textContent = "checking…";
  const answer = await post("/api/v1/audit/verify");
  const said = answer ? await answer.json() : null;
  verdict.className = said?.holds ? "tag good" : "tag bad";
  verdict.textContent = !said ? "" : said.holds ? `it holds, ${said.lines} lines` : `it does not hold: ${said.fault}`;
  button.disabled = false;
});
