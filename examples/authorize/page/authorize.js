"use strict";

const element = (id) => document.getElementById(id);
// The others are off where origins are restricted.  ?transport=xhr-polling forces one.
const TRANSPORTS = ["websocket", "xhr-streaming", "eventsource", "xhr-polling"];
const forced = new URLSearchParams(location.search).get("transport");

// Who we are.

async function post(url, body) {
  const response = await fetch(url, { method: "POST", body });
  const text = await response.text();
  if (!response.ok) {
    throw new Error(text);
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

// The two services.  The cookie goes along by itself; the token is part of the URL.

const accountUrl = async () => "/account";
const ordersUrl = async () => `/orders?token=${encodeURIComponent(await post("/token"))}`;

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

  async connect() {
    let url;
    try {
      url = await this.url();
    } catch (error) {
      this.add("notice", `No token: ${error.message}`);
      return;
    }
    const socket = new SockJS(url, null, { timeout: 5000, transports: forced || TRANSPORTS });
    this.socket = socket;
    watch(socket);
    this.toggle.textContent = "Leave";
    socket.onopen = () => this.show(true, socket.transport);
    socket.onmessage = (event) => this.say(event.data);
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
