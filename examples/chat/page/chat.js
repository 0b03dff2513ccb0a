"use strict";

const SILENCE = Number(document.currentScript.dataset.silence) * 1000;
const element = (id) => document.getElementById(id);
const log = element("log");

const users = new Map();
const shown = new Set();
const mine = new Set();
let name = sessionStorage.getItem("name") || "";
const page = sessionStorage.getItem("page") || crypto.getRandomValues(new Uint32Array(4)).join("-");
sessionStorage.setItem("page", page); // known by it, we come back as who we were
let socket = null;
let countdown = null;
let isAtEnd = true; // then new messages scroll into view

// The connection.

function connect() {
  const transports = element("force").value || undefined;
  const options = { timeout: 5000, transports, silence: SILENCE, maxDelay: 15000 };
  socket = new ReconnectingSockJS(`/chat?page=${page}`, null, options);
  show("connecting", "Connecting");
  socket.onmessage = (event) => receive(JSON.parse(event.data));
  socket.onreconnecting = (event) => showWait(event.reason, event.delay);
  socket.onclose = (event) => {
    show("waiting", "Disconnected");
    tell(`Closed: ${event.reason}.`);
  };
}

function showWait(reason, delay) {
  const retryAt = Date.now() + delay;
  const tick = () => {
    const seconds = Math.ceil((retryAt - Date.now()) / 1000);
    const when = seconds > 0 ? `in ${seconds} s` : "now";
    tell(`Not connected: ${reason || "no reason given"}. Trying again ${when}.`);
  };
  show("waiting", "Disconnected");
  countdown = setInterval(tick, 250);
  tick();
}

function connectNow() {
  if (socket.readyState === ReconnectingSockJS.CLOSED) {
    connect();
  } else {
    socket.reconnect();
  }
}

// Leave before coming back over another transport: a JSONP poll cannot be cut short from here.
function changeTransport() {
  const old = socket;
  old.onclose = connect;
  if (old.readyState === ReconnectingSockJS.CLOSED) {
    connect();
  } else if (old.readyState === ReconnectingSockJS.OPEN) {
    show("connecting", "Connecting");
    send("leave");
    setTimeout(() => old.close(), 1000);
  } else {
    old.close();
  }
}

function send(type, details) {
  socket.send(JSON.stringify({ type, ...details }));
}

function receive(event) {
  if (event.type === "welcome") {
    welcome(event);
  } else if (document.body.dataset.state !== "open") {
    return; // the welcome, which comes next, includes it
  } else if (event.type === "joined") {
    const known = users.get(event.user.id);
    users.set(event.user.id, event.user);
    if (known?.name !== event.user.name) {
      notice(known ? `${known.name} is now ${event.user.name}` : `${event.user.name} joined`);
    }
    showPeople();
  } else if (event.type === "left") {
    if (users.has(event.id)) {
      notice(`${users.get(event.id).name} left`);
    }
    users.delete(event.id);
    showPeople();
  } else if (event.type === "said") {
    say(event);
  }
}

function welcome(event) {
  mine.add(event.you);
  users.clear();
  event.users.forEach((user) => users.set(user.id, user));
  event.history.forEach(say);
  show("open", "Connected", socket.transport);
  showPeople();
  if (name) {
    send("join", { name });
  }
}

// The page.  What users wrote goes into textContent, never into markup.

function show(state, text, transport = "") {
  clearInterval(countdown);
  element("banner").hidden = true;
  document.body.dataset.state = state;
  element("state").textContent = text;
  element("transport").textContent = transport;
  element("text").placeholder = state === "open" ? "Write a message" : "Waiting for the server";
}

function tell(trouble) {
  element("trouble").textContent = trouble;
  element("banner").hidden = false;
}

function make(tag, className, ...children) {
  const node = document.createElement(tag);
  node.className = className;
  node.append(...children);
  return node;
}

function avatar(user) {
  let hash = 7;
  for (const character of user.name) {
    hash = (hash * 31 + character.codePointAt(0)) % 360;
  }
  const node = make("span", "avatar", [...user.name][0].toUpperCase());
  node.style.setProperty("--hue", hash);
  node.ariaHidden = "true";
  return node;
}

function showPeople() {
  const order = (a, b) => mine.has(b.id) - mine.has(a.id) || a.name.localeCompare(b.name);
  const sorted = [...users.values()].sort(order);
  element("count").textContent = sorted.length;
  element("people").replaceChildren(...sorted.map(person));
}

function person(user) {
  const who = make("bdi", "who", user.name);
  const transport = make("code", "", user.transport.replaceAll("_", "-"));
  const node = make("li", "", avatar(user), who, transport);
  if (mine.has(user.id)) {
    const rename = make("button", "rename", "Rename");
    rename.onclick = askName;
    node.className = "me";
    node.append(rename);
  }
  return node;
}

function say(message) {
  if (shown.has(message.id)) {
    return; // it was there before the connection was lost
  }
  shown.add(message.id);
  const time = new Date(message.time * 1000);
  const clock = time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const author = `${message.from} ${message.name}`;
  const text = make("p", "text", message.text);
  text.dir = "auto";
  const head = make("p", "head", make("bdi", "", message.name), make("time", "", clock));
  const node = make("li", "message", avatar(message), make("div", "bubble", head, text));
  node.classList.toggle("mine", mine.has(message.from));
  node.classList.toggle("again", log.lastElementChild?.dataset.author === author);
  node.dataset.author = author;
  add(node);
}

function notice(text) {
  add(make("li", "notice", text));
}

function add(node) {
  log.append(node);
  showEnd();
}

function showEnd() {
  if (isAtEnd) {
    log.scrollTop = log.scrollHeight;
  }
}

function askName() {
  element("name").value = name;
  element("welcome").showModal();
}

element("welcome").onclose = () => {
  name = element("name").value.trim() || name;
  if (!name) {
    askName();
    return;
  }
  sessionStorage.setItem("name", name);
  if (document.body.dataset.state === "open") {
    send("join", { name });
  }
  element("text").focus();
};

element("composer").onsubmit = (event) => {
  event.preventDefault();
  const text = element("text").value.trim();
  if (text && document.body.dataset.state === "open") {
    send("say", { text });
    element("text").value = "";
    isAtEnd = true;
  }
};

log.onscroll = () => {
  isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
};
new ResizeObserver(showEnd).observe(log);

element("force").onchange = changeTransport;
element("retry").onclick = connectNow;

if (window.SockJS) {
  connect();
  if (!name) {
    askName();
  }
} else {
  show("waiting", "sockjs-client could not be loaded");
}
