"use strict";
// What is shown comes from whoever enqueues jobs, so it goes in as text: textContent and
// createTextNode alone, never as markup.
const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const HOUR = 3600;

function make(name, words, ...children) {
  const element = document.createElement(name);
  if (words) element.className = words;
  element.append(...children.filter((child) => child !== null).map(String));
  return element;
}

function draw(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 10) return value.toFixed(1) + " s";
  const whole = Math.floor(value);
  if (whole < 60) return whole + " s";
  if (whole < 3600) return Math.floor(whole / 60) + " min " + (whole % 60) + " s";
  if (whole < 86400) return Math.floor(whole / 3600) + " h " + Math.floor((whole % 3600) / 60) + " min";
  return Math.floor(whole / 86400) + " d " + Math.floor((whole % 86400) / 3600) + " h";
}

const count = (value) => (value === null || value === undefined ? "–" : value.toLocaleString("en"));
const short = (value) => (value >= 100 ? Math.round(value).toLocaleString("en") : String(+value.toFixed(1)));
const clock = (at) => new Date(at * 1000).toTimeString().slice(0, 8);

function showHead(facts) {
  const redis = facts.redis;
  const parts = [
    "version " + facts.version, "pid " + facts.pid, facts.state, "generation " + facts.generation,
    redis === null ? "Redis not measured yet" : redis.answers ? "Redis answers" : "Redis does not answer",
  ];
  if (redis && redis.answers && redis.round_trip !== null) parts[4] += " in " + (redis.round_trip * 1000).toFixed(1) + " ms";
  byId("head").textContent = parts.join(" · ");
  const trouble = [];
  if (facts.state !== "running") trouble.push("The arbiter is " + facts.state + ".");
  if (redis && !redis.answers) trouble.push("Redis has not answered for " + seconds(redis.since) + ": " + redis.error);
  if (redis && redis.suspended) trouble.push("All workers are suspended (rq suspend).");
  if (redis && redis.scheduler === false) trouble.push("Jobs are scheduled, and no scheduler runs.");
  if (facts.loop_turned > 5) trouble.push("The arbiter's loop has not turned for " + seconds(facts.loop_turned) + ".");
  for (const queue of facts.queues.filter((each) => each.unserved)) {
    trouble.push(count(queue.waiting) + " jobs wait in the queue “" + queue.name + "”, which no worker serves.");
  }
  showTrouble(trouble);
}

function showTrouble(lines) {
  byId("trouble").hidden = lines.length === 0;
  byId("trouble").textContent = lines.join("\n");
}

const STATES = ["busy", "idle", "forking", "booting", "connecting", "stopping", "killed"];

function showBar(facts) {
  const all = STATES.reduce((sum, state) => sum + (facts.workers[state] || 0), 0);
  const words = STATES.filter((state) => facts.workers[state]).map((state) => facts.workers[state] + " " + state);
  byId("bar").replaceChildren(...STATES.filter((state) => facts.workers[state]).map((state) => {
    const part = make("i", state);
    part.style.flexGrow = facts.workers[state];
    return part;
  }));
  byId("bar").setAttribute("aria-label", words.join(", "));
  const ended = Object.entries(facts.jobs).filter(([, number]) => number);
  const jobs = ended.map(([outcome, number]) => count(number) + " " + outcome).join(", ");
  const target = all === facts.wished ? "" : " of " + facts.wished;
  byId("counts").textContent = all + target + " workers: " + (words.join(", ") || "none") + (jobs ? ". Jobs: " + jobs : "");
}

function cell(words, ...children) {
  const made = document.createElement("td");
  if (words) made.className = words;
  made.append(...children);
  return made;
}

const waitingBefore = new Map(); // by queue, what waited at each look since the page was opened

function showQueues(facts) {
  byId("queues").replaceChildren(...facts.queues.map((queue) => {
    const seen = waitingBefore.get(queue.name) || [];
    seen.push(queue.waiting);
    waitingBefore.set(queue.name, seen.slice(-300));
    const row = document.createElement("tr");
    const name = cell("", queue.name);
    if (queue.paused) name.append(make("span", "tag", "paused"));
    const full = queue.limit !== null && queue.waiting && queue.started >= queue.limit;
    if (full && !queue.paused) name.append(make("span", "tag", "at its limit " + queue.started + "/" + queue.limit));
    if (queue.unserved) name.append(make("span", "tag", "no worker"));
    row.append(
      name, cell("n", count(queue.waiting)), cell("n", queue.waiting ? seconds(queue.oldest) : "–"),
      cell("n", count(queue.workers)), cell("n", count(queue.busy)), cell("n", short(queue.jobs_per_minute)),
      cell(queue.failed ? "n bad" : "n", count(queue.failed)), cell("", trend(seen)),
    );
    return row;
  }));
  byId("more-queues").textContent = facts.queues_unlisted ? facts.queues_unlisted + " more queues" : "";
}

function trend(values) {
  const picture = draw("svg", { viewBox: "0 0 90 18", "aria-hidden": "true" });
  const most = Math.max(1, ...values);
  const step = 90 / Math.max(1, values.length - 1);
  const points = values.map((value, at) => (at * step).toFixed(1) + "," + (17 - (16 * value) / most).toFixed(1));
  if (values.length > 1) picture.append(draw("polyline", { class: "curve s-finished", points: points.join(" ") }));
  return picture;
}

function showWorkers(facts) {
  byId("workers").replaceChildren(...facts.listed.map((worker) => {
    const row = document.createElement("tr");
    const job = cell("", worker.function || "");
    if (worker.job) job.append(make("span", "id", worker.job));
    const late = worker.timeout !== null && worker.seconds > worker.timeout;
    const runs = worker.seconds === null ? "–" : seconds(worker.seconds) + (worker.timeout ? " of " + seconds(worker.timeout) : "");
    row.append(
      cell("n", count(worker.number)), cell("", worker.state), job, cell("", worker.queue || ""),
      cell(late ? "n bad" : "n", runs), cell("n", count(worker.jobs)),
      cell(worker.failed ? "n bad" : "n", count(worker.failed)),
      cell("n", worker.memory ? Math.round(worker.memory / 1e6) + " MB" : "–"), cell("n", worker.pid || "–"),
    );
    return row;
  }));
  const more = facts.unlisted ? facts.unlisted + " more workers. " : "";
  byId("idle").textContent = more + (facts.idle ? "idle: " + facts.idle : "");
}

function showEvents(facts) {
  byId("events").replaceChildren(...facts.events.slice().reverse().map((event) => {
    const line = document.createElement("li");
    line.append(make("time", "", clock(event.time)), make("span", isBad(event) ? "bad" : "", event.text));
    return line;
  }));
}

const isBad = (event) => /failed|died|lost/.test(event.event);

// The plots of the last hour.

const WIDTH = 320, HEIGHT = 90, LEFT = 34, BOTTOM = 14;

function plot(title, curves, marks, from, until) {
  const figure = document.createElement("figure");
  const caption = make("figcaption", "");
  caption.append(make("b", "", title));
  const most = Math.max(...curves.flatMap((curve) => curve.points.map((point) => point[1])), 0);
  const top = niceTop(most);
  const x = (at) => LEFT + ((at - from) / (until - from)) * (WIDTH - LEFT);
  const y = (value) => 6 + (1 - value / top) * (HEIGHT - BOTTOM - 6);
  const picture = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title + ", at most " + short(most) });
  for (const value of [0, top / 2, top]) {
    picture.append(draw("line", { class: "grid", x1: LEFT, x2: WIDTH, y1: y(value), y2: y(value) }));
    picture.append(draw("text", { x: LEFT - 5, y: y(value) + 3, "text-anchor": "end" }, short(value)));
  }
  const span = until - from;
  for (const [back, anchor] of [[span, "start"], [span / 2, "middle"], [0, "end"]]) {
    const label = back ? "-" + Math.round(back / 60) + " min" : "now";
    picture.append(draw("text", { x: x(until - back), y: HEIGHT - 2, "text-anchor": anchor }, label));
  }
  for (const mark of marks.filter((each) => each.time >= from)) {
    const line = draw("line", { class: isBad(mark) ? "mark bad" : "mark", x1: x(mark.time), x2: x(mark.time), y1: 4, y2: HEIGHT - BOTTOM });
    line.append(draw("title", {}, clock(mark.time) + " " + mark.text));
    picture.append(line);
  }
  for (const curve of curves) {
    const points = curve.points.map(([at, value]) => x(at).toFixed(1) + "," + y(value).toFixed(1));
    picture.append(draw("polyline", { class: "curve s-" + curve.style, points: points.join(" ") }));
    const last = curve.points.length ? short(curve.points[curve.points.length - 1][1]) : "–";
    const key = make("span", "");
    key.append(make("span", "key s-" + curve.style), curve.name + " " + last);
    caption.append(key);
  }
  figure.append(caption, picture);
  return figure;
}

function niceTop(most) {
  if (most <= 1) return 1;
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= most);
}

function showPlots(past) {
  const at = Object.fromEntries(past.columns.map((name, number) => [name, number]));
  const until = Date.now() / 1000;
  const first = past.samples.length ? past.samples[0][at.time] : until;
  const from = until - Math.min(HOUR, Math.max(600, until - first));
  const samples = past.samples.filter((sample) => sample[at.time] >= from);
  const level = (name) => samples.filter((each) => each[at[name]] !== null).map((each) => [each[at.time], each[at[name]]]);
  const rate = (...names) => samples.slice(1).map((sample, number) => {
    const before = samples[number];
    const grown = names.reduce((sum, name) => sum + sample[at[name]] - before[at[name]], 0);
    return [sample[at.time], Math.max(0, (60 * grown) / Math.max(1, sample[at.time] - before[at.time]))];
  });
  const curve = (name, style, points) => ({ name, style, points });
  byId("plots").replaceChildren(
    plot("Jobs a minute", [
      curve("finished", "finished", rate("finished")), curve("failed", "failed", rate("failed")),
      curve("retried", "retried", rate("retried")), curve("cut", "other", rate("stopped", "interrupted")),
    ], past.marks, from, until),
    plot("Waiting jobs", [curve("in all queues", "finished", level("waiting"))], past.marks, from, until),
    plot("Oldest waiting, in seconds", [curve("of all queues", "retried", level("oldest"))], past.marks, from, until),
    plot("Workers", [curve("busy", "finished", level("busy")), curve("ready", "ready", level("ready"))], past.marks, from, until),
  );
}

async function get(path) {
  const answer = await fetch(path, { cache: "no-store" });
  if (!answer.ok) throw new Error(answer.status + " " + answer.statusText);
  return answer.json();
}

async function every(pause, path, show) {
  for (;;) {
    try {
      if (!document.hidden) show(await get(path));
    } catch (error) {
      showTrouble(["No answer from the arbiter; what is shown is old. " + error.message]);
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

every(2000, "/status.json", (facts) => {
  showHead(facts); showBar(facts); showQueues(facts); showWorkers(facts); showEvents(facts);
  document.body.dataset.shown = "yes";
});
every(10000, "/history.json", showPlots);
