"use strict";

const element = (id) => document.getElementById(id);
// The others are off where origins are restricted.  ?transport=xhr-polling forces one.
const TRANSPORTS = ["websocket", "xhr-streaming", "eventsource", "xhr-polling"];
const forced = new URLSearchParams(location.search).get("transport");

// Who we are.

class Refused extends Error {}

async function post(url, body) {
  const response = await fetch(url, { method: "POST", body });
  const text = await response.text();
  if (!response.ok) {
    throw response.status < 500 ? new Refused(text) : new Error(text);
  }
  return text;
}

function showUser(user) {
  element("login").hidden = Boolean(user);
  element("logged-in").hidden = !user;
  element("user").textContent = user;
}

element("login").onsubmit = async (event) => {
  event.preventDefault();
  element("trouble").textContent = "";
  try {
    showUser(await post("/login", new FormData(event.target)));
    event.target.reset();
  } catch (error) {
    element("trouble").textContent = error.message;
  }
};
element("logout").onclick = async () => {
  await post("/logout");
  showUser("");
};

// The two services.  The cookie goes along by itself; the token is part of the URL, and each attempt
// to connect asks for a new one.

const accountUrl = "/account";
const ordersUrl = async () => `/orders?token=${encodeURIComponent(await post("/token"))}`;

// 2000 is all that a page learns of a refusal: it is no use to try again.
function retry(loss) {
  return loss.code !== 2000 && !(loss.error instanceof Refused) && ReconnectingSockJS.retry(loss);
}

class Service {
  constructor(id, url) {
    this.url = url;
    this.root = element(id);
    const find = (selector) => this.root.querySelector(selector);
    this.log = find("ol");
    this.input = find("input");
    this.toggle = find(".toggle");
    this.transport = find("code");
    this.toggle.onclick = () => (this.socket ? this.socket.close() : this.connect());
    find("form").onsubmit = (event) => this.submit(event);
  }

  connect() {
    const options = { timeout: 5000, transports: forced || TRANSPORTS, retry };
    const socket = new ReconnectingSockJS(this.url, null, options);
    this.socket = socket;
    this.toggle.textContent = "Leave";
    socket.onopen = () => this.show(true, socket.transport);
    socket.onmessage = (event) => this.say(event.data);
    socket.onreconnecting = (event) => {
      this.show(false);
      this.add("notice", `Lost: ${event.code} ${event.reason}`);
    };
    socket.onclose = (event) => {
      this.socket = null;
      this.toggle.textContent = "Connect";
      this.show(false);
      this.add("notice", `Closed: ${event.code} ${event.reason}`);
    };
  }

  show(isOpen, transport = "") {
    this.root.dataset.open = isOpen;
    this.transport.textContent = transport;
  }

  submit(event) {
    event.preventDefault();
    const text = this.input.value.trim();
    if (text && this.root.dataset.open === "true") {
      this.input.value = "";
      this.socket.send(text);
    }
  }

  say(text) {
    const bubble = document.createElement("div");
    bubble.className = "bubble text";
    bubble.textContent = text;
    this.add("message", bubble);
  }

  add(className, content) {
    const node = document.createElement("li");
    node.className = className;
    node.append(content);
    this.log.append(node);
    this.log.scrollTop = this.log.scrollHeight;
  }
}

new Service("account", accountUrl);
new Service("orders", ordersUrl);
fetch("/user").then((response) => response.text()).then(showUser);
