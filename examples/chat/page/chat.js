"use strict";

const LONGEST_DELAY = 15;
const element = (id) => document.getElementById(id);
const log = element("log");

const users = new Map();
const shown = new Set();
const mine = new Set();
let name = sessionStorage.getItem("name") || "";
const page = sessionStorage.getItem("page") || crypto.getRandomValues(new Uint32Array(4)).join("-");
sessionStorage.setItem("page", page); // known by it, we come back as who we were
let socket = null;
let failures = 0;
let countdown = null;
let isAtEnd = true; // then new messages scroll into view

// The connection.

function connect() {
  clearInterval(countdown);
  countdown = null;
  element("banner").hidden = true;
  show("connecting", "Connecting");
  const forced = element("force").value;
  socket = new SockJS(`/chat?page=${page}`, null, { timeout: 5000, transports: forced || undefined });
  watch(socket);
  socket.onmessage = (event) => receive(JSON.parse(event.data));
  socket.onclose = (event) => (socket.replaced ? connect() : wait(event));
}

// Try again after 1, 2, 4... seconds, give or take, so that not all pages come back at once.
function wait(event) {
  const delay = Math.min(2 ** failures++, LONGEST_DELAY) * (0.75 + Math.random() / 2);
  const retryAt = Date.now() + delay * 1000;
  const why = event.reason || "no reason given";
  const tick = () => {
    const seconds = Math.ceil((retryAt - Date.now()) / 1000);
    if (seconds <= 0) {
      connect();
    } else {
      element("trouble").textContent = `Not connected: ${why}. Trying again in ${seconds} s.`;
    }
  };
  show("waiting", "Disconnected");
  element("banner").hidden = false;
  countdown = setInterval(tick, 250);
  tick();
}

// Leave before coming back over another transport: a JSONP poll cannot be cut short from here.
function reconnect() {
  failures = 0;
  show("connecting", "Connecting");
  if (socket.readyState === SockJS.OPEN) {
    const old = socket;
    old.replaced = true;
    send("leave");
    setTimeout(() => old.close(), 1000);
  } else if (countdown) {
    connect();
  } else {
    socket.replaced = true;
    socket.close();
  }
}

function send(type, details) {
  socket.send(JSON.stringify({ type, ...details }));
}

function receive(event) {
  if (event.type === "welcome") {
    welcome(event);
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
  } else if (event.type === "present") {
    present(event.users);
  } else if (event.type === "said") {
    say(event);
  }
}

function welcome(event) {
  failures = 0;
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

// Who is there after all: of a server that has died nobody tells that its users have left.
function present(list) {
  const gone = new Map(users);
  users.clear();
  list.forEach((user) => users.set(user.id, user) && gone.delete(user.id));
  gone.forEach((user) => notice(`${user.name} has gone`));
  showPeople();
}

// The page.  What users wrote goes into textContent, never into markup.

function show(state, text, transport = "") {
  document.body.dataset.state = state;
  element("state").textContent = text;
  element("transport").textContent = transport;
  element("text").placeholder = state === "open" ? "Write a message" : "Waiting for the server";
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

element("force").onchange = reconnect;
element("retry").onclick = connect;
window.addEventListener("online", () => countdown && connect());

if (window.SockJS) {
  connect();
  if (!name) {
    askName();
  }
} else {
  show("waiting", "sockjs-client could not be loaded");
}
