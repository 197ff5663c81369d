// Does in a real browser what a person does on the page, for browser_test.go: logs in, publishes, and says what the page
// shows and keeps. The environment names the PAGE, the USER to log in as and the CHROMIUM to run.
import { chromium } from "playwright-core";

const { PAGE, USER, CHROMIUM } = process.env;
const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(30_000);
  const shown = [];
  page.on("console", (message) => shown.push(message.text()));
  page.on("pageerror", (err) => shown.push(String(err)));
  await page.goto(PAGE);
  const opened = page.waitForEvent("popup");
  await page.click("#login");
  const login = await opened;
  await login.fill("input[name=username]", USER);
  await login.fill("input[name=password]", USER);
  await login.click("button");
  const status = page.locator("#status");
  await page.waitForFunction(() => /^connected|refused|bound|loses|Violation|blocks/.test(document.getElementById("status").textContent));
  const said = await status.textContent();
  if (!said.startsWith("connected")) throw new Error(`the page says ${said}\n${shown.join("\n")}`);
  await page.click("#publish button");
  await page.waitForFunction(() => document.getElementById("messages").textContent !== "");
  const result = {
    status: said,
    account: await page.textContent("#account"),
    key: await page.textContent("#key"),
    token: await page.textContent("#token"),
    messages: await page.textContent("#messages"),
    stored: await page.evaluate(() => JSON.stringify([localStorage, sessionStorage, document.cookie])),
    console: shown,
  };
  console.log(JSON.stringify(result));
} finally {
  await browser.close();
}
